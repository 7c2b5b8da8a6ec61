"""Every process of the product is killed again and again while orders come in. Afterwards the books are opened.

A run in which a process was never killed, or in which nothing but successes happened, would prove nothing and fails.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from events.orders import OrderLine, OrderPlaced
from orchestrator.broker.contract import Broker, OutgoingMessage, open_broker
from orchestrator.cli.serving import migrate_schema, own_schemas
from orchestrator.config import Settings
from orchestrator.messages.envelope import Envelope, schema_urn
from orchestrator.runtime.catalog import Catalog
from tests.crash.history import History, check_undo_order
from tests.crash.processes import Process, product
from tests.databases import Database

WAVE_ORDERS = 20
WAVES_MIN, WAVES_MAX = 15, 200
KILLS_EACH = 5
HEAL_SECONDS_MAX = 120

pytestmark = [pytest.mark.timeout(400)]


@pytest.fixture(params=["postgres", "kafka"])
async def broker_url(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[str]:
    """Where the broker is: the database's own log, or a real Kafka."""
    if request.param == "kafka":
        yield f"kafka://{request.getfixturevalue('kafka')}"
    else:
        yield database.url


def order(key: str, number: int) -> OrderPlaced:
    """One lamp for 12. Every tenth order is refused at another step, so that going back is tried as well."""
    flaws = {0: {"sku": "unicorn"}, 10: {"card": "card-empty"}, 20: {"address": "nowhere 1"}}
    flaw = flaws.get(number % 30, {})
    return OrderPlaced(
        order_id=key,
        customer_id="c-1",
        lines=(OrderLine(sku=flaw.get("sku", "lamp"), quantity=1, unit_price=12),),  # type: ignore[arg-type]
        card=flaw.get("card", "card-gold"),
        address=flaw.get("address", "Main Street 1"),
    )


def message(placed: OrderPlaced) -> OutgoingMessage:
    """The order as the shop publishes it."""
    envelope = Envelope(
        id=placed.order_id, source="/shop", type=placed.wire_name, dataschema=schema_urn(placed.wire_name, 1)
    )
    return OutgoingMessage("orders.events", placed.key().encode(), placed.canonical(), envelope.headers())


async def place(broker: Broker, run: str, storm: asyncio.Task[None]) -> list[str]:
    """Publishes orders in waves for as long as the storm lasts; gives the keys that the broker acknowledged."""
    producer, acknowledged = broker.producer("shop"), []
    await producer.start()
    for wave in range(WAVES_MAX):
        if storm.done() and wave >= WAVES_MIN:
            break
        numbers = range(wave * WAVE_ORDERS, (wave + 1) * WAVE_ORDERS)
        keys = [f"{run}-{number}" for number in numbers]
        results = await producer.send([message(order(key, n)) for key, n in zip(keys, numbers, strict=True)])
        acknowledged += [key for key, error in zip(keys, results, strict=True) if error is None]
        await asyncio.sleep(0.3)
    await producer.stop()
    return acknowledged


async def kill_all_in_turn(processes: dict[str, Process]) -> None:
    """Kills every process several times, at moments and in an order of no pattern, and starts it again."""
    chance = random.Random(20260101)
    victims = list(processes.values()) * KILLS_EACH
    chance.shuffle(victims)
    for victim in victims:
        await asyncio.sleep(chance.random())
        await victim.kill()
        await victim.start()
        if chance.random() < 0.6:
            await victim.ready()


async def test_whatever_is_killed_every_order_ends_once_and_the_books_balance(
    database: Database, broker_url: str, tmp_path: Path
) -> None:
    """V1, V6, V9, V17 and V27 on the shipped processes: coordinator, relay and participants die under load."""
    catalog = Catalog.load(("sagas.orders",))
    await migrate_schema(database.migrate_url, own_schemas(catalog, ("sagas.orders",)))
    run = uuid4().hex[:8]
    environment = {
        "ORCHESTRATOR_DATABASE_URL": database.url,
        "ORCHESTRATOR_BROKER_URL": broker_url,
        "ORCHESTRATOR_SAGAS": "sagas.orders",
        "ORCHESTRATOR_CONSUMER_GROUP": f"crash-{run}",
        "ORCHESTRATOR_TOPIC_PARTITIONS": "4",
    }
    broker = open_broker(broker_url, settings=Settings(topic_partitions=4).broker_settings())
    connection = await asyncpg.connect(database.admin_url)
    history = History(connection)
    try:
        async with product(environment, tmp_path) as processes:
            storm = asyncio.create_task(kill_all_in_turn(processes))
            acknowledged = await place(broker, run, storm)
            await storm
            await _heal(history, acknowledged, processes)
            for process in processes.values():
                assert await process.stop() == 0, process.tail()
        await _open_the_books(history, acknowledged, processes)
    finally:
        await broker.close()
        await connection.close()


async def _heal(history: History, keys: list[str], processes: dict[str, Process]) -> None:
    """No more kills: everything ends by itself within a bounded time."""
    for _ in range(HEAL_SECONDS_MAX * 2):
        if await history.ended(keys) == len(keys):
            return
        for process in processes.values():
            assert process.alive(), f"{process.roles} ended by itself: {process.tail()}"
        await asyncio.sleep(0.5)
    tails = "\n".join(process.tail()[-800:] for process in processes.values())
    pytest.fail(f"not ended:\n{await history.unfinished(keys)}\n{tails}")


async def _open_the_books(history: History, keys: list[str], processes: dict[str, Process]) -> None:
    kills = {process.roles: process.kills for process in processes.values()}
    assert all(count >= KILLS_EACH for count in kills.values()), f"a run with {kills} kills proves nothing"
    orders = await history.orders(keys)
    phases = {phase: sum(one.phase == phase for one in orders) for phase in ("completed", "compensated")}
    assert phases["completed"] >= len(keys) // 2, phases
    assert phases["compensated"] >= len(keys) // 12, phases
    await history.ledgers_balance()
    await history.effects_match(orders)
    for one in orders:
        check_undo_order(one)
