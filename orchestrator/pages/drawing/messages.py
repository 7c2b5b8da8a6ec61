"""The messages of a saga, in and out, as its records tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.api.views import RecordView
from orchestrator.messages.protocol import SAGAS_TOPIC, commands_topic, events_topic, replies_topic

BEFORE = timedelta(hours=1)  # how long before its record an event is looked for

_ANSWERS = {
    "step.succeeded": "reply", "step.refused": "refusal", "step.failed": "error", "child.completed": "reply",
    "child.failed": "refusal", "undo.succeeded": "reply to undo", "undo.failed": "error of undo",
    "fence.failed": "error of fence", "reply.late": "late reply", "reply.contradicted": "contradicting reply",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `way`: in or out. `whom`: from or to. `cause`: the id of the message that came in.

    `since`: no earlier can it have been written, or (an event) is it looked for.
    """

    record: int
    at: datetime
    way: str
    kind: str
    type: str
    whom: str
    key: str
    attempt: int
    activity: str
    cause: str
    body: Any
    since: datetime


def messages(records: Sequence[RecordView]) -> list[Message]:
    """Every message that a record tells of, in order."""
    found, asked, asked_at = [], dict[str, Mapping[str, Any]](), dict[str, datetime]()
    for record in records:
        data = record.data
        command = data.get("command") if isinstance(data.get("command"), Mapping) else None
        place = f"{'~' if record.type.startswith('undo.') else ''}{record.activity}"
        if record.type in ("step.requested", "undo.requested", "child.requested", "fence.requested"):
            command = command or asked.get(place) or {}
            asked[place], asked_at[place] = command, record.recorded_at
            kind = {"undo.requested": "undo", "fence.requested": "fence", "child.requested": "call"}
            found.append(_out(record, kind.get(record.type, "command"), command))
        elif record.type == "event.published":
            found.append(_out(record, "event", data.get("event") or {}))
        elif record.type in ("saga.started", "event.received", "scope.interrupted", "task.amended"):
            body = data.get("data") if record.type == "saga.started" else data.get("event")
            found.append(_in(record, "event", str(data.get("type") or ""), "", body, record.recorded_at - BEFORE))
        elif record.type in _ANSWERS:
            of, since = asked.get(place) or {}, asked_at.get(place, record.recorded_at - BEFORE)
            whom = str(of.get("participant") or "")
            found.append(_in(record, _ANSWERS[record.type], "", whom, data.get("result"), since))
    return found


def topic_of(message: Message, contexts: Mapping[str, str]) -> str:
    """The topic that a message went to or came from; "" where its contract is not installed here.

    `contexts`: the topic context of each type of event. What an outbox holds says its topic itself.
    """
    if message.kind == "event":
        if message.way == "out":
            return message.whom
        return events_topic(contexts[message.type]) if message.type in contexts else ""
    if message.kind == "call" or not message.whom:
        return SAGAS_TOPIC
    return commands_topic(message.whom) if message.way == "out" else replies_topic(message.whom)


def _out(record: RecordView, kind: str, command: Mapping[str, Any]) -> Message:
    whom = str(command.get("participant") or command.get("saga") or command.get("topic") or "")
    return Message(
        record.version, record.recorded_at, "out", kind, str(command.get("type") or ""), whom,
        str(command.get("key") or ""), int(record.data.get("attempt") or 0), record.activity, "", command.get("body"),
        record.recorded_at,
    )  # fmt: skip


def _in(record: RecordView, kind: str, type_: str, whom: str, body: Any, since: datetime) -> Message:
    return Message(
        record.version, record.recorded_at, "in", kind, type_, whom, "", 0, record.activity, record.causation_id, body,
        since,
    )  # fmt: skip
