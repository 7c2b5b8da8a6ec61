"""evolve: one record into a state. Generic, without graph, user code or clock.

Rules of this file
- Every record type has one function here; an unknown type or a token that is not there raises FoldError, because then
  the stream is not what the kernel wrote.
- `takes` and `gives` are handled before and after the record's own change, so control flow has one place.
- Closing a scope, a loop or the saga is one fold (S2): everything inside goes, and what the record lists as withdrawn
  is withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.kernel.inputs import Parent
from orchestrator.kernel.records import FoldError, Record
from orchestrator.kernel.state import Activity, Join, State, Stuck, in_body

Data = dict[str, Any]
Fold = Callable[[State, str, Data], None]

FOLDS: dict[str, Fold] = {}


def folds(*types: str) -> Callable[[Fold], Fold]:
    """Registers the function that folds these record types."""

    def register(function: Fold) -> Fold:
        for type_ in types:
            FOLDS[type_] = function
        return function

    return register


def evolve(state: State, record: Record) -> None:
    """Folds one record into the state, in place (callers fork). Raises FoldError for a record that cannot follow."""
    state.version += 1
    data = record.data
    takes = data.get("takes")
    if takes is not None:
        if takes not in state.tokens:
            raise FoldError(f"{record.type} at version {state.version} takes token {takes}, which is not there")
        del state.tokens[takes]
    fold = FOLDS.get(record.type)
    if fold is None:
        raise FoldError(f"unknown record type {record.type} at version {state.version}")
    try:
        fold(state, record.activity, data)
    except KeyError as error:
        raise FoldError(f"{record.type} at version {state.version}: {error} is not there") from error
    for token in data.get("gives", ()):
        state.tokens[token] = None


def set_timer(state: State, found: Activity, due: int | None) -> None:
    """An activity has at most one timer; this record arms it anew, or takes it away (due 0 or None)."""
    found.due = due or 0
    found.armed = state.version if due else 0


def settle(state: State, activity: str, status: str) -> Activity:
    """The activity is over with this status; its timer and its stuck marks go."""
    found = state.touch(activity)
    found.status = status
    found.settled = state.version
    found.after = ""
    if found.fence != "owed":
        found.fence = ""
    found.wants = []
    found.proposal = None
    set_timer(state, found, 0)
    for mark in ("!", "?"):
        state.stuck.pop(mark + activity, None)
    return found


def close(state: State, prefix: str, withdrawn: list[str], *, keep_inner: bool = False, undone: bool = True) -> None:
    """Everything inside `prefix` ("" = all) goes: tokens, joins, loops, stuck places, nested scopes, timers (S2).

    Undos in flight keep their timers: they are waited for, with their own retries. `keep_inner` (an interruption):
    inner scopes that are already going back finish first, and their continuation is dropped (S8). `undone`: what is
    inside will be taken back (not at a good end, nor by an interruption).
    """
    kept = [
        k for k, s in state.scopes.items() if keep_inner and s.mode != "open" and k != prefix and in_body(k, prefix)
    ]

    def goes(key: str) -> bool:
        return in_body(key, prefix) and not any(in_body(key, scope) for scope in kept)

    state.tokens = {t: None for t in state.tokens if not goes(t[1:])}
    state.joins = {key: j for key, j in state.joins.items() if not goes(key)}
    undone = undone and not keep_inner
    state.stuck = {p: s for p, s in state.stuck.items() if not goes(p[1:]) or _lasts(state, p, s, undone=undone)}
    for key in [key for key in state.activities if goes(key)]:
        _withdraw_ways(state, key)
    for key in [key for key in state.scopes if in_body(key, prefix)]:
        if state.scopes[key].mode == "open" or not keep_inner:
            del state.scopes[key]
        else:
            state.scopes[key].then = ""
    for key in withdrawn:
        settle(state, key, "withdrawn")


def _lasts(state: State, place: str, mark: Stuck, *, undone: bool) -> bool:
    """A stuck place that no closing takes away: a message that was never sent, an undo that somebody is taking over
    (rule 19), an effect that was found. `undone`: what is inside will be taken back, so a redo of it is no work.
    """
    found = state.activities.get(place[1:])
    if found is None or place[0] == "~":
        return place == "!" or (found is not None and found.undo_status == "taken")
    will_be_undone = undone and found.status == "succeeded" and found.undoable and not found.kept
    return mark.cause == "effect_found" and not will_be_undone


def _withdraw_ways(state: State, activity: str) -> None:
    """What a closing takes from one activity inside: timers, continuations of fences, stuck marks of its way back."""
    found = state.activities[activity]
    if found.due and found.undo_status not in ("asked", "backoff", "taken") and found.fence != "owed":
        set_timer(state, state.touch(activity), 0)
    if found.undo_status == "stuck":
        undo = state.touch(activity).undo  # asked again in its turn, and the policy starts afresh
        assert undo is not None
        undo.status, undo.base = "", undo.attempt
    if found.fence or found.after:
        found = state.touch(activity)
        found.fence, found.after = ("owed" if found.fence == "owed" else ""), ""


@folds("saga.started")
def _started(state: State, activity: str, data: Data) -> None:
    state.phase = "forward"
    state.saga_id, state.tenant = data["saga_id"], data["tenant"]
    state.name, state.definition_version = data["name"], data["version"]
    state.business_key = data["business_key"]
    state.start_type, state.start_data = data["type"], data["data"]
    state.started_at = data["at"]
    state.forward_only = data.get("forward_only", False)
    state.entered = data.get("state", "")
    if data.get("deadline"):
        state.deadline, state.deadline_armed = data["deadline"], state.version
    if data.get("parent"):
        state.parent = Parent(**data["parent"])


@folds("saga.tombstoned")
def _tombstoned(state: State, activity: str, data: Data) -> None:
    state.phase = "tombstoned"
    state.saga_id, state.tenant, state.name = data["saga_id"], data["tenant"], data["name"]
    state.definition_version, state.business_key = data["version"], data["business_key"]
    state.parent = Parent(**data["parent"])
    state.outcome = "tombstoned"


@folds("saga.completed")
def _completed(state: State, activity: str, data: Data) -> None:
    close(state, "", data.get("withdrawn", []), undone=False)
    state.phase = "completed"
    state.outcome = data["outcome"]
    state.result, state.result_type = data.get("result"), data.get("result_type", "")
    state.deadline = 0


@folds("saga.compensated")
def _compensated(state: State, activity: str, data: Data) -> None:
    state.phase = "compensated"
    state.tokens = {}
    state.outcome = data["outcome"]
    state.deadline = 0


@folds("saga.failing")
def _failing(state: State, activity: str, data: Data) -> None:
    state.pending = data["failure"]
    if data["failure"]["kind"] == "deadline":
        state.deadline = 0
    if data.get("by_parent"):
        state.unwound_by_parent = True


@folds("cancel.refused")
def _cancel_refused(state: State, activity: str, data: Data) -> None:
    state.pending = None
    if activity:  # a child that cannot be undone any more: it is waited for again
        found = state.touch(activity)
        found.fence, found.after, found.status = "", "", "requested"
        set_timer(state, found, 0)
        if found.pivot:
            state.pivot = "passed"


@folds("saga.deadline_missed")
def _deadline_missed(state: State, activity: str, data: Data) -> None:
    state.deadline = 0


@folds("parent.answered", "reply.late", "reply.contradicted")
def _noted(state: State, activity: str, data: Data) -> None:
    """Recorded; changes nothing."""


@folds("subject.erased")
def _subject_erased(state: State, activity: str, data: Data) -> None:
    state.erasures = (*state.erasures, data["request"])


@folds("saga.stuck")
def _stuck(state: State, activity: str, data: Data) -> None:
    state.stuck[data["place"]] = Stuck(
        state.version, data["reason"], data["cause"], data.get("function", ""), data.get("at", "")
    )


@folds("step.requested")
def _step_requested(state: State, activity: str, data: Data) -> None:
    found = state.activities.get(activity)
    if "command" in data:  # a new round: the first, or one after a definite no
        earlier = data.get("earlier", [])
        found = state.add(activity, Activity("step", "requested", state.version, round=data["round"], earlier=earlier))
        found.command = data["command"]
        found.undoable, found.pivot = data.get("undoable", False), data.get("pivot", False)
        found.reads = data.get("reads", False)
        found.requested_at = data["at"]
        if found.pivot:
            state.pivot, state.pivot_at = "open", activity
    else:
        found = state.touch(activity)
        found.status = "requested"
    found.attempt = data["attempt"]
    found.base = data.get("base", found.base)
    set_timer(state, found, data.get("due"))


@folds("step.succeeded", "child.completed")
def _succeeded(state: State, activity: str, data: Data) -> None:
    found = settle(state, activity, "succeeded")
    found.result, found.result_type = data.get("result"), data.get("result_type", "")
    if "under" in data and found.command is not None:  # really done by an earlier round: its undo names that key
        found.command = dict(found.command, key=data["under"])
    if found.pivot and state.pivot_at == activity:
        state.pivot = "passed"


@folds("child.completed_early")
def _completed_early(state: State, activity: str, data: Data) -> None:
    state.touch(activity).early = {"result": data.get("result")}


@folds("step.refused", "child.failed")
def _refused(state: State, activity: str, data: Data) -> None:
    found = settle(state, activity, "refused")
    if found.pivot and state.pivot_at == activity:
        state.pivot = "none"


@folds("step.failed", "step.timed_out")
def _attempt_failed(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    found.status = "backoff" if data.get("due") else "unknown"
    set_timer(state, found, data.get("due"))


@folds("fence.requested")
def _fence_requested(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    found.status, found.fence = "unknown", "asked"
    found.fence_attempt = data["attempt"]
    found.fence_base = data.get("base", found.fence_base)
    found.after = data.get("after", found.after)
    found.proposal = None
    state.stuck.pop(f"!{activity}", None)  # it is being settled: nobody asks for it again
    set_timer(state, found, data.get("due"))


@folds("fence.owed")
def _fence_owed(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    found.fence_attempt = data["attempt"]
    set_timer(state, found, data.get("due"))


@folds("fence.failed")
def _fence_failed(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    found.fence = "backoff" if data.get("due") else "stuck"
    if data.get("never"):
        state.stuck.pop(f"!{activity}", None)  # asking again cannot help: only evidence settles it now
    set_timer(state, found, data.get("due"))


@folds("child.requested")
def _child_requested(state: State, activity: str, data: Data) -> None:
    found = state.add(activity, Activity("call", "requested", state.version, round=data["round"]))
    found.command = data["command"]
    found.undoable, found.pivot = data.get("undoable", False), data.get("pivot", False)
    found.requested_at = data["at"]
    set_timer(state, found, data.get("due"))
    if found.pivot:
        state.pivot, state.pivot_at = "open", activity


@folds("value.computed")
def _computed(state: State, activity: str, data: Data) -> None:
    found = state.add(activity, Activity("compute", "succeeded", state.version))
    found.settled = state.version
    found.result = data["value"]


@folds("branch.taken", "event.published", "scope.kept")
def _passed(state: State, activity: str, data: Data) -> None:
    for key in data.get("kept", ()):
        state.touch(key).kept = True


@folds("state.entered")
def _entered(state: State, activity: str, data: Data) -> None:
    state.entered = data["state"]


@folds("timer.set")
def _timer_set(state: State, activity: str, data: Data) -> None:
    set_timer(state, state.add(activity, Activity("delay", "open", state.version)), data["due"])


@folds("timer.fired")
def _timer_fired(state: State, activity: str, data: Data) -> None:
    settle(state, activity, "succeeded")


@folds("event.awaited")
def _awaited(state: State, activity: str, data: Data) -> None:
    found = state.add(activity, Activity("wait", "open", state.version))
    found.wants = data["wants"]
    set_timer(state, found, data.get("due"))


@folds("event.received")
def _received(state: State, activity: str, data: Data) -> None:
    found = settle(state, activity, "succeeded")
    found.result, found.result_type = data["event"], data["type"]


@folds("event.expired")
def _expired(state: State, activity: str, data: Data) -> None:
    settle(state, activity, "expired")


@folds("loop.opened", "parallel.opened")
def _opened(state: State, activity: str, data: Data) -> None:
    state.add(activity, Activity(data["kind"], "open", state.version, round=0))
    if "items" in data:
        state.items[activity] = data["items"]
    if "total" in data:
        state.joins[activity] = Join(data["total"], data["started"], 0)
    elif data["kind"] == "for_each":  # no items: it is over at once
        settle(state, activity, "left")


@folds("parallel.advanced")
def _advanced(state: State, activity: str, data: Data) -> None:
    join = state.joins[activity]
    join.done += 1
    join.started += data.get("started", 0)
    if join.done > join.total or join.started - join.done < 0:
        raise FoldError(f"parallel.advanced {activity}: {join.done} of {join.total} done, {join.started} started")
    if join.done == join.total:
        del state.joins[activity]
        settle(state, activity, "left")


@folds("loop.iterated")
def _iterated(state: State, activity: str, data: Data) -> None:
    state.touch(activity).round = data["round"]


@folds("loop.left")
def _left_loop(state: State, activity: str, data: Data) -> None:
    for key in data.get("withdrawn", []):
        state.scopes.pop(key, None)
        settle(state, key, "left")
    settle(state, activity, "left")
