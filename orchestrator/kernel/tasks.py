"""Tasks: a decision asked of a person (rule 24).

Rules of this file
- A vote carries the hash of what was shown; a changed subject voids it. A vote at or after the due time finds the task
  expired, whether or not its timer has fired.
- Excluded, repeated, late and ineligible voters are refused without a record: `voices.py` says who may.
- What time does to an open task (levels, reminders) is in `ladder.py`; what else people do with it in `task_acts.py`.
- Closing (decided, expired, withdrawn) is one record; anything after it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.kernel.chains import chain_of, is_excluded
from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.kernel.inject import instant
from orchestrator.kernel.inputs import Vote
from orchestrator.kernel.ladder import climb, extended, levels_of, reminders_of
from orchestrator.kernel.state import Activity, TaskState
from orchestrator.kernel.turn import MS, StuckError, Turn, subject_hash
from orchestrator.kernel.turning import fail
from orchestrator.kernel.voices import Voice, earlier_voters, evidence, speaks
from orchestrator.messages.canonical import instant_text
from orchestrator.messages.contract import ContractError
from orchestrator.messages.words import Money, Person, Role


def open_task(turn: Turn, token: str, activity: str, node: TaskNode) -> None:
    """Builds what is shown, who may decide and who may not, and opens the task."""
    shown = turn.call_plain(activity, "shown")
    expires = turn.due(activity, node.within) or turn.now
    levels = levels_of(turn, activity, node)
    reminders = reminders_of(turn, activity, node)
    to = (
        people(turn.call(activity, "to"))
        if isinstance(node.to, dict) and "function" in node.to
        else list(node.to or [])
    )
    wants = []
    if node.amend_on:
        age = turn.program.graph.early_age_ms * MS
        wants = [{"type": node.amend_on, "key": turn.state.business_key, "from": max(turn.now - age, turn.now)}]
    turn.emit(
        "task.opened",
        activity,
        takes=token,
        shown=shown,
        shown_type=node.shown_type,
        hash=subject_hash(shown),
        to=to,
        excluded=excluded(turn, activity, node),
        outcomes=list(node.outcomes),
        rejects=list(node.rejects),
        votes_needed=node.votes,
        expires=expires,
        levels=levels,
        due=min([expires, *(level["at"] for level in levels), *reminders]),
        at=turn.now,
        help=node.help,
        form=node.form,
        form_schema=node.form_schema,
        wants=wants,
        **_more(turn, activity, node, shown, reminders),
    )


def _more(turn: Turn, activity: str, node: TaskNode, shown: Any, reminders: list[int]) -> dict[str, Any]:
    """What only some tasks have: it costs the records of others nothing."""
    found = {
        "earlier": sorted(earlier_voters(turn, node)),
        "reminders": reminders,
        "amount": measured(turn, activity, shown),
        "limits": list(node.limits),
        "chain": chain_of(turn.program.graph, node)
        if node.exclude_tasks or is_excluded(turn.program.graph, node)
        else [],
        "catch_up": "" if node.catch_up == "each" else node.catch_up,
    }
    return {name: value for name, value in found.items() if value}


def excluded(turn: Turn, activity: str, node: TaskNode) -> list[str]:
    """The persons whom the functions of `exclude=` name."""
    excluded = [turn.call(activity, f"exclude{i}") for i in range(len(node.exclude))]
    return [person["person"] for value in excluded for person in people(value) if "person" in person]


def measured(turn: Turn, activity: str, shown: Any) -> dict[str, str] | None:
    """The amount that limits are held against: read out of what is shown, so that nobody approves another one."""
    path = node_path(activity)
    function = turn.program.functions.get(f"{path}#amount")
    if function is None:
        return None
    try:
        money = function.call(turn.program.codecs[turn.program.functions[f"{path}#shown"].returns].load(shown))
    except Exception as error:
        raise StuckError("function", f"{function.name} raised {type(error).__name__}: {error}") from error
    if not isinstance(money, Money):
        raise StuckError("function", f"{function.name} gives {money!r}: Money was expected")
    return {"amount": f"{money.amount:f}", "currency": money.currency}


def amendments(turn: Turn, activity: str, shown: Any) -> dict[str, Any]:
    """What else changes with what is shown: its amount, and who is excluded by it beside those who were."""
    node, task = turn.node(activity), turn.state.activities[activity].task
    assert isinstance(node, TaskNode)
    assert task is not None
    found: dict[str, Any] = {}
    named = [name for name in excluded(turn, activity, node) if name not in task.excluded]
    if named:
        found["excluded"] = [*task.excluded, *named]
    amount = measured(turn, activity, shown)
    if amount != task.amount:
        found["amount"] = amount
    return found


def people(value: Any) -> list[dict[str, str]]:
    """The stored form of what a function gives: a Person, a Role, or several of them. Raises StuckError otherwise."""
    if value is None:
        return []
    if isinstance(value, Person):
        return [{"person": value.id}]
    if isinstance(value, Role):
        return [{"role": value.name}]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [entry for item in value for entry in people(item)]
    raise StuckError("function", f"a Person, a Role or several of them was expected, got {value!r}")


def voted(turn: Turn, vote: Vote) -> None:
    """One person decides. Either it counts (and perhaps closes the task), or it is refused with the rule's name."""
    found = open_one(turn, vote.activity)
    if found is None:
        return
    assert found.task is not None
    if vote.received_at >= found.task.expires and not extended(turn, vote.activity, vote.received_at):
        expire(turn, vote.activity)
        turn.refuse("expired", f"the task expired at {_text(found.task.expires)}", expired_at=_text(found.task.expires))
        return
    task = turn.state.activities[vote.activity].task
    assert task is not None
    voice = _may_vote(turn, vote, task)
    if voice is not None:
        _count(turn, vote, task, voice)


def open_one(turn: Turn, activity: str) -> Activity | None:
    """The open task of this name; None where there is none, and then the input is refused."""
    found = turn.state.activities.get(activity)
    if found is None or found.kind != "task" or found.task is None:
        turn.refuse("not_found", f"saga {turn.state.saga_id} has no task {activity}")
        return None
    if found.status != "open":
        _refuse_closed(turn, found)
        return None
    return found


def _refuse_closed(turn: Turn, found: Activity) -> None:
    if found.status == "succeeded":
        by, at = found.result["by"]["id"], found.result["at"]
        outcome = found.result["answer"]["outcome"]
        turn.refuse("already_decided", f"{by} decided {outcome} at {at}", by=by, at=at, outcome=outcome)
    elif found.status == "expired":
        turn.refuse("expired", "the task has expired")
    else:
        turn.refuse("withdrawn", "the task was withdrawn: nothing is to be decided any more")


def _may_vote(turn: Turn, vote: Vote, task: TaskState) -> Voice | None:
    node = turn.node(vote.activity)
    assert isinstance(node, TaskNode)
    if not vote.subject_hash:
        turn.refuse("subject_missing", "a decision must carry subjectHash, the hash of what was shown")
        return None
    if vote.subject_hash != task.hash:
        turn.refuse(
            "subject_changed",
            "what you decided on has changed since you saw it: read it again",
            seen=vote.subject_hash,
            now=task.hash,
        )
        return None
    return speaks(turn, vote, task, node)


def _count(turn: Turn, vote: Vote, task: TaskState, voice: Voice) -> None:
    outcome = vote.answer.get("outcome") if isinstance(vote.answer, dict) else None
    if outcome not in task.outcomes:
        turn.refuse("invalid", f"outcome {outcome!r} is none of {', '.join(task.outcomes)}")
        return
    cast = {
        "by": vote.by,
        "at": turn.now,
        "outcome": outcome,
        "hash": vote.subject_hash,
        "reason": vote.reason,
        "on_behalf_of": voice.behalf,
        "roles": list(vote.roles),
        "authentication": vote.authentication,
        "received_at": vote.received_at,
        "answer": vote.answer,
        "round": task.round,
        **evidence(voice, task),
    }
    agreeing = sum(earlier["outcome"] == outcome for earlier in task.votes) + 1
    decides = outcome in task.rejects or agreeing >= task.votes_needed
    decision = _decision(vote, [*task.votes, cast])
    try:
        turn.program.codecs[node_path(vote.activity)].load(decision)
    except (ContractError, ValueError) as error:
        turn.refuse("invalid", f"the form does not fit: {error}")
        return
    turn.emit("task.voted", vote.activity, vote=cast)
    if decides:
        _decide(turn, vote, outcome, decision)


def _decision(vote: Vote, votes: list[dict[str, Any]]) -> dict[str, Any]:
    """The recorded form of a Decision, as its codec reads it."""
    return {
        "answer": vote.answer,
        "by": {"id": vote.by},
        "at": instant_text(instant(votes[-1]["at"])),
        "on_behalf_of": {"id": votes[-1]["on_behalf_of"]} if votes[-1]["on_behalf_of"] else None,
        "votes": [
            {
                "by": {"id": cast["by"]},
                "at": instant_text(instant(cast["at"])),
                "outcome": cast["outcome"],
                "subject_hash": cast["hash"],
                "reason": cast["reason"],
                "on_behalf_of": {"id": cast["on_behalf_of"]} if cast["on_behalf_of"] else None,
            }
            for cast in votes
        ],
    }


def _decide(turn: Turn, vote: Vote, outcome: str, decision: dict[str, Any]) -> None:
    activity, node = vote.activity, turn.node(vote.activity)
    assert isinstance(node, TaskNode)
    handled = f"on/{outcome}" in node.blocks or "otherwise" in node.blocks
    rejected = outcome in node.rejects and not handled
    gives = [] if rejected else turn.gives(activity, f"on/{outcome}", "otherwise", "then")
    turn.emit("task.decided", activity, decision=decision, outcome=outcome, gives=gives)
    if rejected and turn.live(activity):
        fail(turn, activity, "refused", f"rejected by {vote.by}" + (f": {vote.reason}" if vote.reason else ""))


def task_timer(turn: Turn, activity: str) -> None:
    """Escalates and reminds what is due, in order; then expires when that is due too."""
    climb(turn, activity)
    found = turn.state.activities[activity]
    if found.task is not None and found.status == "open" and found.task.expires <= turn.now:
        expire(turn, activity)


def expire(turn: Turn, activity: str) -> None:
    """Nobody decided in time."""
    node = turn.node(activity)
    handled = "on_timeout" in node.blocks
    turn.emit("task.expired", activity, at=turn.now, gives=turn.gives(activity, "on_timeout") if handled else [])
    if not handled and turn.live(activity):
        fail(turn, activity, "expired", f"nobody decided {node.name} in time")


def _text(at: int) -> str:
    return instant_text(instant(at))
