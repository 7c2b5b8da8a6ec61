"""Answers: what goes back to the coordinator, byte by byte.

Rules of this file
- An answer to a settled key is a function of the inbox row and the command's header alone, so duplicates are answered
  with the same bytes, also after a restart and under another version of the code.
- `ok` carries the reply's contract. `refused` carries {code, detail, reason}, all others {reason}.
- A do or undo is answered ok, refused or error; in doubt and never are `error` for it: only a fence asks for them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from orchestrator.broker.contract import OutgoingMessage
from orchestrator.messages import Command, Done, Refused, Reply, canonical_bytes
from orchestrator.messages.envelope import Headers, schema_urn
from orchestrator.messages.protocol import (
    ERROR_TYPE,
    REFUSED_TYPE,
    SETTLED_TYPE,
    CommandHeader,
    replies_topic,
    reply_envelope,
)
from orchestrator.messages.value import value
from orchestrator.participants.decide import FENCES, Purpose, Row
from orchestrator.participants.sealing import Envelope
from orchestrator.participants.tracing import reply_traceparent

REASON_CHARACTERS_MAX = 500
SMALL_BYTES_MAX = 10_000  # an answer without content of its own never comes near it

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@value
class Answer:
    """One answer. `until`: microseconds since 1970, for in doubt. `done_key`: the earlier key that was really done.

    `passing`: it is stored nowhere. A command that is read again after a crash may get another one, and that is another
    message, with an id of its own: under the same id it would be taken for a forgery of the first.
    """

    outcome: str
    type: str
    body: bytes
    schema: str = ""
    until: int = 0
    done_key: str = ""
    passing: bool = False

    @property
    def edition(self) -> str:
        """What a passing answer's id has in addition, "" for one that is stored."""
        return blake2b(self.body + str(self.until).encode(), digest_size=8).hexdigest() if self.passing else ""


def message(header: CommandHeader, participant: str, answer: Answer) -> OutgoingMessage:
    """The message of an answer; the broker's key is the saga id, so a saga's answers keep their order.

    Its headers are those of `protocol.reply_envelope` (a test compares them), put together without the envelope: that
    is half the cost, for thousands of answers a second.
    """
    topic, fixed = _fixed(participant, answer.outcome, answer.type, answer.schema)
    saga_id = header.saga_id.encode()
    id_ = reply_id(header, answer)
    headers = [
        *fixed,
        ("ce_id", id_.encode()),
        ("ce_tenant", header.tenant.encode()),
        ("ce_correlationid", saga_id),
        ("ce_causationid", header.id.encode()),
        ("ce_activity", header.activity.encode()),
        ("ce_round", str(header.round).encode()),
        ("ce_attempt", str(header.attempt).encode()),
        ("ce_purpose", header.purpose.encode()),
        ("ce_idempotencykey", header.key.encode()),
    ]
    if answer.until:
        headers.append(("ce_until", str(answer.until).encode()))
    if answer.done_key:
        headers.append(("ce_donekey", answer.done_key.encode()))
    traceparent = reply_traceparent(header, id_)
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return OutgoingMessage(topic, saga_id, answer.body, tuple(headers))


def reply_id(header: CommandHeader, answer: Answer) -> str:
    """The id of an answer's message."""
    tail = f"{answer.outcome}/{answer.edition}" if answer.passing else answer.outcome
    return f"{header.id}/{tail}"


@lru_cache(maxsize=1024)
def _fixed(participant: str, outcome: str, type_: str, schema: str) -> tuple[str, Headers]:
    """Topic, and what all answers of one kind have in common."""
    nobody = CommandHeader("", "", "", "", 0, 0, "", "", "")
    envelope = reply_envelope(nobody, participant, outcome, type_, dataschema=schema)
    names = {"content-type", "ce_specversion", "ce_source", "ce_type", "ce_dataschema", "ce_outcome", "ce_participant"}
    return replies_topic(participant), tuple(pair for pair in envelope.headers() if pair[0] in names)


def from_row(row: Row, purpose: Purpose) -> Answer:
    """The answer that a settled row holds. Where an outcome came after a closing, the outcome is the truth."""
    if row.outcome is not None:
        assert row.reply is not None
        return Answer(row.outcome, row.reply_type, row.reply, row.reply_schema, done_key=row.under)
    if purpose in FENCES:
        if row.closed == "never":
            return Answer("never", SETTLED_TYPE, _reason("what happened under this key can never be known"))
        return not_done()
    if row.closed == "never":
        return error("what happened under this key can never be known; it needs evidence")
    return Answer("refused", REFUSED_TYPE, refusal_body(Refused("fenced", "this key was refused for ever by a fence")))


def error(reason: str, until: datetime | None = None) -> Answer:
    """Not definite: the coordinator may ask again."""
    return Answer("error", ERROR_TYPE, _reason(reason), until=_micros(until), passing=True)


def in_doubt(purpose: Purpose, until: datetime) -> Answer:
    """The outcome is not known yet; ask again at `until`."""
    reason = f"in doubt: what an earlier start of this key has done can be known at {until.isoformat()}"
    if purpose not in FENCES:
        return error(reason, until)
    return Answer("in_doubt", SETTLED_TYPE, _reason(reason), until=_micros(until), passing=True)


def not_done() -> Answer:
    """The key was never done, and never will be."""
    return Answer("not_done", SETTLED_TYPE, _reason("nothing was done under this key, and never will be"))


def refused(refusal: Refused, envelope: Envelope | None = None) -> Answer:
    """A business no that is not stored, of a command that only reads."""
    return Answer("refused", REFUSED_TYPE, refusal_body(refusal, envelope), passing=True)


def ok(reply: Reply, envelope: Envelope | None = None) -> Answer:
    """A reply that is not stored, of a command that only reads."""
    schema = schema_urn(reply.wire_name, reply.wire_version)
    body = reply.canonical() if envelope is None else envelope.reply(reply)
    return Answer("ok", reply.wire_name, body, schema, passing=True)


def refusal_body(refusal: Refused, envelope: Envelope | None = None) -> bytes:
    """The body of a business no."""
    body = {"code": refusal.code, "detail": refusal.detail, "reason": refusal.reason}
    return canonical_bytes(body if envelope is None else envelope.body(body))


def nothing_to_undo(command: type[Command[Any]] | None) -> Reply:
    """The reply of an undo that had nothing to do: its own reply where that needs no fields, else Done."""
    reply_type: type[Reply] = command.reply_type if command is not None else Done
    if any(field.is_required() for field in reply_type.model_fields.values()):
        return Done()
    return reply_type()


def failure(exception: BaseException) -> str:
    """An exception in one line for the saga's record."""
    lines = str(exception).strip().splitlines()
    text = f"{type(exception).__name__}: {lines[0]}" if lines else type(exception).__name__
    return text.encode("utf-8", "replace").decode()[:REASON_CHARACTERS_MAX]


def _reason(text: str) -> bytes:
    return canonical_bytes({"reason": text})


def _micros(instant: datetime | None) -> int:
    return (instant - _EPOCH) // _MICROSECOND if instant is not None else 0
