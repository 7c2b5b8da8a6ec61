"""Payments that two people approve, at least."""
