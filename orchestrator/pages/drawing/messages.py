"""The messages of a saga, in and out, as its records tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.api.views import RecordView

_ANSWERS = {
    "step.succeeded": "reply", "step.refused": "refusal", "step.failed": "error", "child.completed": "reply",
    "child.failed": "refusal", "undo.succeeded": "reply to undo", "undo.failed": "error of undo",
    "fence.failed": "error of fence", "reply.late": "late reply", "reply.contradicted": "contradicting reply",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `way`: in or out. `whom`: from or to. `cause`: the id of the message that came in."""

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


def messages(records: Sequence[RecordView]) -> list[Message]:
    """Every message that a record tells of, in order."""
    found, asked = [], dict[str, Mapping[str, Any]]()
    for record in records:
        data = record.data
        command = data.get("command") if isinstance(data.get("command"), Mapping) else None
        place = f"{'~' if record.type.startswith('undo.') else ''}{record.activity}"
        if record.type in ("step.requested", "undo.requested", "child.requested", "fence.requested"):
            command = command or asked.get(place) or {}
            asked[place] = command
            kind = {"undo.requested": "undo", "fence.requested": "fence", "child.requested": "call"}
            found.append(_out(record, kind.get(record.type, "command"), command))
        elif record.type == "event.published":
            found.append(_out(record, "event", data.get("event") or {}))
        elif record.type in ("saga.started", "event.received", "scope.interrupted", "task.amended"):
            body = data.get("data") if record.type == "saga.started" else data.get("event")
            found.append(_in(record, "event", str(data.get("type") or ""), "", body))
        elif record.type in _ANSWERS:
            of = asked.get(place) or {}
            found.append(_in(record, _ANSWERS[record.type], "", str(of.get("participant") or ""), data.get("result")))
    return found


def _out(record: RecordView, kind: str, command: Mapping[str, Any]) -> Message:
    whom = str(command.get("participant") or command.get("saga") or command.get("topic") or "")
    return Message(
        record.version, record.recorded_at, "out", kind, str(command.get("type") or ""), whom,
        str(command.get("key") or ""), int(record.data.get("attempt") or 0), record.activity, "", command.get("body"),
    )  # fmt: skip


def _in(record: RecordView, kind: str, type_: str, whom: str, body: Any) -> Message:
    return Message(
        record.version, record.recorded_at, "in", kind, type_, whom, "", 0, record.activity, record.causation_id, body
    )
