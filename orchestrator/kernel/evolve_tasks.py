"""evolve, continued: tasks, and what people do with them.

Rules of this file
- Records of earlier releases fold too: a field that they lack has its default here.
"""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.evolve import folds, set_timer, settle
from orchestrator.kernel.state import Activity, State, TaskState

Data = dict[str, Any]


@folds("task.opened")
def _task_opened(state: State, activity: str, data: Data) -> None:
    found = state.add(activity, Activity("task", "open", state.version))
    found.wants = data.get("wants", [])
    found.task = TaskState(
        shown=data["shown"],
        shown_type=data["shown_type"],
        hash=data["hash"],
        round=1,
        to=list(data["to"]),
        excluded=data["excluded"],
        outcomes=data["outcomes"],
        rejects=data["rejects"],
        votes_needed=data["votes_needed"],
        expires=data["expires"],
        levels=list(data["levels"]),
        opened_at=data["at"],
        help=data.get("help", ""),
        form=data.get("form", ""),
        form_schema=data.get("form_schema"),
        earlier=data.get("earlier", []),
        reminders=data.get("reminders", []),
        amount=data.get("amount"),
        limits=data.get("limits", []),
        chain=data.get("chain", []),
        catch_up=data.get("catch_up", "each"),
    )
    set_timer(state, found, data["due"])


@folds("task.voted")
def _voted(state: State, activity: str, data: Data) -> None:
    task = state.touch(activity).task
    assert task is not None
    task.votes.append(data["vote"])
    if task.claim is not None and task.claim["by"] == data["vote"]["by"]:
        task.claim = None


@folds("task.decided")
def _decided(state: State, activity: str, data: Data) -> None:
    found = settle(state, activity, "succeeded")
    found.result = data["decision"]


@folds("task.expired")
def _task_expired(state: State, activity: str, data: Data) -> None:
    settle(state, activity, "expired")


@folds("task.escalated")
def _escalated(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    task = found.task
    assert task is not None
    task.level = data["level"]
    task.to = task.to + data["to"]
    task.levels = task.levels[1 + len(data.get("missed", ())) :]
    task.expires = data.get("expires", task.expires)
    happened = {"level": data["level"], "at": data.get("at", data.get("was_due", 0)), "to": data["to"]}
    task.escalated = [*task.escalated, happened]
    set_timer(state, found, data["due"])


@folds("task.reminded")
def _reminded(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    task = found.task
    assert task is not None
    task.reminders = task.reminders[1 + data.get("missed", 0) :]
    task.reminded = [*task.reminded, data["at"]]
    set_timer(state, found, data["due"])


@folds("task.amended")
def _amended(state: State, activity: str, data: Data) -> None:
    task = state.touch(activity).task
    assert task is not None
    task.shown, task.hash = data["shown"], data["hash"]
    task.round += 1
    task.void, task.votes = task.void + task.votes, []
    task.excluded = data.get("excluded", task.excluded)
    task.amount = data.get("amount", task.amount)
    task.amended_at = data.get("at", 0)
    state.stuck.pop(f"!{activity}", None)
    found = state.touch(activity)
    found.result, found.result_type = data["event"], data["type"]


@folds("task.amend_failed")
def _amend_failed(state: State, activity: str, data: Data) -> None:
    found = state.touch(activity)
    assert found.task is not None
    found.task.void = found.task.void + found.task.votes
    found.task.hash, found.task.votes = "", []
    found.result, found.result_type = data["event"], data["type"]


@folds("task.claimed")
def _claimed(state: State, activity: str, data: Data) -> None:
    _task(state, activity).claim = {"by": data["by"], "at": data["at"]}


@folds("task.released")
def _released(state: State, activity: str, data: Data) -> None:
    _task(state, activity).claim = None


@folds("task.delegated")
def _delegated(state: State, activity: str, data: Data) -> None:
    """One substitute of one person at a time; nobody where `to` is empty."""
    task = _task(state, activity)
    others = [known for known in task.delegations if known["by"] != data["by"]]
    task.delegations = [*others, data] if data["to"] else others


@folds("task.reassigned")
def _reassigned(state: State, activity: str, data: Data) -> None:
    task = _task(state, activity)
    task.to, task.claim = list(data["to"]), None
    task.steered = [*task.steered, data["by"]]


@folds("task.commented")
def _commented(state: State, activity: str, data: Data) -> None:
    task = _task(state, activity)
    said = {"text": data["text"], "at": data["at"]}
    if not data["replaces"]:
        task.comments = [*task.comments, {"id": state.version, "by": data["by"], **said, "edits": []}]
        return
    task.comments = [
        known
        if known["id"] != data["replaces"]
        else {**known, **said, "edits": [*known["edits"], {"text": known["text"], "at": known["at"]}]}
        for known in task.comments
    ]


@folds("task.attached")
def _attached(state: State, activity: str, data: Data) -> None:
    task = _task(state, activity)
    task.attachments = [*task.attachments, {"id": state.version, **data}]


def _task(state: State, activity: str) -> TaskState:
    task = state.touch(activity).task
    assert task is not None
    return task
