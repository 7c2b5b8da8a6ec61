"""Messages that nobody can process are kept, each with its reason, and stop nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel import api
from orchestrator.kernel.inputs import Answer, Arrived, Cancel, Input
from orchestrator.messages import Done
from orchestrator.runtime import turns
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.work import Cause, SagaInput
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event, incoming, reply
from tests.runtime.shop import OrderPlaced, ParcelArrived, ParcelSent, Reserved, order

ORDER = saga_id_of("main", "order", "o-1")
GOOD = event(OrderPlaced(order_id="good"))


def changed(message: IncomingMessage, value: bytes | None = b"", **headers: bytes | None) -> IncomingMessage:
    kept = [(name, text) for name, text in message.headers if name not in headers]
    added = [(name, text) for name, text in headers.items() if text is not None]
    return incoming(message.topic, "k", kept + added, message.value if value == b"" else value)


PLACED = event(OrderPlaced(order_id="bad"))

STRUCTURED = b"application/cloudevents+json"
NO_DATA = b'{"specversion":"1.0","id":"1","source":"s","type":"t"}'
UNREADABLE: list[tuple[str, IncomingMessage, str]] = [
    ("tombstone", changed(PLACED, None), "null_value"),
    ("no CloudEvent", incoming("orders.events", "k", [], b"{}"), "unreadable"),
    ("no id", changed(PLACED, ce_id=None), "unreadable"),
    ("header that is no UTF-8", changed(PLACED, ce_source=b"\xff\xfe"), "unreadable"),
    ("no JSON", changed(PLACED, b"{"), "invalid"),
    ("another JSON", changed(PLACED, b"[1]"), "invalid"),
    ("NaN", changed(PLACED, b'{"order_id":"x","amount":NaN}'), "invalid"),
    ("wrong field", changed(PLACED, b'{"order_id":"x","amount":"many"}'), "invalid"),
    ("field missing", changed(PLACED, b"{}"), "invalid"),
    ("deep nesting", changed(PLACED, b"[" * 100_000), "invalid"),
    ("unknown type", changed(PLACED, ce_type=b"orders.Nonsense"), "unknown_type"),
    ("wrong tenant", changed(PLACED, ce_tenant=b"strangers"), "wrong_tenant"),
    ("too large", changed(PLACED, b"x" * 2_000_000), "oversized"),
    ("too many headers", incoming("orders.events", "k", [(f"h{n}", b"") for n in range(100)], b"{}"), "oversized"),
    ("structured without data", incoming("orders.events", "k", [("content-type", STRUCTURED)], NO_DATA), "unreadable"),
    ("reply to nobody", incoming("inventory.replies", "k", event(OrderPlaced(order_id="x")).headers, b"{}"), "invalid"),
    ("no message between sagas", incoming("orchestrator.sagas", "k", PLACED.headers, b"{}"), "unknown_type"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "reason"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE])
async def test_what_cannot_be_read_is_kept_and_the_rest_goes_on(
    desk: Desk, eyes: Eyes, message: IncomingMessage, reason: str
) -> None:
    outcomes = await desk.take(message, GOOD)
    assert [(outcome.fate, outcome.reason) for outcome in outcomes] == [("dead", reason), ("applied", "")]
    (letter,) = await eyes.rows("SELECT * FROM dead_letters")
    assert (letter["reason"], letter["topic"], letter["offset"]) == (reason, message.topic, message.offset)
    assert letter["value"] == message.value
    assert letter["detail"]


async def test_a_contract_whose_own_code_raises_stops_nobody(
    desk: Desk, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OrderPlaced.key
    monkeypatch.setattr(OrderPlaced, "key", lambda self: real(self) if self.order_id != "bad" else str(1 // 0))
    outcomes = await desk.take(PLACED, GOOD)
    assert [(outcome.fate, outcome.reason) for outcome in outcomes] == [("dead", "poison"), ("applied", "")]
    ((_, detail),) = await eyes.letters()
    assert "ZeroDivisionError" in detail


async def test_a_bug_of_the_runtime_parks_one_input(desk: Desk, eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.take(event(OrderPlaced(order_id="o-1")), event(OrderPlaced(order_id="o-2")))
    one, two = desk.commands()

    def flaw(program: Any, state: Any, *_: Any) -> None:
        assert state.business_key != "o-1", "a bug"

    monkeypatch.setattr(turns, "answer_flaw", flaw)
    outcomes = await desk.take(reply(one, Reserved(hold="h")), reply(two, Reserved(hold="h")))
    assert [outcome.fate for outcome in outcomes] == ["failed", "applied"]
    assert [reason for reason, _ in await eyes.letters()] == ["poison"]


async def test_structured_mode_is_read_too(desk: Desk, eyes: Eyes) -> None:
    value = (
        b'{"specversion":"1.0","id":"1","source":"/s","type":"orders.OrderPlaced","data":{"order_id":"o-1","amount":4}}'
    )
    headers = [("Content-Type", b"application/cloudevents+json; charset=UTF-8")]
    (outcome,) = await desk.take(incoming("orders.events", "o-1", headers, value))
    assert outcome.fate == "applied"
    assert await eyes.letters() == []


async def test_an_event_that_we_publish_ourselves_is_nothing_to_us(desk: Desk) -> None:
    assert desk.router.route(changed(PLACED, b'{"order_id":"o-1"}', ce_type=b"orders.OrderDone")) is None


class TestReplies:
    """Who may answer for whom, and to what."""

    async def test_of_an_unknown_saga(self, desk: Desk, eyes: Eyes) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        row = desk.newest("inventory")
        stranger = replace(row, saga_id="nobody")
        message = reply(stranger, Reserved(hold="h"))
        headers = [(n, b"nobody" if n == "ce_correlationid" else t) for n, t in message.headers]
        (outcome,) = await desk.take(incoming(message.topic, "nobody", headers, message.value))
        assert outcome.reason == "unknown_saga"

    async def test_of_another_tenants_saga(self, database: Database, eyes: Eyes) -> None:
        async with at_desk(database.url, other_tenants="acme") as desk:
            await desk.take(event(OrderPlaced(order_id="o-1")))
            message = reply(desk.newest("inventory"), Reserved(hold="h"))
            (outcome,) = await desk.take(changed(message, ce_tenant=b"acme"))
            cancel = SagaInput(ORDER, Cancel("eve", "why not"), Cause("acme", "person:eve"))
            (refused,) = await desk.decide(cancel)
        assert outcome.reason == "unknown_saga"
        assert refused.refusal is not None
        assert refused.refusal.code == "not_found"
        assert (await eyes.stream(ORDER))[-1] == "step.requested"

    async def test_of_an_unknown_step(self, desk: Desk) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        message = reply(desk.newest("inventory"), Reserved(hold="h"))
        (outcome,) = await desk.take(changed(message, ce_activity=b"nonsense"))
        assert outcome.reason == "unknown_activity"

    async def test_on_the_topic_of_another_participant(self, desk: Desk, eyes: Eyes) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        message = reply(desk.newest("inventory"), Reserved(hold="h"), topic="payment.replies")
        (claims,) = await desk.take(message)
        (silent,) = await desk.take(changed(message, ce_participant=None, ce_id=b"other"))
        liar = changed(reply(desk.newest("inventory"), Reserved(hold="h")), ce_participant=b"payment", ce_id=b"third")
        (lies,) = await desk.take(liar)
        assert {claims.reason, silent.reason, lies.reason} == {"unauthorised_source"}
        assert (await eyes.stream(ORDER))[-1] == "step.requested"

    async def test_with_the_data_of_another_reply(self, desk: Desk, eyes: Eyes) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        (outcome,) = await desk.take(reply(desk.newest("inventory"), Done()))
        assert outcome.reason == "invalid"
        assert (await eyes.stream(ORDER))[-1] == "step.requested"

    async def test_with_the_id_of_another_one(self, desk: Desk, eyes: Eyes) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        asked = desk.newest("inventory")
        await desk.take(reply(asked, Reserved(hold="h")))
        (outcome,) = await desk.take(reply(asked, Reserved(hold="forged")))
        assert (outcome.fate, outcome.reason) == ("dead", "other_body")
        assert (await eyes.stream(ORDER)).count("reply.late") == 0

    async def test_a_late_error_is_no_letter(self, desk: Desk, eyes: Eyes) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        asked = desk.newest("inventory")
        await desk.take(reply(asked, Reserved(hold="h")))
        (outcome,) = await desk.take(reply(asked, "error", reason="late"))
        assert outcome.fate == "refused"
        assert await eyes.letters() == []


class TestPoison:
    """The kernel raises for one saga: that input is kept with the traceback, everything else goes on."""

    @pytest.fixture(autouse=True)
    def _broken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def advance(program: Any, state: Any, given: Input, now: int, *rest: Any, **more: Any) -> api.Turn:
            bad = isinstance(given, Answer) and state.business_key == "poison"
            if bad or (isinstance(given, Arrived) and state.name == "parcel"):
                raise ZeroDivisionError("a bug of the kernel")
            return api.advance(program, state, given, now, *rest, **more)

        monkeypatch.setattr(turns, "advance", advance)

    async def test_of_a_reply(self, desk: Desk, eyes: Eyes) -> None:
        await desk.take(event(OrderPlaced(order_id="poison")), event(OrderPlaced(order_id="fine")))
        bad, fine = desk.commands()
        outcomes = await desk.take(reply(bad, Reserved(hold="h")), reply(fine, Reserved(hold="h")))
        assert [outcome.fate for outcome in outcomes] == ["failed", "applied"]
        ((reason, detail),) = await eyes.letters()
        assert reason == "poison"
        assert "ZeroDivisionError: a bug of the kernel" in detail
        assert (await eyes.stream(bad.saga_id))[-1] == "step.requested"

    async def test_a_message_driven_again_after_the_repair_moves_its_saga(
        self, desk: Desk, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await desk.take(event(OrderPlaced(order_id="poison")))
        message = reply(desk.newest("inventory"), Reserved(hold="h"))
        await desk.take(message)
        monkeypatch.setattr(turns, "advance", api.advance)
        (letter,) = await eyes.rows("SELECT id FROM dead_letters")
        item = desk.router.route(message, letter["id"])
        assert item is not None
        (outcome,) = await desk.decide(item)
        assert outcome.fate == "applied"
        assert await eyes.rows("SELECT id FROM dead_letters WHERE redriven_at IS NULL") == []

    async def test_of_a_timer_is_kept_once_and_can_be_driven_again(
        self, desk: Desk, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        (timer,) = await eyes.rows("SELECT saga_id, activity, armed FROM timers")

        def broken(*_: Any, **__: Any) -> api.Turn:
            raise ZeroDivisionError

        monkeypatch.setattr(turns, "advance", broken)
        assert (await desk.fire(**timer)).fate == "failed"
        assert await eyes.count("timers") == 0
        (letter,) = await eyes.rows("SELECT * FROM dead_letters")
        monkeypatch.setattr(turns, "advance", api.advance)
        raw = IncomingMessage(letter["topic"], 0, 0, None, letter["value"], (), 0)
        item = desk.router.route(raw, letter["id"])
        assert item is not None
        (outcome,) = await desk.decide(item)
        assert outcome.fate == "applied"
        assert "step.timed_out" in await eyes.stream(ORDER)

    async def test_of_one_of_two_waiting_sagas_does_not_keep_the_event_from_the_other(
        self, desk: Desk, eyes: Eyes
    ) -> None:
        await desk.take(event(ParcelSent(parcel_id="p-1")))
        await desk.take(reply(desk.newest("mail"), Done()))
        await desk.checks()
        (outcome,) = await desk.take(event(ParcelArrived(parcel_id="p-1")))
        assert outcome.fate == "failed"
        assert "event.received" in await eyes.stream(saga_id_of("main", "watch", "p-1"))
        assert await eyes.count("early_events") == 1


async def test_a_saga_whose_version_is_not_installed_loses_nothing(database: Database, eyes: Eyes) -> None:
    async with at_desk(database.url) as desk:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        message = reply(desk.newest("inventory"), Reserved(hold="h"))
    from tests.runtime.shop import SAGAS

    without = [saga for saga in SAGAS if saga is not order]
    async with at_desk(database.url, sagas=without) as desk:
        desk.router = _router_of(database, desk)
        (outcome,) = await desk.take(message)
        assert outcome.fate == "failed"
        assert [reason for reason, _ in await eyes.letters()] == ["not_installed"]
    async with at_desk(database.url) as desk:
        (letter,) = await eyes.rows("SELECT id FROM dead_letters")
        item = desk.router.route(message, letter["id"])
        assert item is not None
        assert (await desk.decide(item))[0].fate == "applied"


def _router_of(database: Database, desk: Desk) -> Any:
    """A process that still reads the topic (another saga uses it), without the saga itself."""
    from orchestrator.runtime import parts
    from orchestrator.runtime.catalog import Catalog
    from tests.runtime.shop import SAGAS

    return parts.router(desk.settings, Catalog.of(SAGAS))


async def test_a_stream_that_was_tampered_with_parks_its_saga_alone(database: Database, desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(OrderPlaced(order_id="o-1")), event(OrderPlaced(order_id="o-2")))
    one, two = desk.commands()
    desk.coordinator.cache.clear()
    await eyes.rows("DELETE FROM records WHERE saga_id = $1 AND version = 2", one.saga_id)
    outcomes = await desk.take(reply(one, Reserved(hold="h")), reply(two, Reserved(hold="h")))
    assert [outcome.fate for outcome in outcomes] == ["failed", "applied"]
    ((reason, detail),) = await eyes.letters()
    assert reason == "poison"
    assert "the head says version 2" in detail
