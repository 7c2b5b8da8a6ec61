"""Warehouse, payment service and carrier: what they refuse, and that goods and money can be counted afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from events.orders import (
    CancelShipment,
    ChargePayment,
    ConfirmShipment,
    InventoryReserved,
    OrderShipped,
    PaymentCharged,
    Quantity,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipOrder,
)
from orchestrator.participants import load_queries
from orchestrator.participants.testing import Answered, Trial, command_message, incoming, trial
from orchestrator.participants.work import Pool
from sagas.orders.participants import inventory, payments, shipping
from tests.databases import Database


@pytest_asyncio.fixture
async def warehouse(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """The participant inventory."""
    async with trial(inventory, pool, database.migrate_url) as tried:
        yield tried


@pytest_asyncio.fixture
async def till(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """The participant payments."""
    async with trial(payments, pool, database.migrate_url) as tried:
        yield tried


@pytest_asyncio.fixture
async def carrier(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """The participant shipping."""
    async with trial(shipping, pool, database.migrate_url) as tried:
        yield tried


def order(*lines: tuple[str, int], order_id: str = "o-1") -> ReserveInventory:
    return ReserveInventory(order_id=order_id, lines=tuple(Quantity(sku=sku, quantity=many) for sku, many in lines))


async def free(warehouse: Trial, sku: str) -> int:
    [row] = await warehouse.rows("SELECT available FROM stock WHERE sku = $1", sku)
    return int(row["available"])


async def proved(tried: Trial, file: str) -> bool:
    """The ledger agrees with itself: the query that looks for contradictions finds none."""
    return await tried.rows(load_queries("sagas.orders", file)["prove"]) == []


# --- inventory --------------------------------------------------------------------------------------------------------


async def test_an_order_is_set_aside_and_put_back(warehouse: Trial) -> None:
    before = await free(warehouse, "lamp")
    reserved = await warehouse.ask(order(("lamp", 2), ("desk", 1), ("lamp", 1)))
    assert isinstance(reserved.reply, InventoryReserved)
    assert await free(warehouse, "lamp") == before - 3
    back = ReleaseInventory(reservation_id=reserved.reply.reservation_id)
    assert (await warehouse.undo(back, reserved)).outcome == "ok"
    assert await free(warehouse, "lamp") == before
    assert await proved(warehouse, "inventory.sql")


@pytest.mark.parametrize(
    ("lines", "code"),
    [([("lamp", 1), ("unicorn", 1)], "out_of_stock"), ([("lamp", 1), ("dragon", 1)], "unknown_sku")],
)
async def test_an_order_is_set_aside_whole_or_not_at_all(
    warehouse: Trial, lines: list[tuple[str, int]], code: str
) -> None:
    before = await free(warehouse, "lamp")
    assert (await warehouse.ask(order(*lines))).code == code
    assert await free(warehouse, "lamp") == before
    assert await warehouse.rows("SELECT * FROM movements") == []


async def test_the_last_piece_goes_to_one_order(warehouse: Trial, database: Database) -> None:
    """Within one batch, and among batches of several processes."""
    await warehouse.rows("UPDATE stock SET received = 3, available = 3 WHERE sku = 'chair' RETURNING sku")
    wishes = [order(("chair", 1), order_id=f"o-{number}") for number in range(4)]
    answers = await warehouse.ask_all(wishes)
    assert [answer.outcome for answer in answers] == ["ok", "ok", "ok", "refused"]
    assert await free(warehouse, "chair") == 0
    assert await proved(warehouse, "inventory.sql")


async def test_many_processes_at_once_never_promise_more_than_there_is(warehouse: Trial) -> None:
    await warehouse.rows("UPDATE stock SET received = 25, available = 25 WHERE sku IN ('chair', 'desk') RETURNING sku")
    chance = random.Random(3)
    batches = []
    for batch in range(8):
        wishes = []
        for number in range(10):
            lines = [(sku, chance.randint(1, 2)) for sku in chance.sample(["chair", "desk", "lamp"], 2)]
            wishes.append(incoming(command_message(order(*lines), saga=f"s-{batch}-{number}")))
        batches.append(wishes)
    answers = [one for batch in await asyncio.gather(*map(warehouse.deliver, batches)) for one in batch]
    assert {answer.outcome for answer in answers} == {"ok", "refused"}
    assert await free(warehouse, "chair") >= 0
    assert await proved(warehouse, "inventory.sql")


async def test_a_reservation_nobody_knows_is_refused_and_none_comes_back_twice(warehouse: Trial) -> None:
    assert (await warehouse.ask(ReleaseInventory(reservation_id="R-0"))).code == "unknown_reservation"
    reserved = await warehouse.ask(order(("lamp", 2)))
    assert isinstance(reserved.reply, InventoryReserved)
    back = ReleaseInventory(reservation_id=reserved.reply.reservation_id)
    first, second = await warehouse.ask_all([back, back])
    assert sorted([first.outcome, second.outcome]) == ["error", "ok"]
    assert await proved(warehouse, "inventory.sql")


# --- payments ---------------------------------------------------------------------------------------------------------


def bill(card: str, amount: str = "189.80") -> ChargePayment:
    return ChargePayment(order_id="o-1", customer_id="ravi", card=card, amount=Decimal(amount), currency="EUR")


async def test_a_card_is_charged_and_refunded_in_full(till: Trial) -> None:
    charged = await till.ask(bill("card-blue"))
    assert isinstance(charged.reply, PaymentCharged)
    assert charged.reply.amount == Decimal("189.80")
    assert (await till.undo(RefundPayment(charge_id=charged.reply.charge_id), charged)).outcome == "ok"
    [paid] = await till.rows(load_queries("sagas.orders", "payments.sql")["per_order"])
    assert paid == {"order_id": "o-1", "paid": Decimal("0.00"), "charges": 1, "refunds": 1}
    assert await proved(till, "payments.sql")


@pytest.mark.parametrize(
    ("card", "amount", "code"),
    [("card-stolen", "1.00", "unknown_card"), ("card-empty", "0.01", "declined"), ("card-blue", "500.01", "declined")],
)
async def test_a_card_is_refused_for_what_the_order_says(till: Trial, card: str, amount: str, code: str) -> None:
    """So that sample traffic ends the same way each time."""
    assert (await till.ask(bill(card, amount))).code == code
    assert await till.rows("SELECT * FROM entries") == []


async def test_a_charge_nobody_knows_is_not_refunded(till: Trial) -> None:
    assert (await till.ask(RefundPayment(charge_id="C-0"))).code == "unknown_charge"


# --- shipping ---------------------------------------------------------------------------------------------------------


def parcel(address: str = "1 High Street") -> ShipOrder:
    return ShipOrder(order_id="o-1", reservation_id="R-1", address=address)


async def shipped(carrier: Trial, address: str = "1 High Street") -> tuple[Answered, str]:
    booked = await carrier.ask(parcel(address), saga=address)
    assert isinstance(booked.reply, OrderShipped)
    return booked, booked.reply.shipment_id


async def test_a_parcel_is_handed_over_and_then_nobody_can_stop_it(carrier: Trial) -> None:
    booked, shipment = await shipped(carrier)
    assert (await carrier.ask(ConfirmShipment(order_id="o-1", shipment_id=shipment))).outcome == "ok"
    assert (await carrier.undo(CancelShipment(shipment_id=shipment), booked)).code == "already_handed_over"
    assert await proved(carrier, "shipping.sql")


async def test_a_cancelled_parcel_is_not_handed_over(carrier: Trial) -> None:
    booked, shipment = await shipped(carrier)
    assert (await carrier.undo(CancelShipment(shipment_id=shipment), booked)).outcome == "ok"
    assert (await carrier.ask(ConfirmShipment(order_id="o-1", shipment_id=shipment))).code == "already_cancelled"
    assert await proved(carrier, "shipping.sql")


async def test_addresses_decide_what_happens(carrier: Trial) -> None:
    assert (await carrier.ask(parcel("the middle of Nowhere"))).code == "no_carrier"
    _, shipment = await shipped(carrier, "2 Lost Lane")
    assert (await carrier.ask(ConfirmShipment(order_id="o-1", shipment_id=shipment))).code == "lost"


async def test_a_shipment_nobody_knows_is_refused(carrier: Trial) -> None:
    assert (await carrier.ask(ConfirmShipment(order_id="o-1", shipment_id="S-0"))).code == "unknown_shipment"
