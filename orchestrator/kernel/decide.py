"""decide: one input to records. Pure: no clock, no I/O, no randomness.

Rules of this file
- A turn: the input first; then, until nothing moves: a pending failure whose pivot is settled turns the saga back; the
  first closing scope that is ready goes on; the way back goes on; the first token that is not stuck moves (S12).
- A turn stops at a limit of records; a `resume` input is due then.
- decide works on a fork. The state it was given stays as it was.
"""

from __future__ import annotations

from orchestrator.kernel.children import call_timer, child_answered, undo_asked
from orchestrator.kernel.fences import is_child
from orchestrator.kernel.forward import move
from orchestrator.kernel.graph import Program
from orchestrator.kernel.inputs import (
    Answer,
    Arrived,
    Cancel,
    ChildAnswer,
    Input,
    Operate,
    Refusal,
    Resume,
    SendRefused,
    Start,
    SubjectErased,
    TaskAct,
    TimerDue,
    UndoAsked,
    Vote,
)
from orchestrator.kernel.operators import operated, take_over_answered, take_over_timer
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.kernel.steps import answered, step_timer
from orchestrator.kernel.task_acts import task_act
from orchestrator.kernel.tasks import task_timer, voted
from orchestrator.kernel.turn import MS, Limits, Turn
from orchestrator.kernel.turning import (
    compensate,
    compensated,
    drive_compensation,
    drive_scopes,
    fail_saga,
    past_return,
    request_undo,
    undo_attempt_failed,
)
from orchestrator.kernel.waiting import arrived, limit_reached
from orchestrator.messages.value import value


@value
class Decided:
    """What one input led to; `more` tells that the turn stopped at its limit."""

    records: list[Record]
    state: State
    refusal: Refusal | None
    more: bool


def decide(program: Program, state: State, given: Input, now: int, limits: Limits | None = None) -> Decided:
    """One turn on a fork of `state` (a new State() where nothing is written yet)."""
    turn = Turn(program, state.fork(), now, limits or Limits(), [])
    _take(turn, given)
    more = _run(turn)
    return Decided(turn.records, turn.state, turn.refusal, more)


def _take(turn: Turn, given: Input) -> None:
    fresh = turn.state.phase == "new"
    if isinstance(given, Start):
        _start(turn, given)
    elif isinstance(given, UndoAsked) and fresh:
        turn.refuse("not_found", "a tombstone needs the child's id: see `tombstone`")
    elif fresh:
        turn.refuse("not_found", "there is no such saga")
    elif isinstance(given, Answer):
        take_over_answered(turn, given) if given.purpose == "fence_undo" else answered(turn, given)
    elif isinstance(given, TimerDue):
        _timer(turn, given)
    elif isinstance(given, Arrived):
        arrived(turn, given)
    elif isinstance(given, Vote):
        voted(turn, given)
    elif isinstance(given, TaskAct):
        task_act(turn, given)
    elif isinstance(given, ChildAnswer):
        child_answered(turn, given)
    elif isinstance(given, UndoAsked):
        undo_asked(turn, given)
    elif isinstance(given, Cancel):
        _cancel(turn, given)
    elif isinstance(given, Operate):
        operated(turn, given)
    elif isinstance(given, SubjectErased):
        _subject_erased(turn, given)
    elif isinstance(given, SendRefused):
        _send_refused(turn, given)
    elif not isinstance(given, Resume):
        raise TypeError(f"unknown input {given!r}")


def _run(turn: Turn) -> bool:
    """Goes on until nothing moves. True where the limit of records stopped it."""
    while len(turn.records) < turn.limits.turn_records_max:
        if not _one(turn):
            return False
    return turn.state.fork() is not None and _could_move(turn)


def _could_move(turn: Turn) -> bool:
    probe = Turn(turn.program, turn.state.fork(), turn.now, turn.limits, [])
    return _one(probe)


def _one(turn: Turn) -> bool:
    state = turn.state
    if state.phase in ("new", "completed", "compensated", "tombstoned"):
        return False
    if state.pending is not None:
        pivot = state.activities.get(state.pivot_at)
        if state.pivot == "open" and pivot is not None and pivot.unsettled:
            return bool(state.scopes) and drive_scopes(turn)
        compensate(turn, state.pending)
        return True
    if state.scopes and drive_scopes(turn):
        return True
    if state.phase == "compensating":
        return drive_compensation(turn)
    for token in state.tokens:
        if token not in state.stuck:
            move(turn, token)
            return True
    if state.phase == "on_failed" and not state.tokens and not _busy(state):
        compensated(turn)
        return True
    return False


def _busy(state: State) -> bool:
    """Something of the on_failed path is still under way."""
    return bool(state.stuck) or any(f.unsettled or f.status == "open" for f in state.activities.values())


def _start(turn: Turn, given: Start) -> None:
    state, graph = turn.state, turn.program.graph
    if state.phase == "tombstoned":
        turn.refuse("tombstoned", "the parent has undone this child before it started: it never will")
        return
    if state.phase != "new":
        same = given.type == state.start_type and given.data == state.start_data
        if not same:
            turn.refuse("same_id_other_body", f"saga {given.saga_id} was started with another body")
        return
    deadline = turn.now + graph.within_ms * MS if graph.within_ms else 0
    parent = given.parent
    turn.emit(
        "saga.started",
        saga_id=given.saga_id,
        tenant=given.tenant,
        name=graph.name,
        version=graph.version,
        business_key=given.business_key,
        type=given.type,
        data=given.data,
        at=turn.now,
        deadline=deadline,
        forward_only=given.forward_only or graph.forward_only,
        state=graph.initial_state,
        parent={"saga_id": parent.saga_id, "activity": parent.activity, "round": parent.round} if parent else None,
        gives=[f"+{graph.first}"] if graph.first else [],
    )


def tombstone(program: Program, saga_id: str, tenant: str, business_key: str, given: UndoAsked, now: int) -> Decided:
    """An undo came before its child was started: a later start does nothing (rule 25)."""
    turn = Turn(program, State(), now, Limits(), [])
    parent = given.parent
    turn.emit(
        "saga.tombstoned",
        saga_id=saga_id,
        tenant=tenant,
        name=program.graph.name,
        version=program.graph.version,
        business_key=business_key,
        parent={"saga_id": parent.saga_id, "activity": parent.activity, "round": parent.round},
    )
    return Decided(turn.records, turn.state, None, False)


def _timer(turn: Turn, given: TimerDue) -> None:
    state = turn.state
    if not given.activity:
        _deadline(turn, given)
        return
    found = state.activities.get(given.activity)
    if found is None or not found.due or found.armed != given.armed:
        turn.refuse("stale", "the timer was withdrawn or set anew; it changes nothing")
    elif found.undo_status == "asked":
        undo_attempt_failed(turn, given.activity, "no answer in time")
    elif found.undo_status == "backoff":
        request_undo(turn, given.activity)
    elif found.undo_status == "taken":
        take_over_timer(turn, given.activity)
    elif is_child(turn, given.activity):
        call_timer(turn, given.activity)
    elif found.kind == "step":
        step_timer(turn, given.activity)
    elif found.kind == "task":
        task_timer(turn, given.activity)
    else:
        limit_reached(turn, given.activity)


def _deadline(turn: Turn, given: TimerDue) -> None:
    state = turn.state
    if not state.deadline or state.deadline_armed != given.armed:
        turn.refuse("stale", "the deadline was withdrawn")
    elif state.phase != "forward" or state.pending is not None or past_return(turn):
        turn.emit("saga.deadline_missed")
    else:
        fail_saga(turn, {"step": "", "kind": "deadline", "reason": "the saga took longer than its time limit"})


def _cancel(turn: Turn, given: Cancel) -> None:
    state = turn.state
    if state.ended:
        turn.refuse("ended", f"the saga has ended already ({state.outcome})")
    elif state.phase != "forward" or state.pending is not None:
        turn.refuse("already_turning", "the saga goes back already")
    elif past_return(turn):
        turn.emit("cancel.refused", by=given.by, reason=given.reason)
        turn.refuse("cancel_refused", "the point of no return is passed: the saga can only go forward")
    else:
        fail_saga(turn, {"step": "", "kind": "cancelled", "reason": f"cancelled by {given.by}: {given.reason}"})


def _subject_erased(turn: Turn, given: SubjectErased) -> None:
    """Noted in the stream, so that whoever reads it later knows why it holds what nobody can open; once
    for each request, whoever says it again.
    """
    if given.request in turn.state.erasures:
        return
    turn.emit(
        "subject.erased",
        request=given.request,
        key_ids=list(given.key_ids),
        reason=given.reason,
        by=given.asked_by,
        confirmed_by=given.confirmed_by,
        at=turn.now,
    )


def _send_refused(turn: Turn, given: SendRefused) -> None:
    """The broker refused a message for good: its place is stuck with the reason (rule 30)."""
    for key, found in turn.state.activities.items():
        now = found.armed == given.version
        if not now and found.opened != given.version:
            continue
        sign = "!"
        if now and found.undo_status in ("asked", "taken"):
            sign = "~"
            turn.emit("undo.failed", key, attempt=found.undo.attempt if found.undo else 0, reason=given.reason)
        elif now and found.fence == "asked":
            sign = "?"
            turn.emit("fence.failed", key, attempt=found.fence_attempt, reason=given.reason)
        elif not found.unsettled or found.fence:
            turn.refuse("late", "what the refused message asked for is settled, or being settled")
            return
        elif found.kind == "step":
            turn.emit("step.failed", key, attempt=found.attempt, reason=given.reason, unsent=True)
        turn.stick(f"{sign}{key}", "size", given.reason)
        return
    turn.stick("!", "size", given.reason)  # an event, an answer: no activity waits for it
