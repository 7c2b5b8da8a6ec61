"""One path for everything: what a batch commits, and what becomes of messages that move nothing."""

from __future__ import annotations

from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages import Done, Reply
from orchestrator.messages.envelope import schema_urn
from orchestrator.messages.protocol import CommandHeader, replies_topic, reply_envelope
from orchestrator.runtime.identity import saga_id_of
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event, header_of, incoming, reply
from tests.runtime.shop import Charged, OrderPlaced, Reserved

ORDER = saga_id_of("main", "order", "o-1")


async def run_order(desk: Desk, order_id: str = "o-1") -> str:
    saga_id = saga_id_of("main", "order", order_id)
    await desk.take(event(OrderPlaced(order_id=order_id)))
    await desk.take(reply(desk.newest("inventory"), Reserved(hold="h")))
    await desk.take(reply(desk.newest("payment"), Charged(receipt="r")))
    await desk.take(reply(desk.newest("shipping"), Done()))
    return saga_id


async def test_an_order_runs_through_its_three_steps(desk: Desk, eyes: Eyes) -> None:
    saga_id = await run_order(desk)
    assert await eyes.stream(saga_id) == [
        "saga.started", "step.requested", "step.succeeded", "step.requested", "step.succeeded", "step.requested",
        "step.succeeded", "event.published", "saga.completed",
    ]  # fmt: skip
    assert [row.topic for row in desk.sent] == [
        "inventory.commands", "payment.commands", "shipping.commands", "orders.events",
    ]  # fmt: skip
    (head,) = await eyes.rows("SELECT phase, outcome, ended, version FROM saga_heads")
    assert head == {"phase": "completed", "outcome": "completed", "ended": True, "version": 9}
    assert await eyes.count("timers") == 0
    assert await eyes.count("live_runs") == 0
    assert await eyes.letters() == []


async def test_memory_holds_live_sagas_alone_and_not_too_many(database: Database, eyes: Eyes) -> None:
    async with at_desk(database.url, cache_sagas_max=3) as desk:
        await run_order(desk)
        assert len(desk.coordinator.cache) == 0
        await desk.take(*(event(OrderPlaced(order_id=f"p-{n}")) for n in range(5)))
        assert len(desk.coordinator.cache) == 3
        await desk.take(*(reply(row, Reserved(hold="h")) for row in desk.commands()[-5:]))
    assert [row["version"] for row in await eyes.rows("SELECT version FROM saga_heads WHERE NOT ended")] == [4] * 5


async def test_a_command_says_who_asks_for_what(desk: Desk) -> None:
    await desk.take(event(OrderPlaced(order_id="o-1"), id="first"))
    (row,) = desk.commands()
    header = header_of(row)
    assert (header.saga_id, header.activity, header.round, header.attempt) == (ORDER, "reserve", 1, 1)
    assert (header.id, header.purpose, header.tenant) == (f"{ORDER}/2", "do", "main")
    assert header.key.startswith(f"main:{ORDER}:reserve:1:")
    headers = dict(row.headers)
    assert headers["ce_source"] == b"/sagas/order"
    assert headers["ce_causationid"] == b"first"
    assert headers["ce_type"] == b"orders.Reserve"
    assert headers["ce_dataschema"] == b"urn:contract:orders.Reserve:1"
    assert row.key == ORDER


async def test_all_messages_of_a_saga_are_in_one_trace(desk: Desk, eyes: Eyes) -> None:
    placed = event(OrderPlaced(order_id="o-1"))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    traced = (*placed.headers, ("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode()))
    await desk.take(type(placed)(placed.topic, 0, placed.offset, placed.key, placed.value, traced, 0))
    desk.coordinator.cache.clear()  # the trace is found again in the stream
    await desk.take(reply(desk.newest("inventory"), Reserved(hold="h")))
    traces = {dict(row.headers)["traceparent"].split(b"-")[1].decode() for row in desk.sent}
    spans = [dict(row.headers)["traceparent"].split(b"-")[2] for row in desk.sent]
    assert traces == {trace}
    assert len(set(spans)) == 2


async def test_a_duplicate_start_is_a_no_op(desk: Desk, eyes: Eyes) -> None:
    first = event(OrderPlaced(order_id="o-1"), id="e-1")
    await desk.take(first)
    (same_message,) = await desk.take(first)
    (same_body,) = await desk.take(event(OrderPlaced(order_id="o-1"), id="e-2"))
    assert same_message.fate == "duplicate"
    assert same_body.fate == "nothing"
    assert len(desk.sent) == 1
    assert len(await eyes.stream(ORDER)) == 2
    assert await eyes.letters() == []


async def test_a_duplicate_in_the_same_batch_is_one(desk: Desk, eyes: Eyes) -> None:
    first = event(OrderPlaced(order_id="o-1"), id="e-1")
    outcomes = await desk.take(first, first)
    assert [outcome.fate for outcome in outcomes] == ["applied", "duplicate"]
    assert len(await eyes.stream(ORDER)) == 2


async def test_a_start_with_the_same_id_and_another_body_is_kept_and_changes_nothing(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(OrderPlaced(order_id="o-1"), id="e-1"))
    (other_message,) = await desk.take(event(OrderPlaced(order_id="o-1", amount=2), id="e-1"))
    (other_start,) = await desk.take(event(OrderPlaced(order_id="o-1", amount=3), id="e-2"))
    assert (other_message.fate, other_message.reason) == ("dead", "other_body")
    assert (other_start.fate, other_start.reason) == ("dead", "other_body")
    assert [reason for reason, _ in await eyes.letters()] == ["other_body", "other_body"]
    assert len(await eyes.stream(ORDER)) == 2


async def test_a_whole_saga_in_one_batch_is_one_append(desk: Desk, eyes: Eyes) -> None:
    """A start and its answers read at once: effects of several turns are folded into what is true at the end."""
    await desk.take(event(OrderPlaced(order_id="o-1"), id="e-1"), *foreseen_answers())
    assert (await eyes.stream(ORDER))[-1] == "saga.completed"
    assert await eyes.count("timers") == 0
    assert desk.coordinator.counts["batches"] == 1


def foreseen_answers() -> list[IncomingMessage]:
    """What participants will answer: ids are functions of the saga's id and the versions of its records."""
    found = []
    answers: tuple[tuple[int, str, str, Reply], ...] = (
        (2, "reserve", "inventory", Reserved(hold="h")),
        (4, "charge", "payment", Charged(receipt="r")),
        (6, "ship", "shipping", Done()),
    )
    for version, activity, participant, body in answers:
        header = CommandHeader(f"{ORDER}/{version}", "main", ORDER, activity, 1, 1, "do", "k", "t")
        schema = schema_urn(body.wire_name, 1)
        envelope = reply_envelope(header, participant, "ok", body.wire_name, dataschema=schema)
        found.append(incoming(replies_topic(participant), ORDER, envelope.headers(), body.canonical()))
    return found
