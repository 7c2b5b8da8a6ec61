"""What a saga does now, as lists and heads say it: a look for the pill, and words; never a bare "running"."""

from __future__ import annotations

from orchestrator.api.views import SagaView
from orchestrator.kernel.graph import node_path


def state_of(saga: SagaView) -> tuple[str, str]:
    """(kind of pill, words)."""
    kind, _, rest = saga.waiting_for.partition(" ")
    name = node_path(rest).rpartition("/")[2]
    if saga.stuck:
        place = node_path(rest[1:]).rpartition("/")[2] if kind == "operator" else ""
        where = "after" if rest.startswith("-") else "at"
        return "bad", f"stuck {where} {place}" if place else f"stuck at {saga.stuck} places"
    if saga.phase == "completed":
        return "good", "completed" if saga.outcome in ("", "completed") else f"completed: {saga.outcome}"
    if saga.phase == "compensated":
        return "idle", "undone" if saga.outcome in ("", "failed", "compensated") else f"undone: {saga.outcome}"
    if saga.phase == "tombstoned":
        return "idle", "never began"
    if saga.phase in ("compensating", "on_failed"):
        return "warn", f"undoing {name}" if kind == "undo" else "going back"
    words = {
        "task": f"waiting for a person: {name}", "wait": f"waiting for an event: {name}", "delay": f"pausing: {name}",
        "step": f"doing {name}", "call": f"waiting for another saga: {name}", "settling": f"settling {name}",
        "undo": f"undoing {name}",
    }  # fmt: skip
    return "info", words.get(kind) or "under way"


def place_words(waiting_for: str) -> str:
    """What `waiting_for` of a saga says, without loop numbers: for facets and tables of where sagas stand."""
    kind, _, rest = waiting_for.partition(" ")
    name = node_path(rest.lstrip("!?~+-")).rpartition("/")[2]
    return f"{'stuck' if kind == 'operator' else kind} {name}".strip() or "between two steps"
