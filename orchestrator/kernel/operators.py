"""Operators: acts on a named stuck place (rules 15, 19, 27).

Rules of this file
- An act names the version of the stuck record (or take-over) that it answers; another version is refused, as a vote
  on a changed subject is.
- `+`/`-` control: retry, or the function's value by hand. `!` step: retry, done by hand, not done (through the fence).
  `~` undo: retry, or take over; then skip, done by hand or give back. `?` unknown outcome: retry, or evidence of two.
- One person's word never settles an unknown outcome, and an undo handed over is fenced first, so that nobody does by
  hand what the participant does as well.
- Acts that `Limits.two_people` names are proposed by one person (`operator.proposed`) and done when another person does
  the same, naming the proposal's record. A proposal lasts as long as the stuck record (or take-over) that it is about.
"""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.children import call_again
from orchestrator.kernel.fences import fence, is_child, owe, undo_policy
from orchestrator.kernel.forks import branch
from orchestrator.kernel.graph import CallNode, StepNode, TaskNode, node_path
from orchestrator.kernel.inputs import Answer, Operate
from orchestrator.kernel.state import Activity, State
from orchestrator.kernel.steps import ask_again, request
from orchestrator.kernel.turn import MS, StuckError, Turn
from orchestrator.kernel.turning import fail, go_forward
from orchestrator.kernel.waiting import amend_again
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.contract import ContractError


def operated(turn: Turn, act: Operate) -> None:
    """One act of an operator: it counts, or it is refused with the reason."""
    if not act.reason:
        turn.refuse("invalid", "an operator's act needs a reason")
        return
    if act.place[:1] == "~" and act.act in ("skip", "done", "give_back"):
        _handed(turn, act)
        return
    stuck = turn.state.stuck.get(act.place)
    if stuck is None:
        places = ", ".join(turn.state.stuck) or "none"
        turn.refuse("not_stuck", f"{act.place} is not stuck; stuck places of this saga: {places}")
        return
    proposal = _proposal(turn, act)
    if act.version not in (stuck.version, proposal, _proposed_at(turn, act.place, stuck.version)):
        turn.refuse(
            "version_moved",
            f"{act.place} is stuck since record {stuck.version}, your act answers record {act.version}: look again",
            version=stuck.version,
        )
        return
    allowed = ACTS[act.place[0]]
    if act.act not in allowed:
        turn.refuse("invalid", f"{act.act} does not fit {act.place}: possible are {', '.join(allowed)}")
        return
    allowed[act.act](turn, act)


def _proposal(turn: Turn, act: Operate) -> int:
    found = turn.state.activities.get(act.place[1:])
    return found.proposal["version"] if found is not None and found.proposal else -1


def _by(act: Operate) -> dict[str, Any]:
    return {"place": act.place, "by": act.by, "reason": act.reason, "answers": act.version}


def proposed(state: State, place: str, about: int) -> dict[str, Any] | None:
    """What one person proposed for this place as it is stuck (or taken over) since record `about`, or None."""
    first = state.proposed.get(place)
    return first if first is not None and first["about"] == about else None


def proposal_for(state: State, place: str) -> dict[str, Any] | None:
    """What one person proposed for this place as it stands now, handed over or stuck; None where nobody did."""
    found, stuck = state.activities.get(place[1:]), state.stuck.get(place)
    if place[0] == "~" and found is not None and found.undo is not None and found.undo.status == "handed":
        return proposed(state, place, found.undo.taken_at)
    return proposed(state, place, stuck.version) if stuck is not None else None


def _proposed_at(turn: Turn, place: str, about: int) -> int:
    first = proposed(turn.state, place, about)
    return int(first["version"]) if first is not None else -1


def _agreed(turn: Turn, act: Operate, about: int, value: Any = None) -> dict[str, Any] | None:
    """Who stands behind a dangerous act, as its record has it; None where it is only proposed now, or refused."""
    if act.act not in turn.limits.two_people:
        return _by(act)
    first = proposed(turn.state, act.place, about)
    if first is None or first["act"] != act.act or not same(first["value"], value):
        turn.emit("operator.proposed", act.place[1:], act=act.act, value=value, about=about, **_by(act))
        return None
    if act.by == first["by"]:
        turn.refuse("second_person", f"{act.by} proposed this; another person must do the same")
        return None
    if act.version != first["version"]:
        turn.refuse("version_moved", f"this was proposed in record {first['version']}: look at it, then confirm it")
        return None
    return {**_by(act), "people": [first["by"], act.by]}


def same(one: Any, other: Any) -> bool:
    """Do two people say the same? As it would be written: true is not 1, although they compare as equal."""
    return canonical_bytes(one) == canonical_bytes(other)


def _retry_control(turn: Turn, act: Operate) -> None:
    turn.emit("operator.retried", act.place[1:], **_by(act))


def _value(turn: Turn, act: Operate) -> None:
    """What the function would have returned, typed by a person and validated by its codec."""
    stuck = turn.state.stuck[act.place]
    if not stuck.function:
        turn.refuse("invalid", f"{act.place} is not stuck in a function: retry it")
        return
    returns = turn.program.functions[stuck.function].returns
    value = act.data
    try:
        if returns:
            codec = turn.program.codecs[returns]
            value = codec.dump(codec.load(value))
        elif not isinstance(value, (bool, str, int)):  # a label, a key, a reason, a time limit in seconds
            raise ValueError("a text, a whole number, true or false is expected")
        elif stuck.function.endswith("#test"):
            branch(turn, stuck.activity, value)
    except (ContractError, TypeError, ValueError, StuckError) as error:
        turn.refuse("invalid", f"the value does not fit what {stuck.function} returns: {error}")
        return
    where = stuck.activity or act.place[1:]
    by = _agreed(turn, act, stuck.version, value)
    if by is None:
        return
    turn.emit("operator.completed_by_hand", where, function=stuck.function, value=value, **by)
    if act.place[0] == "!" and isinstance(turn.node(where), TaskNode):
        amend_again(turn, where)


def _retry_step(turn: Turn, act: Operate) -> None:
    """Asks again: the same round while its outcome is unknown, a new one after a definite no (rule 4)."""
    activity = act.place[1:]
    if turn.state.stuck[act.place].cause == "effect_found":
        turn.refuse("invalid", "an effect that was found is put right outside: record it as done")
        return
    turn.emit("operator.retried", activity, **_by(act))
    found = turn.state.activities.get(activity)
    if found is None:  # a message of the saga itself: there is nothing to ask again
        return
    node = turn.node(activity)
    if isinstance(node, CallNode):
        if found.command is not None and found.status in ("requested", "refused"):
            call_again(turn, activity, node)
    elif isinstance(node, TaskNode):
        amend_again(turn, activity)
    elif not isinstance(node, StepNode):
        return
    elif found.unsettled:
        ask_again(turn, activity, base=found.attempt)
    elif found.command is not None:
        round_ = found.round + 1
        old = found.command
        digest = str(old["key"]).rpartition(":")[2]
        command = dict(old, key=f"{turn.key(activity, f':{round_}')}:{digest}")
        earlier = [*found.earlier, str(old["key"])] if found.fence == "owed" else list(found.earlier)
        request(turn, activity, node, round_=round_, command=command, earlier=earlier)


def _step_done(turn: Turn, act: Operate) -> None:
    activity, stuck = act.place[1:], turn.state.stuck[act.place]
    if stuck.cause == "effect_found":
        by = _agreed(turn, act, stuck.version)
        if by is not None:
            turn.emit("operator.completed_by_hand", activity, found=True, **by)
        return
    if turn.state.activities[activity].kind not in ("step", "call") if activity else True:
        turn.refuse("invalid", f"{act.place} is no step: retry it")
        return
    result = _checked(turn, activity, act.data)
    by = _agreed(turn, act, stuck.version, result) if turn.refusal is None else None
    if by is None:
        return
    turn.emit("operator.completed_by_hand", activity, result=result, gives=turn.gives(activity, "then"), **by)
    if turn.state.activities[activity].pivot:
        go_forward(turn)


def _checked(turn: Turn, activity: str, data: Any) -> Any:
    """A reply typed by hand, validated against the contract; refuses what does not fit."""
    codec = turn.program.codecs[node_path(activity)]
    try:
        return codec.dump(codec.load(data if data is not None else {}))
    except (ContractError, TypeError, ValueError) as error:
        turn.refuse("invalid", f"the reply does not fit: {error}")
        return None


def _step_not_done(turn: Turn, act: Operate) -> None:
    """Never by word alone: the participant is asked to refuse the key for ever."""
    activity = act.place[1:]
    found = turn.state.activities.get(activity)
    if found is None or not found.unsettled:
        turn.refuse("invalid", f"{act.place} has a known outcome already")
        return
    if found.reads:
        turn.refuse("invalid", f"{act.place} only reads, there is nothing to settle: retry it")
        return
    turn.emit("operator.retried", activity, **_by(act))
    fence(turn, activity, after="exhausted")


def _retry_fence(turn: Turn, act: Operate) -> None:
    turn.emit("operator.retried", act.place[1:], **_by(act))
    fence(turn, act.place[1:])


def _settle(turn: Turn, act: Operate) -> None:
    """Evidence about an unknown outcome."""
    activity = act.place[1:]
    found = turn.state.activities[activity]
    result = _checked(turn, activity, act.data) if act.outcome == "done" else None
    first = _confirmed(turn, act, found, result) if turn.refusal is None else None
    if first is not None:
        _settle_by_two(turn, act, found, first, result)


def _confirmed(turn: Turn, act: Operate, found: Activity, result: Any) -> dict[str, Any] | None:
    """The first person's proposal, once another one says the same; None while it is only proposed, or refused."""
    if act.outcome not in ("done", "not_done"):
        turn.refuse("invalid", "say what the evidence shows: outcome done or not_done")
        return None
    first = found.proposal
    if first is None or first["outcome"] != act.outcome or not same(first.get("result"), result):
        turn.emit("evidence.proposed", act.place[1:], outcome=act.outcome, result=result, **_by(act))
        return None
    if first["by"] == act.by:
        turn.refuse("second_person", f"{act.by} proposed this evidence; another person must confirm it")
        return None
    if act.version != first["version"]:
        turn.refuse("version_moved", f"the evidence was proposed in record {first['version']}: look again")
        return None
    return first


def _settle_by_two(turn: Turn, act: Operate, found: Activity, first: dict[str, Any], result: Any) -> None:
    activity = act.place[1:]
    done = act.outcome == "done"
    live = turn.live(activity) and turn.state.pending is None
    exhausted = found.after == "exhausted"
    handled = live and exhausted and "on_exhausted" in turn.node(activity).blocks
    gives = turn.gives(activity, "then") if done else (turn.gives(activity, "on_exhausted") if handled else [])
    owed = turn.state.stuck[act.place].cause != "never"
    people = [first["by"], act.by]
    turn.emit(
        "operator.settled",
        activity,
        outcome=act.outcome,
        result=result,
        people=people,
        owed=owed,
        gives=gives,
        **_by(act),
    )
    if owed and not is_child(turn, activity):
        owe(turn, activity)
    if done and found.pivot:
        go_forward(turn)
    if not done and live and not handled:
        fail(turn, activity, "exhausted", "settled as not done, by evidence")


def _is_taken(turn: Turn, act: Operate) -> bool:
    """Refuses what does not fit an undo that somebody is taking over."""
    undo = turn.state.activities[act.place[1:]].undo
    if undo is None or undo.status != "taken":
        return False
    turn.refuse("invalid", f"{undo.taken_by} has taken {act.place} over, and its outcome can never be known: settle it")
    return True


def _retry_undo(turn: Turn, act: Operate) -> None:
    if not _is_taken(turn, act):
        turn.emit("operator.retried", act.place[1:], **_by(act))


def _settle_undo(turn: Turn, act: Operate) -> None:
    """Evidence about an undo that the participant can never know: done, or not done and handed to the person."""
    activity = act.place[1:]
    found = turn.state.activities[activity]
    if found.undo is None or found.undo.status != "taken":
        turn.refuse("invalid", f"take {act.place} over first: the participant may still know what became of it")
        return
    first = _confirmed(turn, act, found, None)
    if first is not None:
        type_ = "undo.succeeded" if act.outcome == "done" else "undo.handed"
        turn.emit(type_, activity, people=[first["by"], act.by], **_by(act))


def _take_over(turn: Turn, act: Operate) -> None:
    """The undo's own key and the key that it undoes are fenced; only on "not done" is it handed to the person."""
    activity = act.place[1:]
    undo = turn.state.activities[activity].undo
    assert undo is not None
    if _is_taken(turn, act):
        return
    if is_child(turn, activity):
        turn.refuse("invalid", "a child saga's undo is taken over in the child, at its own stuck place")
        return
    _, within_ms = undo_policy(turn, activity)
    turn.emit("undo.taken_over", activity, due=turn.now + within_ms * MS, **_by(act))
    if undo.command is None:
        turn.emit("undo.handed", activity)


def take_over_answered(turn: Turn, answer: Answer) -> None:
    """The participant's answer to the fence of a take-over."""
    activity = answer.activity
    found = turn.state.activities.get(activity)
    undo = found.undo if found is not None else None
    if found is None or undo is None or undo.status != "taken" or answer.round != undo.round:
        turn.refuse("late", "nobody is taking this undo over")
    elif answer.outcome == "ok":
        turn.emit("undo.succeeded", activity, late=True)
    elif answer.outcome in ("not_done", "refused"):
        turn.emit("undo.handed", activity)
    elif answer.outcome == "never":
        turn.emit("undo.never_known", activity, reason=answer.reason)
        text = answer.reason or "the participant can never know what became of this undo"
        turn.stick(f"~{activity}", "never", f"{text}; settle it by evidence of two people")
    else:
        turn.refuse("late_error", "the take-over is asked again when its timer is due")


def take_over_timer(turn: Turn, activity: str) -> None:
    """No answer to the fence of a take-over: asked again."""
    undo = turn.state.activities[activity].undo
    assert undo is not None
    _, within_ms = undo_policy(turn, activity)
    due = turn.now + within_ms * MS
    turn.emit("undo.taken_over", activity, due=due, by=undo.taken_by, place=f"~{activity}", again=undo.taken_at)


def _handed(turn: Turn, act: Operate) -> None:
    activity = act.place[1:]
    found = turn.state.activities.get(activity)
    undo = found.undo if found is not None else None
    if undo is None or undo.status != "handed":
        turn.refuse("invalid", f"take {act.place} over first: nobody may act by hand while the participant still may")
        return
    if act.version not in (undo.taken_at, _proposed_at(turn, act.place, undo.taken_at)):
        turn.refuse("version_moved", f"the take-over is record {undo.taken_at}: look again", version=undo.taken_at)
        return
    by = _agreed(turn, act, undo.taken_at)
    if by is None:
        return
    names = {"skip": "operator.skipped", "done": "operator.completed_by_hand", "give_back": "operator.gave_back"}
    turn.emit(names[act.act], activity, **by)


ACTS: dict[str, dict[str, Any]] = {
    "+": {"retry": _retry_control, "value": _value},
    "-": {"retry": _retry_control, "value": _value},
    "!": {"retry": _retry_step, "value": _value, "done": _step_done, "not_done": _step_not_done},
    "?": {"retry": _retry_fence, "settle": _settle},
    "~": {"retry": _retry_undo, "take_over": _take_over, "settle": _settle_undo},
}
