"""One malformed message: what is sent, and what must become of it.

Rules of this file
- A message is whole and right unless a builder breaks it, so each record has exactly one flaw, and it is the flaw that
  decides.
- `fate` is the word of `Outcome.fate`, or "foreign" for what concerns nobody here; `reason` the dead letter's code.
- A header name may hold any bytes: those that are no UTF-8 stand in it as surrogate escapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.broker.contract import OutgoingMessage
from orchestrator.messages import Contract
from orchestrator.messages.envelope import Envelope, schema_urn

EVENTS = "market.events"
SAGAS = "orchestrator.sagas"
Headers = tuple[tuple[str, bytes], ...]

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Bad:
    """A malformed message. `times`: how often it is sent. `name` is unique in the corpus."""

    name: str
    message: OutgoingMessage
    fate: str
    reason: str = ""

    @property
    def is_dead(self) -> bool:
        """It must become a dead letter."""
        return self.fate == "dead"


def dead(name: str, message: OutgoingMessage, reason: str) -> Bad:
    """A message that must be kept as a dead letter for this reason."""
    return Bad(name, message, "dead", reason)


def headers_of(message: Contract, id_: str = "", **extensions: str) -> Headers:
    """The headers of a message in binary mode. `id_`: else one of its own."""
    envelope = Envelope(
        id=id_ or f"corpus-{next(_numbers)}",
        source="/corpus",
        type=message.wire_name,
        dataschema=schema_urn(message.wire_name, message.wire_version),
        extensions=extensions,
    )
    return envelope.headers()


def changed(headers: Headers, changes: Mapping[str, bytes | None]) -> Headers:
    """Headers with some replaced, added, or (None) left out."""
    kept = [(name, value) for name, value in headers if name not in changes]
    return tuple(kept + [(name, value) for name, value in changes.items() if value is not None])
