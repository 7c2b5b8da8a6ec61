"""One saga in full, from its folded state alone: no store, no graph, no saga code, so retired versions show too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.api.task_views import Viewer, view_of_activity
from orchestrator.api.times import instant, optional_instant
from orchestrator.api.views import ActivityView, SagaDetail, SagaView, StuckPlace, TaskView
from orchestrator.kernel.api import undo_plan
from orchestrator.kernel.graph import CallNode, Graph, StepNode, node_path
from orchestrator.kernel.operators import proposal_for
from orchestrator.kernel.state import Activity, State
from orchestrator.runtime.summary import waiting_for

_LIVE = ("requested", "backoff", "unknown", "open")


def detail_of(saga: SagaView, state: State, trace_id: str) -> SagaDetail:
    """The detail of a saga. The state may be newer than the summary: then all that it says is said by the state."""
    now = replace(saga, phase=state.phase, outcome=state.outcome, waiting_for=waiting_for(state), record=state.version)
    return SagaDetail(
        saga=replace(now, trace_id=trace_id, stuck=len(state.stuck)),
        state=state_in_words(state),
        start=state.start_data if isinstance(state.start_data, dict) else {},
        activities=tuple(_activity(name, found) for name, found in state.activities.items()),
        stuck_places=tuple(
            StuckPlace(place, stuck.version, stuck.reason, stuck.cause, _proposal(state, place))
            for place, stuck in state.stuck.items()
        ),
        handed_places=tuple(
            StuckPlace(
                f"~{name}",
                found.undo.taken_at,
                f"taken over by {found.undo.taken_by}",
                found.undo.status,
                _proposal(state, f"~{name}"),
            )
            for name, found in state.activities.items()
            if found.undo is not None and found.undo.status in ("taken", "handed")
        ),
        undo_plan=tuple(undo_plan(state)),
        pivot=state.pivot,
        failure=state.failure,
        result=state.result,
    )


def plan_of(saga: SagaView, state: State, graph: Graph | None) -> dict[str, Any]:
    """What a turn back would undo now, first to last. `graph` None: its code is not installed here."""
    return {
        "sagaId": saga.saga_id,
        "phase": state.phase,
        "pivot": state.pivot,
        "items": [{"activity": name, "command": _undo_command(name, graph)} for name in undo_plan(state)],
    }


def _undo_command(activity: str, graph: Graph | None) -> str:
    node = graph.nodes.get(node_path(activity)) if graph is not None else None
    if isinstance(node, StepNode):
        return f"{node.undo}: {node.undo_command} to {node.undo_participant}"
    if isinstance(node, CallNode):
        return f"undo of child saga {node.child}"
    return activity


def task_view(saga: SagaView, state: State, activity: str, viewer: Viewer | None = None) -> TaskView | None:
    """A task, open or closed; None where the saga has no such task."""
    found = state.activities.get(activity)
    return view_of_activity(saga, activity, found, viewer) if found is not None and found.task is not None else None


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
        due=optional_instant(found.due),
        undo=found.undo_status,
    )


def _proposal(state: State, place: str) -> dict[str, object] | None:
    """What one person proposed for a place and another must confirm: evidence, or an act with what was typed."""
    found, first = state.activities.get(place[1:]), proposal_for(state, place)
    if first is None and found is not None and found.proposal:
        first = {"act": "settle", "value": found.proposal.get("result"), **found.proposal}
    names = ("version", "by", "reason", "act", "outcome", "value")
    return {name: first[name] for name in names if name in first} if first is not None else None
