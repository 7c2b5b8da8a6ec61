"""The envelope: CloudEvents 1.0 over Kafka, binary mode written, binary and structured mode read.

Rules of this file
- Header names are exactly those of the CloudEvents Kafka binding (`ce_<attribute>`) and of W3C Trace Context.
- `traceparent` is the hop, `ce_traceparent` the first hop; the second is passed on untouched.
- Nothing is guessed: a message without a required attribute raises EnvelopeError and becomes a dead letter.
Source: CloudEvents spec 1.0.2 and its Kafka protocol binding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import orjson

CONTENT_TYPE = "application/json"
STRUCTURED = "application/cloudevents"
ATTRIBUTES = ("id", "source", "type", "time", "subject", "dataschema")

Headers = tuple[tuple[str, bytes], ...]


class EnvelopeError(ValueError):
    """The message is not a CloudEvent that can be read; the text names the header and what was found."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of one message. `extensions` holds every other `ce_` attribute by its bare name.

    Extensions of our own: tenant, idempotencykey, correlationid (saga id), causationid, and on commands and replies
    activity, round, attempt, purpose (do, undo, fence), outcome, participant.
    """

    id: str
    source: str
    type: str
    time: str = ""
    subject: str = ""
    dataschema: str = ""
    traceparent: str = ""
    tracestate: str = ""
    extensions: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> int | None:
        """The contract version that `dataschema` names (`urn:contract:<name>:<version>`), or None."""
        tail = self.dataschema.rpartition(":")[2]
        return int(tail) if tail.isdecimal() else None

    def extension(self, name: str, default: str = "") -> str:
        """One extension attribute, or the default."""
        return self.extensions.get(name, default)

    def headers(self) -> Headers:
        """The Kafka headers of this envelope in binary mode, UTF-8."""
        pairs = [("content-type", CONTENT_TYPE), ("ce_specversion", "1.0")]
        pairs += [(f"ce_{name}", value) for name in ATTRIBUTES if (value := getattr(self, name))]
        pairs += [(f"ce_{name}", value) for name, value in self.extensions.items() if value]
        if self.traceparent:
            pairs.append(("traceparent", self.traceparent))
        if self.tracestate:
            pairs.append(("tracestate", self.tracestate))
        return tuple((name, value.encode()) for name, value in pairs)


def schema_urn(wire_name: str, version: int) -> str:
    """The `dataschema` of a contract: `urn:contract:<wire name>:<version>`."""
    return f"urn:contract:{wire_name}:{version}"


def read(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> tuple[Envelope, bytes]:
    """Envelope and data bytes of a message, in either mode. Raises EnvelopeError with the reason."""
    texts = _texts(headers)
    if value is None:
        raise EnvelopeError("null value: a tombstone carries no event")
    if texts.get("content-type", "").lower().startswith(STRUCTURED):
        return _structured(texts, value)
    if texts.get("ce_specversion") != "1.0":
        raise EnvelopeError(f"ce_specversion is {texts.get('ce_specversion')!r}, expected '1.0': not a CloudEvent")
    return _assemble({name[3:]: text for name, text in texts.items() if name.startswith("ce_")}, texts), value


def _texts(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for given, raw in headers:
        name = given.lower()
        counts = name.startswith(("ce_", "content-type", "trace"))
        if counts and name in texts:
            raise EnvelopeError(f"header {name} stands there twice: readers would differ in which of them counts")
        try:
            texts[name] = raw.decode()
        except (UnicodeDecodeError, AttributeError) as error:
            if counts:
                raise EnvelopeError(f"header {name} is not UTF-8: {raw!r:.60}") from error
    return texts


def _structured(texts: dict[str, str], value: bytes) -> tuple[Envelope, bytes]:
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise EnvelopeError(f"structured CloudEvent is not JSON: {error}") from error
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise EnvelopeError("structured CloudEvent without specversion 1.0")
    if "data" not in event:
        raise EnvelopeError("structured CloudEvent without data")
    attributes = {name: item for name, item in event.items() if isinstance(item, str)}
    return _assemble(attributes, texts), orjson.dumps(event["data"])


def _assemble(attributes: dict[str, str], texts: dict[str, str]) -> Envelope:
    for name in ("id", "source", "type"):
        if not attributes.get(name):
            raise EnvelopeError(f"required attribute {name} is missing: set header ce_{name}")
    known = {name: attributes.pop(name, "") for name in ATTRIBUTES}
    for name in ("specversion", "data", "datacontenttype"):
        attributes.pop(name, None)
    traceparent = texts.get("traceparent") or attributes.get("traceparent", "")
    return Envelope(**known, traceparent=traceparent, tracestate=texts.get("tracestate", ""), extensions=attributes)
