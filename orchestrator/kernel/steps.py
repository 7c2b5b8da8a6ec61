"""Steps: asking a participant, its answers, its silences, and giving up.

Rules of this file
- ok and refused are definite for the round, whatever attempt they answer, while the round is unsettled; an error is
  unknown, and counts only against the attempt it answers while that attempt waits (rule 8).
- A retry sends the stored command; the builder is not called again (rule 3). A new round begins only after a definite
  no and an operator's retry (rule 4).
- Giving up leaves the outcome unknown: a pivot and a step with on_exhausted are settled by a fence, any other fails the
  saga, which settles everything (rule 10).
"""

from __future__ import annotations

from orchestrator.kernel.fences import fence, fence_failed, fence_never, owe
from orchestrator.kernel.graph import RetryPolicy, StepNode
from orchestrator.kernel.inputs import Answer
from orchestrator.kernel.state import Activity
from orchestrator.kernel.turn import MS, Turn, backoff_ms
from orchestrator.kernel.turning import fail, go_forward, past_return, undo_answered

ALARM_ATTEMPTS = 10


def open_step(turn: Turn, token: str, activity: str, node: StepNode) -> None:
    """Builds the command and asks for the first time. Raises StuckError when the builder raises or it is too large."""
    command = turn.message(activity, turn.call(activity, "build"), node.participant, turn.key(activity, ":1"))
    request(turn, activity, node, round_=1, command=command, takes=token)


def request(
    turn: Turn, activity: str, node: StepNode, *, round_: int, command: dict[str, object], **data: object
) -> None:
    """The first attempt of a round."""
    turn.emit(
        "step.requested",
        activity,
        round=round_,
        attempt=1,
        command=command,
        due=turn.now + node.within_ms * MS,
        at=turn.now,
        undoable=node.undo is not None,
        pivot=node.pivot,
        reads=node.reads,
        **data,
    )


def ask_again(turn: Turn, activity: str, base: int | None = None) -> None:
    """The next attempt of the same round: same key, same bytes. `base`: the policy starts afresh there."""
    found = turn.state.activities[activity]
    node = turn.node(activity)
    assert isinstance(node, StepNode)
    due = turn.now + node.within_ms * MS
    extra = {} if base is None else {"base": base}
    turn.emit("step.requested", activity, round=found.round, attempt=found.attempt + 1, due=due, **extra)


def answered(turn: Turn, answer: Answer) -> None:
    """A participant answered: a do, an undo or a fence."""
    activity = answer.activity
    found = turn.state.activities.get(activity)
    if found is None or found.kind != "step":
        turn.refuse("not_found", f"saga {turn.state.saga_id} has no step {activity}: the reply answers nothing")
        return
    if answer.purpose == "undo":
        undo_answered(turn, activity, answer.outcome, answer.attempt, answer.reason, answer.round)
    elif not found.unsettled or answer.round != found.round:
        _late(turn, found, answer)
    elif answer.outcome in ("ok", "refused", "not_done"):
        _definite(turn, found, answer)
    elif answer.purpose == "fence":
        _fence_answered(turn, found, answer)
    elif answer.outcome == "never" and not found.reads:
        if found.fence != "stuck":  # asking again cannot help, nor can a fence: people must say what happened
            fence_never(turn, activity, answer.reason)
    elif found.status == "requested" and not found.fence and answer.attempt == found.attempt:
        attempt_failed(turn, activity, "step.failed", answer.reason)
    else:
        turn.refuse("late_error", "an error of an attempt that is over changes nothing")


def _late(turn: Turn, found: Activity, answer: Answer) -> None:
    """A definite answer that nothing waits for is recorded; one that contradicts the outcome raises an alarm."""
    owed = found.fence == "owed" and answer.round == found.round
    if owed and answer.outcome == "never":
        turn.emit("evidence.checked", answer.activity, outcome="never")  # the evidence is final
        return
    if answer.outcome not in ("ok", "refused", "not_done") or found.reads:
        turn.refuse("late", "an answer without outcome that nothing waits for")
        return
    if owed:
        _owed_answered(turn, found, answer)
        return
    done = answer.outcome == "ok"
    contradicts = answer.round == found.round and found.status in ("succeeded", "refused")
    contradicts = contradicts and done != (found.status == "succeeded")
    turn.emit(
        "reply.contradicted" if contradicts else "reply.late",
        answer.activity,
        purpose=answer.purpose,
        outcome=answer.outcome,
        round=answer.round,
        reason=answer.reason,
        data=answer.data,
    )


def _owed_answered(turn: Turn, found: Activity, answer: Answer) -> None:
    """The participant answers a key that people had settled by evidence (rule 15): agree, or an effect was found."""
    done = answer.outcome == "ok"
    compensating = turn.state.phase == "compensating"
    goes = found.undo_status in ("done", "by_hand") or (compensating and found.undoable and not found.kept)
    agrees = done == (found.status == "succeeded") or (not done and goes)
    if agrees:
        turn.emit("evidence.checked", answer.activity, outcome=answer.outcome)
        return
    mark = turn.state.stuck.get(f"!{answer.activity}")
    if done and mark is not None and mark.cause != "effect_found":
        # Control waits here for somebody to make it happen, and it has happened: the flow goes on.
        gives = turn.gives(answer.activity, "then")
        turn.emit("effect.found", answer.activity, round=answer.round, outcome="ok", result=answer.data, gives=gives)
        return
    plans = done and compensating and found.undoable
    turn.emit(
        "effect.found", answer.activity, round=answer.round, outcome=answer.outcome, result=answer.data, plans=plans
    )
    if not plans:
        work = "an undo" if done else "a redo"
        text = f"evidence said {found.status}, the participant says {answer.outcome}: {work} by hand is needed"
        turn.stick(f"!{answer.activity}", "effect_found", text)


def _definite(turn: Turn, found: Activity, answer: Answer) -> None:
    activity = answer.activity
    live = turn.live(activity)
    if answer.outcome == "ok":
        extra = {"under": answer.done_key} if answer.done_key else {}
        turn.emit("step.succeeded", activity, result=answer.data, gives=turn.gives(activity, "then"), **extra)
        if found.pivot:
            go_forward(turn)
        return
    not_done = answer.outcome == "not_done"
    exhausted = found.after == "exhausted" and not_done  # a participant's no is a business no, however late it is
    block = "on_exhausted" if exhausted else "on_refused"
    handled = live and turn.state.pending is None and block in turn.node(activity).blocks
    kind = "exhausted" if exhausted else "refused"
    gives = turn.gives(activity, block) if handled else []
    reason = answer.reason or (
        f"gave up after {found.attempt} attempts; settled as not done" if not_done else "refused"
    )
    turn.emit("step.refused", activity, reason=reason, not_done=not_done, gives=gives)
    if live and not handled and turn.state.pending is None:
        fail(turn, activity, kind, reason)


def _fence_answered(turn: Turn, found: Activity, answer: Answer) -> None:
    if found.fence not in ("asked", "backoff") or answer.attempt != found.fence_attempt:
        turn.refuse("late", "an answer to a fence that is over, without an outcome, changes nothing")
    elif answer.outcome == "never" and not found.reads:
        fence_never(turn, answer.activity, answer.reason)
    else:
        until = answer.until if answer.outcome == "in_doubt" else 0
        fence_failed(turn, answer.activity, answer.reason or "in doubt", until)


def attempt_failed(turn: Turn, activity: str, record: str, reason: str) -> None:
    """One attempt brought nothing definite: back off, or give up when the policy says so."""
    found = turn.state.activities[activity]
    node = turn.node(activity)
    assert isinstance(node, StepNode)
    tries = found.attempt - found.base
    patient = past_return(turn) and "on_exhausted" not in node.blocks
    policy = node.retry
    if not patient and policy.attempts and tries >= policy.attempts:
        turn.emit(record, activity, attempt=found.attempt, reason=reason, gave_up=True)
        _give_up(turn, activity, node, reason)
        return
    wait = backoff_ms(policy if policy.attempts != 1 else RetryPolicy(), tries, _seed(turn, activity, found.attempt))
    alarm = {"alarm": True} if tries >= ALARM_ATTEMPTS else {}
    turn.emit(record, activity, attempt=found.attempt, reason=reason, due=turn.now + wait * MS, **alarm)


def _seed(turn: Turn, activity: str, attempt: int) -> str:
    return f"{turn.state.saga_id}:{activity}:{attempt}"


def _give_up(turn: Turn, activity: str, node: StepNode, reason: str) -> None:
    if node.reads:
        gives = turn.gives(activity, "on_exhausted") if "on_exhausted" in node.blocks else []
        turn.emit("step.refused", activity, reason=reason, exhausted=True, gives=gives)
        if not gives and turn.live(activity):
            fail(turn, activity, "exhausted", reason)
    elif node.pivot or "on_exhausted" in node.blocks:
        fence(turn, activity, after="exhausted")
    else:
        fail(turn, activity, "exhausted", reason)


def step_timer(turn: Turn, activity: str) -> None:
    """The one timer of a step came due: of a fence, of an undo, of a backoff, or of an attempt that got no answer."""
    found = turn.state.activities[activity]
    if found.fence == "owed":
        owe(turn, activity)
    elif found.fence == "asked":
        fence_failed(turn, activity, "no answer in time")
    elif found.fence == "backoff":
        fence(turn, activity)
    elif found.status == "backoff":
        ask_again(turn, activity)
    elif found.status == "requested":
        attempt_failed(turn, activity, "step.timed_out", "no answer in time")
