"""What a saga waits for, in a few words for lists: `task manager_approval`, `step hold_funds`, `undo charge_card`."""

from __future__ import annotations

from orchestrator.kernel.state import State

_LOOKED_AT_MAX = 64  # of the newest activities: a saga with thousands of items must not pay for its summary
_PENDING = {"requested": "", "backoff": "", "unknown": "", "open": ""}


def waiting_for(state: State) -> str:
    """The stuck place, the newest thing under way, or "" for a saga that has ended."""
    if state.stuck:
        return f"operator {next(iter(state.stuck))}"
    if state.ended:
        return ""
    activities = state.activities
    for count, name in enumerate(reversed(activities)):
        if count >= _LOOKED_AT_MAX:
            break
        found = activities[name]
        if found.undo is not None and found.undo.status in ("asked", "backoff"):
            return f"undo {name}"
        if found.fence in ("asked", "backoff"):
            return f"settling {name}"
        if found.status in _PENDING and found.kind != "scope":
            return f"{found.kind} {name}"
    return ""
