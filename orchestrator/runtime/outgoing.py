"""Messages that were decided, as bytes: `kernel.effects.Outgoing` to rows of the outbox.

Rules of this file
- The id of a message is its saga's id and the version of the record that it follows from, so sending twice is the same
  message twice, byte for byte: nothing here reads a clock or draws a number.
- CloudEvents in binary mode, exact header names; what is the same for every message of a kind is encoded once.
- `traceparent` is the saga's trace with a span derived from the message's id (identity.py).
Source: CloudEvents Kafka protocol binding 1.0.2, W3C Trace Context.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.broker.contract import OutgoingMessage, message_bytes
from orchestrator.kernel.effects import Outgoing
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.envelope import CONTENT_TYPE, Headers, schema_urn
from orchestrator.messages.personal import SUBJECT_KEY
from orchestrator.messages.protocol import ANSWER_TYPE, SAGAS_TOPIC, START_TYPE, UNWIND_TYPE, commands_topic
from orchestrator.runtime.identity import traceparent_of
from orchestrator.store.contract import OutboxRow
from orchestrator.vault.proofs import HEADER as PROOF
from orchestrator.vault.proofs import Prover

_BETWEEN_SAGAS = {"start": START_TYPE, "answer": ANSWER_TYPE, "unwind": UNWIND_TYPE}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CACHED_MAX = 10_000  # kinds of messages: bounded by the installed contracts, this only guards against a mistake


class OversizeError(Exception):
    """A decided message is larger than the broker takes. The saga's place becomes stuck with the size."""

    def __init__(self, topic: str, size: int, most: int) -> None:
        super().__init__(f"a message for {topic} has {size} bytes with its headers, the limit is {most}")
        self.topic, self.size, self.most = topic, size, most


def source_of(saga: str) -> str:
    """The CloudEvents source of messages that sagas of this name send."""
    return f"/sagas/{saga}"


class Encoder:
    """Encodes outgoing messages. `message_bytes_max`: the broker's limit, framing included. `prover`: proves those of
    sagas that seal (ADR 73)."""

    def __init__(self, message_bytes_max: int, prover: Prover | None = None) -> None:
        self._bytes_max = message_bytes_max
        self._prover = prover
        self._fixed: dict[tuple[str, str, str, int, str, str], tuple[str, Headers]] = {}  # topic, constant headers
        self._names: dict[str, str] = {}
        self._time: tuple[int, tuple[str, bytes]] = (0, ("", b""))

    def encode(
        self, out: Outgoing, saga_id: str, tenant: str, saga: str, trace: str, causation_id: str, now: int
    ) -> OutboxRow:
        """The outbox row of one message; `now` is the turn's instant. Raises OversizeError above the limit."""
        message_id = f"{saga_id}/{out.version}"
        fixed = self._fixed.get((out.kind, out.target, out.type, out.type_version, saga, tenant))
        if fixed is None:
            fixed = self._fix(out, saga, tenant)
        topic, constant = fixed
        if self._time[0] != now:
            self._time = (now, ("ce_time", _time(now)))
        headers = [
            *constant,
            self._time[1],
            ("ce_id", message_id.encode()),
            ("ce_correlationid", saga_id.encode()),
            ("traceparent", traceparent_of(trace, message_id).encode()),
        ]
        if causation_id:
            headers.append(("ce_causationid", causation_id.encode()))
        names = self._names
        for name, text in out.attributes.items():
            if text:
                headers.append((names.get(name) or self._name(name), text.encode()))
        value = canonical_bytes(out.body)
        if self._prover is not None and SUBJECT_KEY in out.attributes:
            headers.append((PROOF, self._prover.prove(dict(headers), topic, out.key.encode(), value)))
        # Summing every header costs a microsecond, so only what could be too large is measured exactly.
        if len(value) * 2 > self._bytes_max:
            size = message_bytes(OutgoingMessage(topic, out.key.encode(), value, tuple(headers)))
            if size > self._bytes_max:
                raise OversizeError(topic, size, self._bytes_max)
        return OutboxRow(saga_id, out.version, topic, out.key, tuple(headers), value)

    def _fix(self, out: Outgoing, saga: str, tenant: str) -> tuple[str, Headers]:
        type_ = _BETWEEN_SAGAS.get(out.kind, out.type)
        pairs = {
            "content-type": CONTENT_TYPE,
            "ce_specversion": "1.0",
            "ce_source": source_of(saga),
            "ce_type": type_,
            "ce_tenant": tenant,
        }
        if out.type:
            pairs["ce_dataschema"] = schema_urn(out.type, out.type_version)
        fixed = (topic_of(out), tuple((name, value.encode()) for name, value in pairs.items()))
        if out.kind in _BETWEEN_SAGAS:
            return fixed  # their targets are sagas: each is another one
        if len(self._fixed) >= _CACHED_MAX:
            self._fixed.clear()
        self._fixed[out.kind, out.target, out.type, out.type_version, saga, tenant] = fixed
        return fixed

    def _name(self, attribute: str) -> str:
        name = self._names[attribute] = f"ce_{attribute}"
        return name


def topic_of(out: Outgoing) -> str:
    """The topic of an outgoing message."""
    if out.kind == "event":
        return out.target
    return SAGAS_TOPIC if out.kind in _BETWEEN_SAGAS else commands_topic(out.target)


def _time(now: int) -> bytes:
    # Added to the epoch: fromtimestamp goes through a float, which is off by a microsecond at times.
    return (_EPOCH + timedelta(microseconds=now)).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
