"""Effects: what one turn means outside the stream, as a pure function of its records and the state after it.

Rules of this file
- Nothing here is decided: a row of the outbox, a timer, a subscription or a task follows from one record or from the
  state of one activity. There is no second list to keep in step.
- The store writes these rows in the transaction that appends the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any, Literal

from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages.protocol import ANSWER_TYPE, START_TYPE, UNWIND_TYPE
from orchestrator.messages.value import value

MessageKind = Literal["do", "undo", "fence", "start", "answer", "unwind", "event"]


@value
class Outgoing:
    """One message to send. Its id is saga id + record version.

    do, undo, fence: to `target` (a participant). start, answer, unwind: to another saga (`target` is its id). event: to
    topic `target`. `key`: partition key. `attributes`: envelope extensions (activity, round, attempt, purpose,
    idempotencykey, ...).
    """

    version: int
    kind: MessageKind
    target: str
    key: str
    type: str
    type_version: int
    body: Any
    attributes: dict[str, str] = field(default_factory=dict)


@value
class Timer:
    """A durable timer. `command_version`: the attempt's command, whose publication starts the clock (0: none)."""

    activity: str
    due: int
    armed: int
    command_version: int = 0


@value
class Subscription:
    """This saga wants the event (type, key), if it arrived at `accepts_from` or later (microseconds)."""

    activity: str
    type: str
    key: str
    accepts_from: int


@value
class TaskRow:
    """An open task as lists show it. `data` is what the task page needs (shown, form, to, due, votes, hashes)."""

    activity: str
    due: int
    data: dict[str, Any]


@value
class Effects:
    """Everything the store writes besides the records."""

    outbox: list[Outgoing] = field(default_factory=list)
    timers_set: list[Timer] = field(default_factory=list)
    timers_cleared: list[str] = field(default_factory=list)
    waits_opened: list[Subscription] = field(default_factory=list)
    waits_closed: list[str] = field(default_factory=list)  # activities: all their subscriptions
    tasks_open: list[TaskRow] = field(default_factory=list)  # opened or changed
    tasks_closed: list[tuple[str, str]] = field(default_factory=list)  # activity, how (decided, expired, withdrawn)
    consumed: list[str] = field(default_factory=list)  # ids of events taken by this saga
    resume: bool = False


CONSUMING = frozenset({"event.received", "scope.interrupted", "scope.failing", "task.amended", "task.amend_failed"})


def effects(before: State, after: State, records: Sequence[Record], *, more: bool = False) -> Effects:
    """The rows of one turn: outbox from records, the rest from the activities that the turn touched."""
    found = Effects(resume=more)
    version = before.version
    for record in records:
        version += 1
        if message := outgoing(after, record, version):
            found.outbox.append(message)
        if record.type in CONSUMING and (event_id := record.data.get("event_id")):
            found.consumed.append(event_id)
    for key in sorted(after.owned):  # a set has another order in every process
        _compare(found, before, after, key, version)
    _deadline(found, before, after)
    return found


def _compare(found: Effects, before: State, after: State, key: str, version: int) -> None:
    """One touched activity: its timer, its subscriptions, its task."""
    old, new = before.activities.get(key), after.activities[key]
    if new.due and new.armed > before.version:
        found.timers_set.append(Timer(key, new.due, new.armed, _command_version(new)))
    elif old is not None and old.due and not new.due:
        found.timers_cleared.append(key)
    if new.wants and (old is None or not old.wants or old.opened != new.opened):
        found.waits_opened.extend(Subscription(key, w["type"], w["key"], w["from"]) for w in new.wants)
    elif old is not None and old.wants and not new.wants:
        found.waits_closed.append(key)
    if new.task is not None:
        if new.status == "open":
            found.tasks_open.append(TaskRow(key, new.task.expires, task_data(new)))
        elif old is not None and old.status == "open":
            found.tasks_closed.append((key, "decided" if new.status == "succeeded" else new.status))


def _command_version(new: Any) -> int:
    """The clock of an attempt, an undo or a fence starts when its message was published (rule 9)."""
    waiting = new.status == "requested" or new.fence == "asked" or new.undo_status in ("asked", "taken")
    return int(new.armed) if waiting and new.kind == "step" else 0


def _deadline(found: Effects, before: State, after: State) -> None:
    if after.deadline and after.deadline_armed > before.version:
        found.timers_set.append(Timer("", after.deadline, after.deadline_armed))
    elif before.deadline and not after.deadline:
        found.timers_cleared.append("")


def task_data(found: Any) -> dict[str, Any]:
    """What a task page needs, as stored with the open task."""
    task = found.task
    more = {
        "void": len(task.void), "earlier": task.earlier, "reminders": task.reminders, "reminded": task.reminded,
        "levels": task.levels, "escalated": task.escalated, "claim": task.claim, "delegations": task.delegations,
        "steered": task.steered, "comments": task.comments, "attachments": task.attachments, "amount": task.amount,
        "limits": task.limits, "chain": task.chain, "amended_at": task.amended_at,
    }  # fmt: skip
    return {
        "shown": task.shown, "shown_type": task.shown_type, "hash": task.hash, "round": task.round, "to": task.to,
        "excluded": task.excluded, "outcomes": task.outcomes, "votes_needed": task.votes_needed, "votes": task.votes,
        "opened_at": task.opened_at, "level": task.level, "help": task.help, "form": task.form,
        "form_schema": task.form_schema, "expires": task.expires,
        **{name: value for name, value in more.items() if value},
    }  # fmt: skip


def outgoing(after: State, record: Record, version: int) -> Outgoing | None:
    """The one message that a record means, or None. Also used to publish again what was sent long ago."""
    maker = MAKERS.get(record.type)
    return maker(after, record, version) if maker else None


def _do(after: State, record: Record, version: int) -> Outgoing | None:
    found = after.activities[record.activity]
    return _command(after, record, version, "do", found.command, {"earlier": " ".join(found.earlier)})


def _command(
    after: State, record: Record, version: int, kind: MessageKind, command: Any, extra: dict[str, str]
) -> Outgoing:
    attributes = {
        "activity": record.activity,
        "round": str(record.data["round"]),
        "attempt": str(record.data["attempt"]),
        "purpose": kind,
        "idempotencykey": command["key"],
    }
    attributes.update(extra)
    return Outgoing(
        version,
        kind,
        command["participant"],
        after.saga_id,
        command["type"],
        command["version"],
        command["body"],
        attributes,
    )


def _undo(after: State, record: Record, version: int) -> Outgoing | None:
    found = after.activities[record.activity]
    if found.kind == "call":
        return _unwind(after, record, version)
    assert found.undo is not None
    assert found.command is not None
    command = record.data.get("command") or found.undo.command
    return _command(after, record, version, "undo", command, {"undoes": found.command["key"]})


def _fence(after: State, record: Record, version: int) -> Outgoing | None:
    found = after.activities[record.activity]
    if found.kind == "call":
        return _unwind(after, record, version)
    return _command(after, record, version, "fence", found.command, {"earlier": " ".join(found.earlier)})


def _fence_undo(after: State, record: Record, version: int) -> Outgoing | None:
    found = after.activities[record.activity]
    if found.undo is None or found.undo.command is None or found.command is None:
        return None
    data = {"round": found.undo.round, "attempt": found.undo.attempt}
    return _command(
        after, Record(record.type, record.activity, data), version, "fence", found.undo.command,
        {"undoes": found.command["key"], "purpose": "fence_undo"},
    )  # fmt: skip


def _child_start(after: State, record: Record, version: int) -> Outgoing:
    command = record.data["command"]
    body = {
        "saga": command["saga"],
        "version": command["saga_version"],
        "type": command["type"],
        "data": command["body"],
        "business_key": command["business_key"],
        "parent": {"saga_id": after.saga_id, "activity": record.activity, "round": record.data["round"]},
    }
    return Outgoing(version, "start", command["saga_id"], command["saga_id"], START_TYPE, 1, body)


def _unwind(after: State, record: Record, version: int) -> Outgoing:
    found = after.activities[record.activity]
    assert found.command is not None
    body = {
        "saga": found.command["saga"],
        "version": found.command["saga_version"],
        "business_key": found.command["business_key"],
        "parent": {"saga_id": after.saga_id, "activity": record.activity, "round": found.round},
    }
    child = found.command["saga_id"]
    return Outgoing(version, "unwind", child, child, UNWIND_TYPE, 1, body)


def _answer(after: State, record: Record, version: int) -> Outgoing | None:
    """How a child tells its parent: at its ending, or again when it is asked to undo what is undone."""
    if after.parent is None:
        return None
    outcomes = {"saga.completed": "completed", "saga.tombstoned": "undone"}
    outcome = outcomes.get(record.type) or record.data["outcome"]
    if record.type == "saga.compensated":
        outcome = "undone" if after.unwound_by_parent else "failed"
    body = {
        "activity": after.parent.activity,
        "round": after.parent.round,
        "outcome": outcome,
        "data": record.data.get("result"),
        "reason": record.data.get("reason", ""),
    }
    parent = after.parent.saga_id
    return Outgoing(version, "answer", parent, parent, ANSWER_TYPE, 1, body)


def _event(after: State, record: Record, version: int) -> Outgoing:
    event = record.data["event"]
    return Outgoing(
        version, "event", event["topic"], event["partition_key"], event["type"], event["version"], event["body"]
    )


MAKERS: dict[str, Callable[[State, Record, int], Outgoing | None]] = {
    "step.requested": _do,
    "undo.requested": _undo,
    "undo.taken_over": _fence_undo,
    "fence.requested": _fence,
    "fence.owed": _fence,
    "child.requested": _child_start,
    "saga.completed": _answer,
    "saga.compensated": _answer,
    "saga.tombstoned": _answer,
    "parent.answered": _answer,
    "event.published": _event,
}
