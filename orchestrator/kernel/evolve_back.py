"""evolve, continued: scopes that close, and the way back."""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.evolve import close, folds, set_timer, settle
from orchestrator.kernel.state import Activity, ScopeState, State, UndoState

Data = dict[str, Any]


@folds("scope.entered")
def _scope_entered(state: State, activity: str, data: Data) -> None:
    found = state.add(activity, Activity("scope", "open", state.version))
    found.wants = data.get("wants", [])
    set_timer(state, found, data.get("due"))
    state.scopes[activity] = ScopeState("open", state.version)


@folds("scope.left")
def _scope_left(state: State, activity: str, data: Data) -> None:
    settle(state, activity, "left")
    del state.scopes[activity]


@folds("scope.interrupted")
def _interrupted(state: State, activity: str, data: Data) -> None:
    _turn_scope(state, activity, data, keep_inner=True)
    state.scopes[activity].mode = "interrupted"


@folds("scope.failing")
def _scope_failing(state: State, activity: str, data: Data) -> None:
    _turn_scope(state, activity, data, keep_inner=False)
    state.scopes[activity].mode = "failing"
    state.activities[activity].failure = data["failure"]


def _turn_scope(state: State, activity: str, data: Data, *, keep_inner: bool) -> None:
    found = settle(state, activity, "succeeded" if "event" in data else "expired")
    if "event" in data:
        found.result, found.result_type = data["event"], data["type"]
    close(state, activity, data["withdrawn"], keep_inner=keep_inner)
    state.scopes[activity].then = data["then"]


@folds("scope.undo_planned")
def _scope_planned(state: State, activity: str, data: Data) -> None:
    scope = state.scopes[activity]
    scope.mode, scope.plan = "undoing", list(data["plan"])


@folds("scope.closed")
def _scope_closed(state: State, activity: str, data: Data) -> None:
    del state.scopes[activity]


@folds("scope.undone")
def _scope_undone(state: State, activity: str, data: Data) -> None:
    """What was done inside counts as not done any more; computed values and what was kept stay (S6)."""
    del state.scopes[activity]
    for key in [key for key, found in state.inside(activity) if found.kind != "compute" and not found.kept]:
        state.touch(key).gone = True


@folds("compensation.started")
def _compensation_started(state: State, activity: str, data: Data) -> None:
    close(state, "", data["withdrawn"])
    state.phase = "compensating"
    state.failure, state.pending = data["failure"], None
    state.outcome = ""
    state.plan = None
    state.deadline = 0
    if data.get("by_parent"):
        state.unwound_by_parent = True


@folds("undo.planned")
def _planned(state: State, activity: str, data: Data) -> None:
    state.plan = list(data["plan"])


@folds("compensation.finished")
def _compensation_finished(state: State, activity: str, data: Data) -> None:
    state.phase = "on_failed"
    state.plan = []


def unplan(state: State, activity: str) -> None:
    """The activity stands in no plan any more: its undo is asked, done, or in somebody's hands."""
    if state.plan and activity in state.plan:
        state.plan.remove(activity)
    for scope in state.scopes.values():
        if activity in scope.plan:
            scope.plan.remove(activity)


@folds("undo.requested")
def _undo_requested(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    undo = found.undo = found.undo or UndoState()
    undo.status = "asked"
    state.undoing[activity] = None
    undo.round, undo.attempt = data["round"], data["attempt"]
    undo.base = data.get("base", undo.base)
    if "command" in data:
        undo.command = data["command"]
    unplan(state, activity)
    set_timer(state, found, data.get("due"))


@folds("undo.succeeded")
def _undone(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    undo = found.undo = found.undo or UndoState()
    undo.status = "done"
    found.proposal = None
    state.undoing.pop(activity, None)
    unplan(state, activity)
    set_timer(state, found, 0)
    state.stuck.pop("~" + activity, None)


@folds("undo.failed")
def _undo_failed(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    undo = found.undo = found.undo or UndoState()
    undo.status = "backoff" if data.get("due") else "stuck"
    if undo.status == "stuck":
        state.undoing.pop(activity, None)
    if data.get("refused"):
        undo.round += 1
        undo.command = None
    unplan(state, activity)
    set_timer(state, found, data.get("due"))
