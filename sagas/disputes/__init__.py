"""Disputes: complaints that a bank answers in time, with a rationale, or refers to the Ombudsman."""
