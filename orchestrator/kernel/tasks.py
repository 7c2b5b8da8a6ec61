"""Tasks: a decision asked of a person (rule 24).

Rules of this file
- A vote carries the hash of what was shown; a changed subject voids it. A vote at or after the due time finds the task
  expired, whether or not its timer has fired.
- Excluded, repeated, late and ineligible voters are refused without a record.
- Escalation fires level by level, each once, in order, also when several are overdue after downtime.
- Closing (decided, expired, withdrawn) is one record; anything after it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.kernel.inject import instant
from orchestrator.kernel.inputs import Vote
from orchestrator.kernel.state import Activity, TaskState
from orchestrator.kernel.turn import MS, StuckError, Turn, subject_hash
from orchestrator.kernel.turning import fail
from orchestrator.messages.canonical import instant_text
from orchestrator.messages.contract import ContractError
from orchestrator.messages.words import Person, Role


def open_task(turn: Turn, token: str, activity: str, node: TaskNode) -> None:
    """Builds what is shown, who may decide and who may not, and opens the task."""
    shown = turn.call_plain(activity, "shown")
    expires = turn.due(activity, node.within) or turn.now
    levels = [{"at": turn.now + level.after_ms * MS, "to": level.to} for level in node.escalate]
    to = (
        people(turn.call(activity, "to"))
        if isinstance(node.to, dict) and "function" in node.to
        else list(node.to or [])
    )
    excluded = [turn.call(activity, f"exclude{i}") for i in range(len(node.exclude))]
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
        excluded=[person["person"] for value in excluded for person in people(value) if "person" in person],
        outcomes=list(node.outcomes),
        rejects=list(node.rejects),
        votes_needed=node.votes,
        expires=expires,
        levels=levels,
        due=min([expires, *(level["at"] for level in levels)]),
        at=turn.now,
        help=node.help,
        form=node.form,
        form_schema=node.form_schema,
        wants=wants,
    )


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
    found = turn.state.activities.get(vote.activity)
    if found is None or found.kind != "task" or found.task is None:
        turn.refuse("not_found", f"saga {turn.state.saga_id} has no task {vote.activity}")
        return
    if found.status != "open":
        _refuse_closed(turn, found)
        return
    if vote.received_at >= found.task.expires:
        expire(turn, vote.activity)
        turn.refuse("expired", f"the task expired at {_text(found.task.expires)}", expired_at=_text(found.task.expires))
        return
    if not _may_vote(turn, vote, found.task):
        return
    _count(turn, vote, found.task)


def _refuse_closed(turn: Turn, found: Activity) -> None:
    if found.status == "succeeded":
        by, at = found.result["by"]["id"], found.result["at"]
        outcome = found.result["answer"]["outcome"]
        turn.refuse("already_decided", f"{by} decided {outcome} at {at}", by=by, at=at, outcome=outcome)
    elif found.status == "expired":
        turn.refuse("expired", "the task has expired")
    else:
        turn.refuse("withdrawn", "the task was withdrawn: nothing is to be decided any more")


def _may_vote(turn: Turn, vote: Vote, task: TaskState) -> bool:
    node = turn.node(vote.activity)
    assert isinstance(node, TaskNode)
    if not vote.subject_hash:
        turn.refuse("subject_missing", "a decision must carry subjectHash, the hash of what was shown")
    elif vote.subject_hash != task.hash:
        turn.refuse(
            "subject_changed",
            "what you decided on has changed since you saw it: read it again",
            seen=vote.subject_hash,
            now=task.hash,
        )
    elif vote.by in task.excluded or vote.by in _earlier_voters(turn, node):
        turn.refuse("excluded", f"{vote.by} may not decide this task: four eyes are needed", by=vote.by)
    elif vote.on_behalf_of and vote.on_behalf_of in task.excluded:
        turn.refuse(
            "excluded", f"{vote.on_behalf_of} may not decide this task, nor anybody for them", by=vote.on_behalf_of
        )
    elif not _eligible(vote, task.to):
        may = ", ".join(entry.get("role") or entry.get("person", "") for entry in task.to)
        turn.refuse("not_eligible", f"{vote.by} is not among those who may decide this task: {may}", may=may)
    elif any(earlier["by"] == vote.by for earlier in task.votes):
        turn.refuse("voted_already", f"{vote.by} has voted on this task already", by=vote.by)
    return turn.refusal is None


def _earlier_voters(turn: Turn, node: TaskNode) -> set[str]:
    voters: set[str] = set()
    for key, found in turn.state.activities.items():
        if found.task is not None and node_path(key) in node.exclude_tasks:
            voters.update(earlier["by"] for earlier in found.task.votes)
    return voters


def _eligible(vote: Vote, to: list[dict[str, str]]) -> bool:
    names = {vote.by, vote.on_behalf_of} - {""}
    return any(entry.get("person") in names or entry.get("role") in vote.roles for entry in to)


def _count(turn: Turn, vote: Vote, task: TaskState) -> None:
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
        "on_behalf_of": vote.on_behalf_of,
        "roles": list(vote.roles),
        "authentication": vote.authentication,
        "received_at": vote.received_at,
        "answer": vote.answer,
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
        "on_behalf_of": {"id": vote.on_behalf_of} if vote.on_behalf_of else None,
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
    """Escalates every level that is due, in order; then expires when that is due too."""
    while True:
        found = turn.state.activities[activity]
        task = found.task
        if task is None or found.status != "open":
            return
        if task.levels and task.levels[0]["at"] <= turn.now and task.levels[0]["at"] < task.expires:
            level, rest = task.levels[0], task.levels[1:]
            due = min([task.expires, *(later["at"] for later in rest)])
            turn.emit("task.escalated", activity, level=task.level + 1, to=level["to"], due=due, was_due=level["at"])
        elif task.expires <= turn.now:
            expire(turn, activity)
            return
        else:
            return


def expire(turn: Turn, activity: str) -> None:
    """Nobody decided in time."""
    node = turn.node(activity)
    handled = "on_timeout" in node.blocks
    turn.emit("task.expired", activity, at=turn.now, gives=turn.gives(activity, "on_timeout") if handled else [])
    if not handled and turn.live(activity):
        fail(turn, activity, "expired", f"nobody decided {node.name} in time")


def _text(at: int) -> str:
    return instant_text(instant(at))
