"""Orders through the whole product: afterwards goods, money and parcels are counted, order by order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest_asyncio

from events.orders import OrderCancelled, OrderLine, OrderPlaced
from orchestrator.api.engine import Actor, Engine
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.messages import Event
from orchestrator.participants import Pool, load_queries
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from sagas.orders.definition import order_fulfilment
from sagas.orders.participants import inventory, payments, shipping
from tests.databases import Database

SHOP = Actor("shop")
ORDERS = 80
SECONDS_MAX = 60


@dataclass
class Shop:
    """A running product."""

    engine: Engine
    pool: Pool

    async def say(self, events: Sequence[Event]) -> None:
        """Publishes events, as an upstream service would."""
        for event in events:
            await self.engine.emit(event, SHOP, event_id=f"{event.key()}/{type(event).__name__}")

    async def ended(self, orders: Sequence[OrderPlaced]) -> dict[str, str]:
        """How each order ended: completed or compensated."""
        found: dict[str, str] = {}
        async with asyncio.timeout(SECONDS_MAX):
            while len(found) < len(orders):
                for order in orders:
                    saga = (
                        await self.engine.find(order.order_id, tenant="main") if order.order_id not in found else None
                    )
                    if saga is not None and saga.ended:
                        found[order.order_id] = saga.phase
                await asyncio.sleep(0.05)
        return found

    async def rows(self, file: str, query: str) -> list[dict[str, Any]]:
        """Rows of a participant's ledger."""
        participant = {"inventory.sql": inventory, "payments.sql": payments, "shipping.sql": shipping}[file]
        async with participant.own_schema.transaction(self.pool) as connection:
            return [dict(row) for row in await connection.fetch(load_queries("sagas.orders", file)[query])]


@pytest_asyncio.fixture
async def shop(database: Database, pool: Pool) -> AsyncIterator[Shop]:
    """The product with the order saga alone."""
    workers = [inventory, payments, shipping]
    await migrate_schema(database.migrate_url, [worker.own_schema for worker in workers])
    settings = load_settings(database_url=database.url, sagas="sagas.orders", topic_partitions=2, stall_exit_ms=0)
    async with Runtime(settings, catalog=Catalog.of([order_fulfilment], workers)) as runtime:
        running = asyncio.create_task(runtime.run())
        async with Engine(runtime) as engine:
            yield Shop(engine, pool)
        runtime.stop()
        await running


def order(number: int, *, sku: str = "lamp", card: str = "card-gold", address: str = "1 High Street") -> OrderPlaced:
    lines = (
        OrderLine(sku=sku, quantity=number % 3 + 1, unit_price=Decimal("19.90")),
        OrderLine(sku="desk", quantity=1, unit_price=Decimal(150)),
    )
    return OrderPlaced(order_id=f"o-{number:03}", customer_id="ravi", lines=lines, card=card, address=address)


def traffic(chance: random.Random) -> dict[OrderPlaced, str]:
    """Orders of every kind, with the ending that follows from what they say."""
    kinds: list[tuple[dict[str, str], str]] = [
        ({}, "completed"),
        ({"sku": "unicorn"}, "compensated"),
        ({"sku": "dragon"}, "compensated"),
        ({"card": "card-empty"}, "compensated"),
        ({"card": "card-stolen"}, "compensated"),
        ({"address": "nowhere at all"}, "compensated"),
        ({"address": "3 Lost Lane"}, "compensated"),
    ]
    return {
        order(number, **options): ending
        for number in range(ORDERS)
        for options, ending in [kinds[0] if chance.random() < 0.4 else chance.choice(kinds)]
    }


async def test_every_order_ends_as_it_says_and_every_ledger_agrees(shop: Shop) -> None:
    expected = traffic(random.Random(11))
    events: list[Event] = list(expected)
    await shop.say([*events, *events[:20]])  # an upstream that repeats itself
    ended = await shop.ended(list(expected))
    assert ended == {placed.order_id: ending for placed, ending in expected.items()}
    assert set(ended.values()) == {"completed", "compensated"}
    await _counted(shop, {placed.order_id: placed for placed in expected}, ended)


async def test_cancelled_orders_leave_nothing_behind(shop: Shop) -> None:
    """A cancellation may come at any moment; whichever way it goes, the ledgers agree with the outcome."""
    orders = [order(number) for number in range(30)]
    chance = random.Random(5)
    saying: list[Event] = []
    for placed in orders:
        saying += [placed, OrderCancelled(order_id=placed.order_id, reason="changed my mind")]

    async def say_late(event: Event) -> None:
        await asyncio.sleep(chance.random() * 0.4 if isinstance(event, OrderCancelled) else 0)
        await shop.say([event])

    await asyncio.gather(*map(say_late, saying))
    ended = await shop.ended(orders)
    await _counted(shop, {placed.order_id: placed for placed in orders}, ended)


async def _counted(shop: Shop, orders: dict[str, OrderPlaced], ended: dict[str, str]) -> None:
    """What each order holds, has paid and was sent: all of it, or nothing; and each ledger agrees with itself."""
    for file in ("inventory.sql", "payments.sql", "shipping.sql"):
        assert await shop.rows(file, "prove") == []
    held = {row["order_id"]: row["held"] for row in await shop.rows("inventory.sql", "per_order")}
    paid = {row["order_id"]: row["paid"] for row in await shop.rows("payments.sql", "per_order")}
    sent = {row["order_id"]: row for row in await shop.rows("shipping.sql", "per_order")}
    for order_id, placed in orders.items():
        done = ended[order_id] == "completed"
        assert held.get(order_id, 0) == (sum(line.quantity for line in placed.lines) if done else 0)
        assert paid.get(order_id, 0) == (placed.total if done else 0)
        legs = sent.get(order_id, {"booked": 0, "cancelled": 0, "handed_over": 0})
        assert legs["handed_over"] == int(done)
        assert legs["booked"] == legs["cancelled"] + legs["handed_over"]


async def test_the_proof_finds_a_piece_that_is_missing(shop: Shop) -> None:
    """A proof that cannot fail proves nothing."""
    async with inventory.own_schema.transaction(shop.pool) as connection:
        await connection.execute("UPDATE stock SET available = available - 1 WHERE sku = 'lamp'")
    assert [row["sku"] for row in await shop.rows("inventory.sql", "prove")] == ["lamp"]
