"""Children: sagas that a saga calls (rule 25).

Rules of this file
- A child is a saga of its own, with an id derived from (parent, activity, round), so starting twice is starting once.
- Undo of a child that does not exist yet leaves a tombstone; of a running one fails it; of a completed one runs its own
  plan, unless it passed a pivot; of a compensated one answers again.
- Answers carry (activity, round); those of an earlier round are ignored.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from orchestrator.kernel.fences import fence
from orchestrator.kernel.graph import CallNode
from orchestrator.kernel.inputs import ChildAnswer, UndoAsked
from orchestrator.kernel.turn import Turn
from orchestrator.kernel.turning import fail, fail_saga, go_forward, past_return, undo_answered

NAMESPACE = UUID("6f7e3c0a-5a0b-5d4e-9c56-3f7f0f2f9a11")


def saga_id(tenant: str, name: str, business_key: str, run: str = "") -> str:
    """The id of a saga: uuid5 of tenant, name and business key; `run` for a definition with rerun=True."""
    return str(uuid5(NAMESPACE, "\x1f".join((tenant, name, business_key, run))))


def child_id(tenant: str, parent: str, activity: str, round_: int) -> str:
    """The id of a child saga (rule 7)."""
    return str(uuid5(NAMESPACE, "\x1f".join((tenant, parent, activity, str(round_)))))


def open_call(turn: Turn, token: str, activity: str, node: CallNode, round_: int = 1) -> None:
    """Starts the child."""
    start = turn.call(activity, "build")
    child = child_id(turn.state.tenant, turn.state.saga_id, activity, round_)
    command = turn.message(activity, start, "", turn.key(activity, f":{round_}"))
    command.update(saga_id=child, saga=node.child, saga_version=node.child_version, business_key=start.key())
    turn.emit(
        "child.requested",
        activity,
        takes=token,
        round=round_,
        command=command,
        due=turn.due(activity, node.within),
        at=turn.now,
        undoable=not node.pivot,
        pivot=node.pivot,
        reply=node.reply,
    )


def call_again(turn: Turn, activity: str, node: CallNode) -> None:
    """An operator's retry: the same start while the outcome is unknown, another child after a definite no (rule 4)."""
    found = turn.state.activities[activity]
    assert found.command is not None
    round_ = found.round if found.unsettled else found.round + 1
    child = child_id(turn.state.tenant, turn.state.saga_id, activity, round_)
    turn.emit(
        "child.requested",
        activity,
        round=round_,
        command=dict(found.command, saga_id=child),
        due=turn.due(activity, node.within),
        at=turn.now,
        undoable=found.undoable,
        pivot=node.pivot,
        reply=node.reply,
    )


def call_timer(turn: Turn, activity: str) -> None:
    """The child took too long: it is asked to undo itself; what follows comes when it has answered."""
    found = turn.state.activities[activity]
    if found.fence or found.unsettled:
        fence(turn, activity, after="expired" if not found.fence else "")


def child_answered(turn: Turn, answer: ChildAnswer) -> None:
    """The child tells how it ended, or what became of its undo."""
    activity = answer.activity
    found = turn.state.activities.get(activity)
    if found is None or found.kind != "call" or answer.round != found.round:
        turn.refuse("late", f"saga {turn.state.saga_id} has no call {activity} of round {answer.round}")
        return
    if not found.unsettled:
        _undo_of_child(turn, answer)
    elif answer.outcome == "completed":
        _completed(turn, answer)
    elif answer.outcome == "pivot_passed":
        _cannot_undo(turn, answer)
    else:
        _did_not(turn, answer)


def _undo_of_child(turn: Turn, answer: ChildAnswer) -> None:
    undo = turn.state.activities[answer.activity].undo
    if undo is not None and undo.status in ("asked", "backoff"):
        outcome = "ok" if answer.outcome in ("undone", "failed") else "refused"
        if answer.outcome in ("undone", "failed", "pivot_passed"):
            undo_answered(turn, answer.activity, outcome, undo.attempt, answer.reason or answer.outcome, undo.round)
            return
    turn.emit("reply.late", answer.activity, purpose="child", outcome=answer.outcome, round=answer.round)


def _completed(turn: Turn, answer: ChildAnswer) -> None:
    found = turn.state.activities[answer.activity]
    if found.fence and not found.pivot:  # a child with a pivot has passed it, whatever else is on its way
        # Our request to undo stands and will be answered definitely; "it cannot be undone" may come without a result.
        turn.emit("child.completed_early", answer.activity, result=answer.data, round=answer.round)
        return
    _succeeded(turn, answer.activity, answer.data)


def _succeeded(turn: Turn, activity: str, result: Any) -> None:
    turn.emit("child.completed", activity, result=result, gives=turn.gives(activity, "then"))
    if turn.state.activities[activity].pivot:
        go_forward(turn)


def _cannot_undo(turn: Turn, answer: ChildAnswer) -> None:
    """The child has passed its pivot while we asked it to undo: it completes, and we go forward with it (rule 16a)."""
    early = turn.state.activities[answer.activity].early
    turn.emit("cancel.refused", answer.activity, failure=turn.state.pending)
    if answer.reason == "completed":
        _succeeded(turn, answer.activity, answer.data)
    elif early is not None:
        _succeeded(turn, answer.activity, early["result"])


def _did_not(turn: Turn, answer: ChildAnswer) -> None:
    activity = answer.activity
    found = turn.state.activities[activity]
    live = turn.live(activity) and turn.state.pending is None
    expired = found.after == "expired"
    block = "on_timeout" if expired else "on_refused"
    handled = live and block in turn.node(activity).blocks
    reason = answer.reason or ("the child took too long" if expired else answer.outcome)
    gives = turn.gives(activity, block) if handled else []
    turn.emit("child.failed", activity, reason=reason, outcome=answer.outcome, gives=gives)
    if live and not handled:
        fail(turn, activity, "expired" if expired else "refused", reason)


def undo_asked(turn: Turn, given: UndoAsked) -> None:
    """The parent asks this saga to undo itself."""
    state = turn.state
    if state.phase in ("compensated", "tombstoned"):
        turn.emit("parent.answered", outcome="undone")
    elif state.phase in ("compensating", "on_failed") or state.pending is not None:
        turn.refuse("already_turning", "the saga goes back already; its parent hears when it is through")
    elif past_return(turn):
        ended = "completed" if state.phase == "completed" else ""
        turn.emit("parent.answered", outcome="pivot_passed", reason=ended, result=state.result)
    else:
        failure = {"step": "", "kind": "parent", "reason": f"undone by parent {given.parent.saga_id}"}
        fail_saga(turn, failure, by_parent=True)
