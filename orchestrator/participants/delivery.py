"""A message on a command topic, read as far as every path needs it.

What cannot be read is a dead letter with a reason code; where the header could be read it is also answered `error`, so
that nobody waits for it: unreadable, unknown_type, invalid, other_body, wrong_participant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast, get_args

from orchestrator import logs
from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages import Command, EnvelopeError
from orchestrator.messages.envelope import CONTENT_TYPE, read
from orchestrator.messages.protocol import CommandHeader
from orchestrator.messages.value import value
from orchestrator.participants.decide import Purpose, RowKey, Wanted, without_body_hash
from orchestrator.participants.participant import Handler
from orchestrator.participants.sealing import Envelope
from orchestrator.participants.tracing import Handling

KEY_CHARACTERS_MAX = 500  # an index entry of PostgreSQL holds 2,700 bytes
EARLIER_KEYS_MAX = 200
DETAIL_CHARACTERS_MAX = 500

_JSON = CONTENT_TYPE.encode()
_REQUIRED = (
    "ce_id", "ce_source", "ce_type", "ce_tenant", "ce_correlationid", "ce_activity", "ce_round", "ce_attempt",
    "ce_purpose", "ce_idempotencykey", "ce_dataschema", "traceparent",
)  # fmt: skip


@dataclass(slots=True)
class Delivery:
    """One command as it came. `handler` None: nobody handles this type (a fence needs nobody)."""

    message: IncomingMessage
    header: CommandHeader
    wanted: Wanted
    body: bytes
    handler: Handler | None
    keys: list[RowKey]
    envelope: Envelope | None = None
    handling: Handling | None = None  # where its trace is sampled, and spans are wanted

    @property
    def purpose(self) -> Purpose:
        """What it asks for."""
        return self.wanted.purpose

    def command(self) -> Command[Any]:
        """The command itself. Raises ContractError where the body does not fit."""
        assert self.handler is not None
        return self.handler.command.from_bytes(self.opened(self.body), self.header.version)

    def opened(self, body: bytes) -> bytes:
        """The body of a command of this saga, readable. Raises ContractError where it cannot be opened."""
        return body if self.envelope is None else self.envelope.opened(body)

    def concerning(self) -> AbstractContextManager[None]:
        """While inside, every line of the log names the saga and its trace."""
        return logs.concerning(self.header.saga_id, self.header.traceparent)

    def told(self, text: str) -> str:
        """A text about this command that may be written anywhere."""
        return text if self.envelope is None else self.envelope.text(text)

    def traceback(self, error: BaseException) -> BaseException | None:
        """An error whose traceback may be written anywhere, else None."""
        return error if self.envelope is None else self.envelope.traceback(error)


@value
class Unreadable:
    """A message that is nobody's command."""

    message: IncomingMessage
    detail: str


def read_delivery(message: IncomingMessage, handlers: Mapping[str, Handler]) -> Delivery | Unreadable:
    """Reads headers and keys; the body is only hashed."""
    try:
        quick = _quick_header(message)
        if quick is not None and message.value is not None:
            header, body = quick, message.value
        else:
            envelope, body = read(message.headers, message.value)
            header = CommandHeader.of(envelope)
    except (EnvelopeError, ValueError) as error:
        return Unreadable(message, str(error)[:DETAIL_CHARACTERS_MAX])
    except Exception as error:  # whatever a strange message does to the parser, it must not stop its partition
        return Unreadable(message, f"{type(error).__name__}: {error}"[:DETAIL_CHARACTERS_MAX])
    if header.purpose not in get_args(Purpose):
        return Unreadable(message, f"ce_purpose is {header.purpose[:40]!r}, expected do, undo, fence or fence_undo")
    if (problem := _bad_text(header)) is not None:
        return Unreadable(message, problem)
    wanted = Wanted(
        header.tenant,
        cast("Purpose", header.purpose),
        without_body_hash(header.key),
        header.key,
        hashlib.sha256(body).digest(),
        header.earlier,
        header.undoes,
    )
    return Delivery(message, header, wanted, body, handlers.get(header.type), wanted.keys())


def _quick_header(message: IncomingMessage) -> CommandHeader | None:
    """The header of a message as our own coordinator sends it; None for any other, which takes the long way.

    Reading an envelope with all its attributes costs three times as much, for thousands of commands a second.
    """
    found = dict(message.headers)
    if (
        len(found) != len(message.headers)
        or found.get("content-type") != _JSON
        or found.get("ce_specversion") != b"1.0"
    ):
        return None
    try:
        if not all(map(found.__getitem__, _REQUIRED)) or not b"".join(found.values()).isascii():
            return None  # the long way also looks at attributes that are not used here
        schema = found["ce_dataschema"].decode().rpartition(":")[2]
        return CommandHeader(
            id=found["ce_id"].decode(),
            tenant=found["ce_tenant"].decode(),
            saga_id=found["ce_correlationid"].decode(),
            activity=found["ce_activity"].decode(),
            round=int(found["ce_round"]),
            attempt=int(found["ce_attempt"]),
            purpose=found["ce_purpose"].decode(),
            key=found["ce_idempotencykey"].decode(),
            type=found["ce_type"].decode(),
            undoes=found["ce_undoes"].decode() if "ce_undoes" in found else "",
            earlier=tuple(found["ce_earlier"].decode().split()) if "ce_earlier" in found else (),
            traceparent=found["traceparent"].decode(),
            version=int(schema) if schema.isdecimal() else None,
        )
    except (KeyError, ValueError, AttributeError):
        return None


def _bad_text(header: CommandHeader) -> str | None:
    """Text that PostgreSQL cannot keep would fail a whole batch, so it is refused here."""
    if len(header.earlier) > EARLIER_KEYS_MAX:
        return f"ce_earlier has {len(header.earlier)} keys, more than {EARLIER_KEYS_MAX}"
    texts = (header.tenant, header.type, header.key, header.undoes, *header.earlier)
    longest = max(map(len, texts))
    if longest > KEY_CHARACTERS_MAX:
        return f"a key or type has {longest} characters, more than {KEY_CHARACTERS_MAX}"
    if "\0" in "".join(texts):
        return "a header holds U+0000"
    return None
