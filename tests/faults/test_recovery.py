"""Every process of the product is killed under load and started again: red until work flows, and soon back in full.

Nobody has given the processes names, as on a first evening: that they find their places again is the product's doing.
Without it Kafka would wait 45 seconds for the dead, which is longer than this test does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from orchestrator.broker.contract import Broker, open_broker
from orchestrator.cli.serving import migrate_schema, own_schemas
from orchestrator.config import Settings
from orchestrator.runtime.catalog import Catalog
from tests.databases import Database
from tests.faults.books import Books
from tests.faults.orders import message, order
from tests.faults.serving import Served

ROLES = ("api,coordinator,relay,timers", "api,participants")
MODULES = ("sagas.orders",)
ORDERS_A_SECOND = 20  # far below what even a busy machine takes
FIRST_ORDERS = 40
BACK_SECONDS_MAX = 35  # wanted: 10; on a machine that does other things as well, and still below Kafka's session
FLOW_SECONDS_MAX = 10  # from green to an order's end
DRAIN_SECONDS_MAX = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass
class Shop:
    """Publishes orders at an even pace; knows which of them the broker has acknowledged, and when."""

    broker: Broker
    run: str
    keys: list[str] = field(default_factory=list)
    ended: bool = False

    async def sell(self) -> None:
        """Goes on until told to stop."""
        producer = self.broker.producer("shop")
        await producer.start()
        while not self.ended:
            began = time.monotonic()
            keys = [f"{self.run}-{len(self.keys) + number}" for number in range(ORDERS_A_SECOND // 4)]
            results = await producer.send([message(order(key)) for key in keys])
            assert set(results) == {None}, results
            self.keys += keys
            await asyncio.sleep(max(0.0, 0.25 - (time.monotonic() - began)))


@asynccontextmanager
async def running(environment: Mapping[str, str], logs: Path) -> AsyncIterator[list[Served]]:
    """All processes of the product, ready; gone afterwards."""
    processes = [Served(roles, environment, logs / f"{number}.log") for number, roles in enumerate(ROLES)]
    try:
        await asyncio.gather(*(process.start() for process in processes))
        await asyncio.gather(*(process.ready() for process in processes))
        yield processes
    finally:
        for process in processes:
            if process.alive():
                await process.kill()


async def first_green(process: Served, address: str, since: float) -> tuple[float, set[str]]:
    """Seconds until /readyz is green, and what it said while it was red. The port comes before the ready line."""
    reds: set[str] = set()
    async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=10) as client:
        while True:
            assert process.alive(), process.tail()
            assert time.monotonic() - since < BACK_SECONDS_MAX, f"{process.roles}: still red: {reds}: {process.tail()}"
            try:
                answer = await client.get("/readyz")
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                return time.monotonic() - since, reds
            assert answer.json()["code"] == "not_ready"
            reds |= {item["detail"].partition(":")[0] for item in answer.json()["errors"]}
            await asyncio.sleep(0.02)


async def back(books: Books, shop: Shop, since: float) -> tuple[float, float]:
    """Seconds until the first order since ends, and until nothing older than a second is left to do."""
    before, first = await books.ended(shop.keys), 0.0
    while True:
        due = shop.keys[: -ORDERS_A_SECOND or None]
        await asyncio.sleep(0.1)
        first = first or (time.monotonic() - since if await books.ended(shop.keys) > before else 0.0)
        if first and await books.ended(due) == len(due):
            return first, time.monotonic() - since
        waited = time.monotonic() - since
        assert waited < BACK_SECONDS_MAX, f"not back after {waited:.0f} s:\n{await books.unfinished(due)}"


async def until_ended(books: Books, shop: Shop, count: int) -> None:
    """Waits until so many orders have ended."""
    over = time.monotonic() + DRAIN_SECONDS_MAX
    while await books.ended(shop.keys) < count:
        assert time.monotonic() < over, await books.unfinished(shop.keys)
        await asyncio.sleep(0.1)


async def test_after_a_kill_of_everything_work_flows_again_at_once_and_green_means_that_it_does(
    database: Database, broker_url: str, tmp_path: Path, record_property: Any
) -> None:
    """And every order that was acknowledged, before, meanwhile and after, ends once."""
    await migrate_schema(database.migrate_url, own_schemas(Catalog.load(MODULES), MODULES))
    environment = {
        "ORCHESTRATOR_DATABASE_URL": database.url,
        "ORCHESTRATOR_BROKER_URL": broker_url,
        "ORCHESTRATOR_SAGAS": ",".join(MODULES),
        "ORCHESTRATOR_DATA_DIR": str(tmp_path / "data"),
        "ORCHESTRATOR_TOPIC_PARTITIONS": "2",
    }
    broker = open_broker(broker_url, settings=Settings(topic_partitions=2).broker_settings())
    connection = await asyncpg.connect(database.admin_url)
    books, shop = Books(connection), Shop(broker, uuid4().hex[:8])
    try:
        async with running(environment, tmp_path) as processes:
            selling = asyncio.create_task(shop.sell())
            try:
                await until_ended(books, shop, FIRST_ORDERS)
                record_property("seconds", await kill_and_restart(processes, books, shop))
            finally:
                shop.ended = True
                await selling
            await until_ended(books, shop, len(shop.keys))
            for process in processes:
                assert await process.stop() == 0, process.tail()
        orders = await books.orders(shop.keys)
        assert {one.phase for one in orders} == {"completed"}
        await books.ledgers_balance()
        await books.effects_match(orders)
    finally:
        await broker.close()
        await connection.close()


async def kill_and_restart(processes: list[Served], books: Books, shop: Shop) -> dict[str, Any]:
    """Kills all at once, starts all at once; what happened when, in seconds since the start."""
    for process in processes:
        await process.kill()
    ports = [process.api.rpartition(":")[2] for process in processes]
    since = time.monotonic()
    for process, port in zip(processes, ports, strict=True):
        process.environment["ORCHESTRATOR_API_PORT"] = port
        await process.start()
    flows = asyncio.create_task(back(books, shop, since))
    greens = await asyncio.gather(*(first_green(process, process.api, since) for process in processes))
    await asyncio.gather(*(process.ready() for process in processes))
    said = time.monotonic() - since
    first, full = await flows
    figures = {"green": [round(green, 1) for green, _ in greens], "ready line": round(said, 1)}
    figures |= {"first order": round(first, 1), "in full": round(full, 1)}
    assert first < max(green for green, _ in greens) + FLOW_SECONDS_MAX, f"green, and nothing ended: {figures}"
    return figures | {"red": [sorted(reds) for _, reds in greens]}
