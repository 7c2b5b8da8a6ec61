"""A saga's messages one by one: their bytes and headers, where they lie, the records they have to do with."""

from __future__ import annotations

import re
import uuid
from html import unescape

import pytest

from orchestrator.broker.contract import BrokerUnavailableError, OutgoingMessage
from orchestrator.pages.drawing.messages import messages
from orchestrator.pages.drawing.raw import TEXT_CHARACTERS_MAX, Raw
from tests.pages.office import ADA, OfficeProduct

pytestmark = pytest.mark.asyncio(loop_scope="module")


def text(page: str) -> str:
    """What a page says, without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


async def found(office: OfficeProduct, saga: str, way: str, kind: str) -> int:
    """The record of the first such message."""
    records = await office.engine.records(saga, ADA)
    return next(one.record for one in messages(records) if (one.way, one.kind) == (way, kind))


async def shown(office: OfficeProduct, saga: str, record: int) -> str:
    """The page of a message, as text."""
    answer = await office.get(f"/office/sagas/{saga}/messages/{record}")
    assert answer.status_code == 200, answer.text
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?! src=)", answer.text)
    return text(answer.text)


async def test_a_sent_command_is_shown_with_its_place_and_its_bytes(office: OfficeProduct) -> None:
    """From the outbox what was decided, from the log where it lies; both are the same bytes."""
    saga = office.sagas["completed"]
    record = await found(office, saga, "out", "command")
    page = await shown(office, saga, record)
    assert "wires-desk.commands" in page
    assert re.search(r"Partition, offset [01], \d+", page)
    assert f"Message id {saga}/{record}" in page
    assert "ce_idempotencykey" in page
    assert '{"amount":"6000","currency":"EUR"}' in page
    assert "7b 22 61 6d 6f 75 6e 74" in page  # the same in hex
    assert f"Followed from record {record}" in page
    assert "Outbox sent" in page
    assert "other bytes" not in page


async def test_a_reply_is_shown_as_it_lies_in_the_log(office: OfficeProduct) -> None:
    """The product keeps the hash of what it took in, and says that these are the bytes."""
    saga = office.sagas["completed"]
    record = await found(office, saga, "in", "reply")
    page = await shown(office, saga, record)
    assert "wires-desk.replies" in page
    assert re.search(r"Partition, offset [01], \d+", page)
    assert "the log still holds the very bytes" in page
    assert "hold_id" in page
    assert f"Caused record {record}" in page


async def test_every_copy_of_a_message_is_shown_and_one_with_other_bytes_is_an_alarm(office: OfficeProduct) -> None:
    """Sent twice is the same message twice; what somebody put there under its id is not."""
    saga = await office.begin("auto")
    record = await found(office, saga, "in", "reply")
    reply = next(one for one in messages(await office.engine.records(saga, ADA)) if one.record == record)
    lies = (await office.app.state.office.log.came("wires-desk.replies", saga, reply)).copies
    copy = lies[0]
    producer = office.runtime.broker.producer("tests")
    await producer.start()
    again = OutgoingMessage(copy.topic, copy.key, copy.value, copy.headers)
    assert await producer.send([again]) == [None]
    page = await shown(office, saga, record)
    assert "It is there 2 times" in page
    assert "other bytes" not in page
    assert await producer.send([OutgoingMessage(copy.topic, copy.key, b'{"hold_id":"x"}', copy.headers)]) == [None]
    await producer.stop()
    assert "The log holds other bytes under this id" in await shown(office, saga, record)


async def test_an_event_from_upstream_is_found_under_whatever_key(office: OfficeProduct) -> None:
    """Other services choose their keys; a message that starts a saga is found in any partition, hostile or not."""
    key, id_ = f"up-{uuid.uuid4().hex[:8]}", f"<b>{uuid.uuid4().hex[:8]}"
    body = (
        f'{{"wire_id":"{key}","customer_id":"<script>alert(1)</script>","requester":"ravi","amount":"1","mood":"auto"}}'
    )
    headers = [("content-type", b"application/json"), ("ce_type", b"wires.WireRequested"), ("ce_id", id_.encode())]
    headers += [("ce_source", b"/upstream/tests"), ("ce_specversion", b"1.0"), ("x-odd", b"\xff\x00")]
    producer = office.runtime.broker.producer("tests")
    await producer.start()
    for number in range(8):  # some of these keys fall into the other partition
        sent = [OutgoingMessage("wires.events", f"other-{number}".encode(), body.encode(), tuple(headers))]
        assert await producer.send(sent) == [None]
    await producer.stop()
    page = await office.until_page(f"/office/sagas/{key}?tab=messages", lambda page: "reply" in page)
    assert "wires.events" in text(page)
    saga = (await office.engine.saga(key, ADA)).saga_id
    answer = await office.get(f"/office/sagas/{saga}/messages/1")
    assert "<script>alert" not in answer.text
    assert "<b>" not in answer.text
    page = text(answer.text)
    assert "/upstream/tests" in page
    assert "\\xff" in page
    assert "the log still holds the very bytes" in page


async def test_what_came_by_a_request_lies_on_no_topic(office: OfficeProduct) -> None:
    """It is said, not left empty."""
    page = await shown(office, office.sagas["waiting"], 1)
    assert "a request to this product" in page
    assert "CUST00012" in page


async def test_a_log_that_cannot_be_read_fails_alone(office: OfficeProduct, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of the outbox are still there."""

    async def away(*_: object, **__: object) -> None:
        raise BrokerUnavailableError("nobody answers")

    saga = office.sagas["completed"]
    record = await found(office, saga, "out", "command")
    monkeypatch.setattr(office.runtime.broker, "look", away)
    page = await shown(office, saga, record)
    assert "The log could not be read" in page
    assert "nobody answers" in page
    assert '"currency":"EUR"' in page


async def test_a_record_without_a_message_has_no_page(office: OfficeProduct) -> None:
    """Nor has a record that is not there, or another tenant's saga."""
    saga = office.sagas["waiting"]
    records = await office.engine.records(saga, ADA)
    opened = next(one.version for one in records if one.type == "task.opened")
    for record in (opened, 9_999):
        assert (await office.get(f"/office/sagas/{saga}/messages/{record}")).status_code == 404


async def test_bytes_are_text_only_where_they_are_text() -> None:
    """Everything else is hex, and nothing is without end."""
    assert Raw.of("naïve".encode()).text == "naïve"
    assert Raw.of(b"\xff\xfe").text is None
    assert Raw.of(b"a\0b").text is None
    long = Raw.of(b"x" * 100_000)
    assert (len(long.text or ""), long.size, long.is_cut) == (TEXT_CHARACTERS_MAX, 100_000, True)


async def test_who_may_export_takes_the_evidence_of_a_saga_from_its_page(office: OfficeProduct) -> None:
    """Nobody else is offered it; it is of the saga as it is, never of a look back."""
    path = f"/office/sagas/{office.sagas['completed']}"
    link = f"/office/sagas/{office.sagas['completed']}/evidence"
    assert link in (await office.get(path, roles="auditor")).text
    assert link not in (await office.get(path, roles="operator")).text
    assert link not in (await office.get(f"{path}?record=2", roles="auditor")).text
