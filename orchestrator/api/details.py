"""One saga in full, from its folded state alone: no store, no graph, no saga code, so retired versions show too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.api.views import ActivityView, SagaDetail, SagaView, StuckPlace
from orchestrator.kernel.api import undo_plan
from orchestrator.kernel.state import Activity, State

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIVE = ("requested", "backoff", "unknown", "open")


def instant(us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def detail_of(saga: SagaView, state: State) -> SagaDetail:
    """The detail of a saga whose summary and state are of the same record."""
    return SagaDetail(
        saga=saga,
        state=state_in_words(state),
        start=state.start_data if isinstance(state.start_data, dict) else {},
        activities=tuple(_activity(name, found) for name, found in state.activities.items()),
        stuck_places=tuple(
            StuckPlace(place, stuck.version, stuck.reason, stuck.cause, _proposal(state, place))
            for place, stuck in state.stuck.items()
        ),
        handed_places=tuple(
            StuckPlace(f"~{name}", found.undo.taken_at, f"taken over by {found.undo.taken_by}", found.undo.status)
            for name, found in state.activities.items()
            if found.undo is not None and found.undo.status in ("taken", "handed")
        ),
        undo_plan=tuple(undo_plan(state)),
        pivot=state.pivot,
        failure=state.failure,
        result=state.result,
    )


def state_in_words(state: State) -> str:
    """What the saga does now, in a few words, never a bare "running"."""
    if state.stuck:
        place, stuck = next(iter(state.stuck.items()))
        return f"stuck at {place}: {stuck.reason}"
    if state.phase == "completed":
        return "completed" if state.outcome in ("", "completed") else f"completed: {state.outcome}"
    if state.phase == "compensated":
        reason = (state.failure or {}).get("reason", "")
        return f"compensated: {reason}" if reason else "compensated"
    if state.phase == "compensating":
        left = len(state.plan) if state.plan is not None else 0
        return f"undoing, {left} left" if state.plan is not None else "settling what is unknown before undoing"
    waits = [_waits(name, found) for name, found in state.activities.items() if found.status in _LIVE]
    return "; ".join(text for text in waits if text) or state.phase


def _waits(name: str, found: Activity) -> str:
    due = f", due {instant(found.due).isoformat(timespec='seconds')}" if found.due else ""
    if found.kind == "task":
        votes = len(found.task.votes) if found.task else 0
        needed = found.task.votes_needed if found.task else 1
        return f"waiting for {name}, {votes} of {needed} votes{due}"
    if found.status == "backoff":
        return f"retrying {name}, attempt {found.attempt} failed{due}"
    if found.status == "unknown" or found.fence:
        return f"settling {name}"
    return f"waiting for {name}{due}" if found.kind in ("step", "call", "wait", "delay") else ""


def _activity(name: str, found: Activity) -> ActivityView:
    return ActivityView(
        activity=name,
        kind=found.kind,
        status=found.status,
        attempt=found.attempt,
        round=found.round,
        opened=found.opened,
        settled=found.settled,
        due=instant(found.due) if found.due else None,
        undo=found.undo_status,
    )


def _proposal(state: State, place: str) -> dict[str, object] | None:
    found = state.activities.get(place[1:])
    if found is None or not found.proposal:
        return None
    return {name: found.proposal[name] for name in ("version", "by", "outcome") if name in found.proposal}
