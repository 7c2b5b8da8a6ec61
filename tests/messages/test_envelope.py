"""The envelope: CloudEvents 1.0 in binary and structured mode, W3C trace context, and what a command's header says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.messages import Envelope, EnvelopeError
from orchestrator.messages.envelope import read, schema_urn
from orchestrator.messages.protocol import CommandHeader, commands_topic, events_topic, replies_topic, reply_envelope

FULL = Envelope(
    id="s/2",
    source="/orchestrator",
    type="orders.Pay",
    time="2026-01-05T09:00:00Z",
    subject="o-1",
    dataschema=schema_urn("orders.Pay", 3),
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    tracestate="vendor=1",
    extensions={"tenant": "main", "idempotencykey": "main:s:pay:1:0123456789abcdef"},
)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12).filter(
    lambda name: (
        name not in ("id", "source", "type", "time", "subject", "dataschema", "specversion", "data")
        and name not in ("datacontenttype", "traceparent")
    )
)


def test_binary_mode_is_written_with_the_names_of_the_specification() -> None:
    """CloudEvents Kafka binding 1.0.2."""
    headers = dict(FULL.headers())
    assert headers["content-type"] == b"application/json"
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == b"s/2"
    assert headers["ce_dataschema"] == b"urn:contract:orders.Pay:3"
    assert headers["ce_idempotencykey"] == b"main:s:pay:1:0123456789abcdef"
    assert headers["traceparent"].startswith(b"00-")
    assert headers["tracestate"] == b"vendor=1"


def test_what_was_written_is_read() -> None:
    """Binary mode there and back."""
    envelope, data = read(FULL.headers(), b'{"a":1}')
    assert envelope == FULL
    assert data == b'{"a":1}'
    assert envelope.version == 3


@given(TEXT, TEXT, TEXT, st.dictionaries(NAMES, TEXT, max_size=5))
def test_any_text_survives_the_headers(id_: str, source: str, type_: str, extensions: dict[str, str]) -> None:
    """UTF-8 throughout."""
    envelope = Envelope(id=id_, source=source, type=type_, extensions=extensions)
    assert read(envelope.headers(), b"{}")[0] == envelope


def test_empty_attributes_are_left_out() -> None:
    """An empty header says nothing."""
    headers = dict(Envelope(id="1", source="/x", type="t", extensions={"tenant": ""}).headers())
    assert set(headers) == {"content-type", "ce_specversion", "ce_id", "ce_source", "ce_type"}


def structured(**event: Any) -> tuple[Envelope, bytes]:
    """Reads a structured CloudEvent."""
    raw = json.dumps({"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "data": {}} | event).encode()
    return read([("content-type", b"application/cloudevents+json; charset=UTF-8")], raw)


def test_structured_mode_is_read() -> None:
    """Foreign services may prefer it."""
    envelope, data = structured(data={"a": [1]}, tenant="main", traceparent="00-a-b-01")
    assert (envelope.id, envelope.extension("tenant"), envelope.traceparent) == ("1", "main", "00-a-b-01")
    assert json.loads(data) == {"a": [1]}


def test_the_hop_is_told_from_the_first_hop() -> None:
    """`traceparent` is the hop, `ce_traceparent` the first one, passed on untouched."""
    headers = [*FULL.headers(), ("ce_traceparent", b"00-first-first-01")]
    envelope, _ = read(headers, b"{}")
    assert envelope.traceparent == FULL.traceparent
    assert envelope.extension("traceparent") == "00-first-first-01"


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_type"])
def test_a_message_without_a_required_attribute_is_refused_by_name(name: str) -> None:
    """Nothing is guessed."""
    headers = [(key, value) for key, value in FULL.headers() if key != name]
    with pytest.raises(EnvelopeError, match=f"set header {name}"):
        read(headers, b"{}")


@pytest.mark.parametrize("version", [None, b"0.3", b"", b"2.0"])
def test_a_message_of_another_specification_is_refused(version: bytes | None) -> None:
    """It is not a CloudEvent that we can read."""
    headers = [(key, value) for key, value in FULL.headers() if key != "ce_specversion"]
    if version is not None:
        headers.append(("ce_specversion", version))
    with pytest.raises(EnvelopeError, match="not a CloudEvent"):
        read(headers, b"{}")


def test_a_null_value_is_refused() -> None:
    """A tombstone carries no event."""
    with pytest.raises(EnvelopeError, match="null value"):
        read(FULL.headers(), None)


def test_headers_that_are_no_text_are_refused_by_name() -> None:
    """Invalid UTF-8 in a header that we need; others are somebody else's."""
    with pytest.raises(EnvelopeError, match="ce_subject"):
        read([*FULL.headers(), ("ce_subject", b"\xff\xfe")], b"{}")
    assert read([*FULL.headers(), ("x-binary", b"\xff\xfe")], b"{}")[0] == FULL


def test_a_null_header_is_refused_or_ignored_and_never_a_crash() -> None:
    """Kafka allows null header values."""
    with pytest.raises(EnvelopeError, match="ce_extra"):
        read([*FULL.headers(), ("ce_extra", None)], b"{}")  # type: ignore[list-item]
    assert read([*FULL.headers(), ("x-null", None)], b"{}")[0] == FULL  # type: ignore[list-item]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"1", b'{"specversion": "0.3"}', b'{"specversion": "1.0"}', b"\xff"])
def test_a_structured_event_that_is_none_is_refused(raw: bytes) -> None:
    """A dead letter, not a crash."""
    with pytest.raises(EnvelopeError):
        read([("content-type", b"application/cloudevents+json")], raw)


def test_a_version_that_is_no_number_is_no_version() -> None:
    """dataschema may be anybody's URL."""
    assert Envelope(id="1", source="/", type="t", dataschema="https://example.org/schema").version is None
    assert Envelope(id="1", source="/", type="t").version is None


HEADER = {
    "tenant": "main", "correlationid": "saga", "activity": "pay", "round": "2", "attempt": "3", "purpose": "undo",
    "idempotencykey": "k2", "undoes": "k1", "earlier": "k0 k1",
}  # fmt: skip


def test_a_commands_header_is_read_from_its_envelope() -> None:
    """What a participant must know besides the body."""
    envelope = Envelope(
        id="c", source="/", type="orders.Pay", dataschema=schema_urn("orders.Pay", 1), extensions=HEADER
    )
    header = CommandHeader.of(envelope)
    assert (header.saga_id, header.activity, header.round, header.attempt) == ("saga", "pay", 2, 3)
    assert (header.purpose, header.key, header.undoes, header.earlier) == ("undo", "k2", "k1", ("k0", "k1"))
    assert header.version == 1


@pytest.mark.parametrize("name", ["correlationid", "activity", "round", "attempt", "purpose", "idempotencykey"])
def test_a_command_without_a_needed_header_is_refused_by_name(name: str) -> None:
    """Nothing is guessed."""
    extensions = {key: value for key, value in HEADER.items() if key != name}
    with pytest.raises(ValueError, match=f"ce_{name} is missing"):
        CommandHeader.of(Envelope(id="c", source="/", type="t", extensions=extensions))


def test_answering_twice_is_the_same_message_twice() -> None:
    """A reply's id is derived from its command's id and outcome."""
    command = CommandHeader.of(Envelope(id="c", source="/", type="t", extensions=HEADER))
    one = reply_envelope(command, "bank", "ok", "bank.Paid")
    assert one == reply_envelope(command, "bank", "ok", "bank.Paid")
    assert one.id != reply_envelope(command, "bank", "refused", "orchestrator.Refused").id
    assert (one.extension("causationid"), one.extension("outcome"), one.extension("participant")) == ("c", "ok", "bank")
    assert (one.extension("round"), one.extension("attempt"), one.extension("purpose")) == ("2", "3", "undo")


def test_topics_follow_one_scheme() -> None:
    """The broker's ACLs are written against these names."""
    assert (events_topic("orders"), commands_topic("bank"), replies_topic("bank")) == (
        "orders.events",
        "bank.commands",
        "bank.replies",
    )
