"""The quick ways of reading and writing headers say what the envelope says, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages import EnvelopeError, Refused
from orchestrator.messages.envelope import read
from orchestrator.messages.protocol import CommandHeader, replies_topic, reply_envelope
from orchestrator.participants import answers
from orchestrator.participants.delivery import Delivery, read_delivery
from orchestrator.participants.testing import command_message, incoming
from orchestrator.participants.tracing import reply_traceparent
from tests.participants.tills import Put, PutIn

NAMES = [name for name, _ in command_message(PutIn(amount=5)).headers]


def sent(**options: str) -> IncomingMessage:
    """A command as the coordinator sends it."""
    return incoming(command_message(PutIn(amount=5), **options))  # type: ignore[arg-type]


def slowly(message: IncomingMessage) -> CommandHeader | None:
    """The header by way of the envelope; None where it cannot be read."""
    try:
        return CommandHeader.of(read(message.headers, message.value)[0])
    except (EnvelopeError, ValueError):
        return None


def quickly(message: IncomingMessage) -> CommandHeader | None:
    found = read_delivery(message, {})
    return found.header if isinstance(found, Delivery) else None


@pytest.mark.parametrize("options", [{}, {"undoes": "main:s:a:1:00"}, {"earlier": "k1 k2"}, {"tenant": "t2"}])
def test_a_command_is_read_alike_both_ways(options: dict[str, str]) -> None:
    given_ = {"earlier": options["earlier"].split()} if "earlier" in options else options
    message = sent(**given_)
    assert quickly(message) == slowly(message) is not None


@given(
    st.lists(st.sampled_from(NAMES), max_size=2),
    st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=6), max_size=3),
    st.booleans(),
    st.booleans(),
)
@example([], {"ce_source": b"\x80"}, False, False)
def test_a_damaged_command_is_read_alike_both_ways(
    left_out: list[str], changed: dict[str, bytes], doubled: bool, upper: bool
) -> None:
    message = sent()
    headers = [(name, changed.get(name, value)) for name, value in message.headers if name not in left_out]
    if doubled:
        headers.append(("ce_attempt", b"2"))
    if upper:
        headers = [(name.upper(), value) for name, value in headers]
    message = replace(message, headers=tuple(headers))
    slow, quick = slowly(message), quickly(message)
    if (
        slow is None
        or slow.purpose not in ("do", "undo", "fence", "fence_undo")
        or "\0" in repr(slow).replace("\\x00", "\0")
    ):
        assert quick is None
    else:
        assert quick == slow


@pytest.mark.parametrize(
    "answer",
    [
        answers.error("why"),
        answers.not_done(),
        answers.in_doubt("fence", datetime(2026, 1, 5, tzinfo=UTC)),
        answers.Answer("ok", "till.PutIn", b"{}", "urn:contract:till.PutIn:1", done_key="main:s:a:1:00"),
    ],
    ids=lambda answer: str(answer.outcome),
)
@pytest.mark.parametrize("traced", [True, False])
def test_an_answer_has_the_headers_of_its_envelope(answer: answers.Answer, traced: bool) -> None:
    header = slowly(sent())
    assert header is not None
    header = header if traced else replace(header, traceparent="")
    message = answers.message(header, "till", answer)
    envelope = reply_envelope(
        header, "till", answer.outcome, answer.type, dataschema=answer.schema, until=answer.until,
        done_key=answer.done_key, edition=answer.edition,
        traceparent=reply_traceparent(header, answers.reply_id(header, answer)),
    )  # fmt: skip
    assert sorted(message.headers) == sorted(envelope.headers())
    assert (message.topic, message.key) == (replies_topic("till"), header.saga_id.encode())


def test_an_answer_that_is_stored_nowhere_has_an_id_of_its_own() -> None:
    """After a crash a command is read again: what then fails otherwise, or reads otherwise, is another message."""
    header = slowly(sent())
    assert header is not None

    def id_of(answer: answers.Answer) -> bytes:
        return dict(answers.message(header, "till", answer).headers)["ce_id"]

    later = datetime(2026, 1, 5, tzinfo=UTC)
    passing = [answers.error("one"), answers.error("two"), answers.error("two", later), answers.ok(Put(amount=1)),
               answers.ok(Put(amount=2)), answers.refused(Refused("a")), answers.refused(Refused("b")),
               answers.in_doubt("fence", later)]  # fmt: skip
    assert len({id_of(answer) for answer in passing}) == len(passing)
    assert id_of(answers.error("one")) == id_of(answers.error("one")), "the same is the same"
    assert id_of(answers.not_done()) == f"{header.id}/not_done".encode()
