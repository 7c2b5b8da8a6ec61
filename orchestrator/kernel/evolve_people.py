"""evolve, continued: what operators do, and the evidence that they give."""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.evolve import folds, set_timer, settle
from orchestrator.kernel.evolve_back import unplan
from orchestrator.kernel.state import State, UndoState, in_body

Data = dict[str, Any]


@folds("operator.proposed")
def _act_proposed(state: State, activity: str, data: Data) -> None:
    """One person's act that counts when another person does the same."""
    state.proposed[data["place"]] = dict(data, version=state.version)


def _acted(state: State, place: str) -> None:
    """Somebody acted on a stuck place: its mark goes, and what others proposed for it."""
    state.stuck.pop(place, None)
    state.proposed.pop(place, None)


@folds("operator.retried")
def _retried(state: State, activity: str, data: Data) -> None:
    """The place may move again. Only the mark goes; what is asked anew follows in records of its own."""
    _acted(state, data["place"])
    sign = data["place"][0]
    if sign == "~":
        undo = state.touch(activity).undo
        assert undo is not None
        undo.status, undo.base = "", undo.attempt
        set_timer(state, state.touch(activity), 0)
        _back_into_plan(state, activity)
    if sign == "?":
        found = state.touch(activity)
        found.proposal, found.fence_base = None, found.fence_attempt


@folds("operator.completed_by_hand")
def _by_hand(state: State, activity: str, data: Data) -> None:
    _acted(state, data["place"])
    sign = data["place"][0]
    if data.get("found"):
        return
    if "function" in data:
        state.by_hand[f"{data['function']}@{activity}"] = data["value"]
    elif sign == "~":
        undo = state.touch(activity).undo
        assert undo is not None
        undo.status = "by_hand"
    else:
        found = settle(state, activity, "succeeded")
        found.result = data["result"]
        if found.pivot:
            state.pivot = "passed"


@folds("operator.skipped")
def _skipped(state: State, activity: str, data: Data) -> None:
    _acted(state, data["place"])
    undo = state.touch(activity).undo
    assert undo is not None
    undo.status = "skipped"


@folds("undo.taken_over")
def _taken_over(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    undo = found.undo
    assert undo is not None
    undo.status, undo.taken_by, undo.taken_at = "taken", data["by"], data.get("again", state.version)
    unplan(state, activity)
    set_timer(state, found, data.get("due"))


@folds("undo.handed")
def _handed(state: State, activity: str, data: Data) -> None:
    state.stuck.pop("~" + activity, None)
    found = state.touch(activity)
    assert found.undo is not None
    found.undo.status = "handed"
    found.proposal = None
    set_timer(state, found, 0)


@folds("undo.never_known")
def _never_known(state: State, activity: str, data: Data) -> None:
    """The participant cannot say what became of an undo that is being taken over: evidence comes next."""
    set_timer(state, state.touch(activity), 0)


@folds("operator.gave_back")
def _gave_back(state: State, activity: str, data: Data) -> None:
    _acted(state, data["place"])
    undo = state.touch(activity).undo = state.touch(activity).undo or UndoState()
    undo.status, undo.base, undo.taken_by = "", undo.attempt, ""
    undo.round += 1
    undo.command = None
    _back_into_plan(state, activity)


@folds("evidence.proposed")
def _proposed(state: State, activity: str, data: Data) -> None:
    state.touch(activity).proposal = dict(data, version=state.version)


@folds("operator.settled")
def _settled(state: State, activity: str, data: Data) -> None:
    found = settle(state, activity, "succeeded" if data["outcome"] == "done" else "refused")
    found.result = data.get("result")
    if data.get("owed"):
        found.fence, found.owed, found.fence_base = "owed", found.round, found.fence_attempt
    if found.pivot:
        state.pivot = "passed" if data["outcome"] == "done" else "none"


@folds("effect.found", "evidence.checked")
def _evidence(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    found.fence = ""
    if found.undo_status not in ("asked", "backoff", "taken"):
        set_timer(state, found, 0)
    if "gives" in data:  # what the flow waits for is done
        settle(state, activity, "succeeded").result = data["result"]
    if data.get("plans"):
        found.status, found.undoable = "succeeded", True
        found.result = data.get("result", found.result)
        found.undo = None
        found.settled = found.settled or state.version
        _back_into_plan(state, activity)


def _back_into_plan(state: State, activity: str) -> None:
    """An undo takes its turn again: by completion, last first, in the plan that it belongs to."""
    plans = [scope.plan for key, scope in state.scopes.items() if scope.mode == "undoing" and in_body(activity, key)]
    plan = plans[-1] if plans else state.plan
    if plan is None or activity in plan:
        return
    plan.append(activity)
    plan.sort(key=lambda key: -state.activities[key].settled)
