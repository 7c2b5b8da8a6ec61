"""Turning back: where a failure goes, and the way from compensation.started to saga.compensated.

Rules of this file
- A failure goes to the innermost open scope with `on_failed` around it, else to the saga (S5). Deadline, cancel and the
  parent's undo always go to the saga.
- Order: settle every unknown outcome, then plan, then one undo at a time, last completed first (rules 16-18). A stuck
  undo holds back only what lies before it on its own path.
- After the pivot nothing is undone: the place is stuck, and only forward is left (rule 16a).
Source: Garcia-Molina & Salem 1987, backward recovery; settle first is our own, found by simulation.
"""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.fences import fence, is_child, settle_unknown, undo_policy, withdrawn_inside
from orchestrator.kernel.graph import StepNode, node_path
from orchestrator.kernel.places import enclosing_scopes, enter_block, siblings_apart
from orchestrator.kernel.state import Activity, State, UndoState, in_body
from orchestrator.kernel.turn import MS, StuckError, Turn, backoff_ms


def fail(turn: Turn, activity: str, kind: str, reason: str, place: str = "") -> None:
    """A node failed and has no path of its own for it. `place`: what is stuck where only forward is left."""
    failure = {"step": activity, "kind": kind, "reason": reason}
    for scope in enclosing_scopes(turn.program.graph, activity):
        entry = turn.state.scopes.get(scope)
        if entry and entry.mode == "open" and "on_failed" in turn.node(scope).blocks:
            fail_scope(turn, scope, failure)
            return
    if turn.state.phase == "on_failed" or _past_return(turn):
        turn.stick(place or f"!{activity}", kind, reason)
        return
    fail_saga(turn, failure)


def fail_scope(turn: Turn, scope: str, failure: dict[str, str], **event: object) -> None:
    """The scope goes back: everything inside is closed and settled; its plan comes when all is known."""
    turn.emit(
        "scope.failing",
        scope,
        failure=failure,
        withdrawn=withdrawn_inside(turn, scope),
        then=enter_block(turn.program.graph, scope, "on_failed"),
        **event,
    )
    settle_unknown(turn, scope)


def fail_saga(turn: Turn, failure: dict[str, str], *, by_parent: bool = False) -> None:
    """The saga turns back, at once or when its pivot in flight is settled. The pivot is not passed (checked before)."""
    extra = {"by_parent": True} if by_parent else {}
    pivot = turn.state.activities.get(turn.state.pivot_at)
    if turn.state.pivot == "open" and pivot is not None and pivot.unsettled:
        turn.emit("saga.failing", failure=failure, **extra)
        if not pivot.fence:
            fence(turn, turn.state.pivot_at)
        return
    compensate(turn, failure, **extra)


def compensate(turn: Turn, failure: dict[str, str], **extra: bool) -> None:
    """compensation.started: control, timers and people are withdrawn, unknown outcomes are settled."""
    turn.emit("compensation.started", failure=failure, at=turn.now, withdrawn=withdrawn_inside(turn, ""), **extra)
    settle_unknown(turn, "")


def go_forward(turn: Turn) -> None:
    """The pivot is passed: what waited for it is refused; a parent that asked for undo is told at once (rule 16)."""
    failure = turn.state.pending
    if failure is None:
        return
    turn.emit("cancel.refused", failure=failure)
    if failure["kind"] == "parent":
        turn.emit("parent.answered", outcome="pivot_passed", reason="", result=None)


def _past_return(turn: Turn) -> bool:
    return turn.state.pivot == "passed" or turn.state.forward_only or turn.program.graph.forward_only


def past_return(turn: Turn) -> bool:
    """True where nothing can be undone any more."""
    return _past_return(turn)


def plan_of(state: State, prefix: str = "") -> list[str]:
    """What would be undone now, in order: done, undoable, not kept, not undone yet; last completed first (rule 17)."""
    keys = [key for key, found in state.inside(prefix) if plannable(found)]
    return sorted(keys, key=lambda key: -state.activities[key].settled)


def plannable(found: Activity) -> bool:
    """Done, undoable, not kept, and its way back has not begun."""
    return found.status == "succeeded" and found.undoable and not found.kept and found.undo_status in ("", "stuck")


def unsettled_inside(state: State, prefix: str, *, undoable_only: bool) -> bool:
    """Is an outcome inside still unknown? Steps without undo hold the end of the way back, not its plan (rule 17)."""
    return any(found.unsettled and (found.undoable or not undoable_only) for _, found in state.inside(prefix))


def in_flight(state: State, prefix: str) -> str:
    """The undo that is asked right now inside `prefix`, or ""."""
    return next((key for key in state.undoing if in_body(key, prefix)), "")


def drive_compensation(turn: Turn) -> bool:
    """The next record of the way back. False where something is waited for."""
    state = turn.state
    if state.plan is None:
        if unsettled_inside(state, "", undoable_only=True):
            return False
        turn.emit("undo.planned", plan=plan_of(state))
        return True
    if in_flight(state, ""):
        return False
    if state.plan:
        return undo_next(turn, state.plan, "")
    return _finish(turn)


def undo_next(turn: Turn, plan: list[str], prefix: str) -> bool:
    """Asks the first undo of the plan that no stuck one holds back (rule 18). False where all are held."""
    stuck = [key for key, found in turn.state.inside(prefix) if found.undo_status in ("stuck", "taken", "handed")]
    for activity in plan:
        if all(siblings_apart(turn.program.graph, activity, held) for held in stuck):
            request_undo(turn, activity)
            return True
    return False


def request_undo(turn: Turn, activity: str) -> None:
    """Sends the undo of a done activity: the author's command, or unwind for a child. A builder that raises sticks."""
    found = turn.state.activities[activity]
    undo = found.undo or UndoState()
    _, within_ms = undo_policy(turn, activity)
    due = turn.now + within_ms * MS
    data: dict[str, Any] = {"round": undo.round, "attempt": undo.attempt + 1, "due": due, "base": undo.base}
    if undo.command is None and not is_child(turn, activity):
        try:
            built = turn.call(activity, "undo")
            node = turn.node(activity)
            assert isinstance(node, StepNode)
            key = turn.key(activity, f"~{undo.round}")
            data["command"] = turn.message(activity, built, node.undo_participant, key)
        except StuckError as error:
            turn.emit("undo.failed", activity, attempt=undo.attempt, reason=error.reason)
            turn.stick(f"~{activity}", error.cause, error.reason, error)
            return
    turn.emit("undo.requested", activity, **data)


def undo_answered(turn: Turn, activity: str, outcome: str, attempt: int, reason: str, round_: int) -> None:
    """A participant answered an undo. Refused is definite for its round; an error counts against its attempt."""
    undo = turn.state.activities[activity].undo
    if undo is None or undo.status not in ("asked", "backoff") or round_ != undo.round:
        if outcome == "ok" and undo is not None and undo.status in ("stuck", "") and round_ == undo.round:
            turn.emit("undo.succeeded", activity, late=True)
        else:
            turn.emit("reply.late", activity, purpose="undo", outcome=outcome, reason=reason)
        return
    if outcome == "ok":
        turn.emit("undo.succeeded", activity)
    elif outcome == "refused":
        turn.emit("undo.failed", activity, attempt=attempt, reason=reason, refused=True)
        _undo_stuck(turn, activity, "refused", f"the undo was refused: {reason}")
    elif attempt == undo.attempt and undo.status == "asked":
        undo_attempt_failed(turn, activity, reason)


def undo_attempt_failed(turn: Turn, activity: str, reason: str) -> None:
    """An attempt of an undo brought nothing: again later, or stuck. It never becomes done by giving up (rule 19)."""
    undo = turn.state.activities[activity].undo
    assert undo is not None
    policy, _ = undo_policy(turn, activity)
    tries = undo.attempt - undo.base
    if policy.attempts and tries >= policy.attempts:
        turn.emit("undo.failed", activity, attempt=undo.attempt, reason=reason)
        _undo_stuck(turn, activity, "undo", f"the undo failed {tries} times: {reason}")
        return
    wait = backoff_ms(policy, tries, f"{turn.state.saga_id}:{activity}:undo:{undo.attempt}")
    turn.emit("undo.failed", activity, attempt=undo.attempt, reason=reason, due=turn.now + wait * MS)


def _undo_stuck(turn: Turn, activity: str, cause: str, reason: str) -> None:
    turn.stick(f"~{activity}", cause, reason)


def _finish(turn: Turn) -> bool:
    """Everything is undone, or waits for a person; on_failed and the end come when nothing is open."""
    state = turn.state
    for found in state.activities.values():
        if found.unsettled or found.undo_status in ("stuck", "taken", "handed", "asked", "backoff"):
            return False
    if state.stuck:
        return False
    first = turn.program.graph.on_failed
    if turn.program.graph.has_on_failed and first:
        turn.emit("compensation.finished", gives=[f"+{first}"])
        return True
    compensated(turn)
    return True


def compensated(turn: Turn) -> None:
    """The end of the way back; a parent hears now, not earlier (rule 22)."""
    failure = turn.state.failure or {}
    turn.emit("saga.compensated", outcome=failure.get("kind", "failed"), reason=failure.get("reason", ""))


def drive_scopes(turn: Turn) -> bool:
    """The next record of the first closing scope that is ready (S4, S12). False where none is."""
    for scope, entry in list(turn.state.scopes.items()):
        if entry.mode == "open" or _nested_closing(turn, scope):
            continue
        if entry.mode == "interrupted":
            if _settled_inside(turn, scope):
                turn.emit("scope.closed", scope, gives=_then(turn, scope, entry.then))
                return True
        elif entry.mode == "failing":
            if not unsettled_inside(turn.state, scope, undoable_only=True) and not in_flight(turn.state, scope):
                turn.emit("scope.undo_planned", scope, plan=plan_of(turn.state, scope))
                return True
        elif not in_flight(turn.state, scope):
            if entry.plan and undo_next(turn, entry.plan, scope):
                return True
            if not entry.plan and _settled_inside(turn, scope):
                turn.emit("scope.undone", scope, gives=_then(turn, scope, entry.then))
                return True
    return False


def _then(turn: Turn, scope: str, token: str) -> list[str]:
    """What goes on after a closing scope: nothing where an outer closing dropped it (S8)."""
    return [token] if token and turn.live(scope) else []


def _nested_closing(turn: Turn, scope: str) -> bool:
    return any(key != scope and in_body(key, scope) and s.mode != "open" for key, s in turn.state.scopes.items())


def _settled_inside(turn: Turn, scope: str) -> bool:
    """Nothing inside is being fenced or undone, and nothing inside is stuck on its way back (S4)."""
    for _, found in turn.state.inside(scope):
        if found.unsettled or found.undo_status in ("asked", "backoff", "stuck", "taken", "handed"):
            return False
    return True


def saga_node(turn: Turn, activity: str) -> str:
    """The author's name of an activity's node, for sentences."""
    return turn.program.graph.nodes[node_path(activity)].name
