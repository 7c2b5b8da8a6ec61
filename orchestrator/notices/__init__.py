"""Notices: people are told what waits for them, by mail, webhook or an event. A notice decides nothing."""
