"""Bugs planted into the kernel on purpose: random schedules and the checker must find every one of them."""
