"""Bugs planted into the runtime on purpose: whole-runtime schedules must find every one of them."""
