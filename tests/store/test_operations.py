"""What operators ask the store: numbers up to a limit, many streams at once, and never a whole table."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.store.columns import message_key
from orchestrator.store.contract import DeadLetter, EarlyEvent
from orchestrator.store.operations import SQL, OperationQueries, Waiting
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import SQL as QUERIES
from tests.contracts.stores import append, outgoing, record, start, written
from tests.databases import Database

pytestmark = pytest.mark.asyncio

LIMIT = 50
LOOKED_AT_MAX = 200


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


async def fill(store: PostgresStore, batches: int, sagas: int) -> None:
    """Sagas of one tenant, the first of each batch stuck, with letters and early events."""
    for n in range(batches):
        begun = [start(f"K-{n}-{m}") for m in range(sagas)]
        await written(
            store,
            *(
                append(
                    one,
                    0,
                    records=[record("x")],
                    stuck=int(one is begun[0]),
                    waiting_for="step a",
                    outbox=[outgoing(one, 1)],
                )
                for one in begun
            ),
            dead_letters=[DeadLetter("main", "t", 0, m, None, None, [], "x", "") for m in range(sagas // 4)],
            early=[EarlyEvent("main", "t", f"{n}-{m}", "e", {}, 1) for m in range(sagas // 4)],
        )


async def test_numbers_are_those_of_the_tenant(store: PostgresStore) -> None:
    """By definition and state; nobody else's are counted."""
    await fill(store, 2, 8)
    queries = OperationQueries(store.pools)
    assert await queries.waiting("main") == Waiting(stuck=2, letters=4, early=4)
    assert await queries.waiting("elsewhere") == Waiting(0, 0, 0)
    facets = await queries.facets("main")
    assert sum(facet.sagas for facet in facets) == 16
    assert sum(facet.sagas for facet in facets if facet.is_stuck) == 2
    name = facets[0].name
    assert [(place.waiting_for, place.sagas) for place in await queries.live_by_place("main", name)] == [("step a", 16)]
    assert await queries.facets("elsewhere") == []


async def test_streams_come_whole_and_in_order(store: PostgresStore) -> None:
    """Those asked for, of this tenant."""
    await fill(store, 1, 4)
    queries = OperationQueries(store.pools)
    wanted = [start("K-0-1").saga_id, start("K-0-3").saga_id]
    found = await queries.streams("main", wanted)
    assert sorted(found) == sorted(wanted)
    assert all([one.version for one in stream] == list(range(1, len(stream) + 1)) for stream in found.values())
    assert await queries.streams("elsewhere", wanted) == {}


async def test_nothing_reads_more_than_it_counts(store: PostgresStore, database: Database) -> None:
    """The plans for real values on a filled table."""
    await fill(store, 10, 200)
    owner = await asyncpg.connect(database.migrate_url)
    await owner.execute("ANALYZE")
    await owner.close()
    name = (await OperationQueries(store.pools).facets("main"))[0].name
    values: dict[str, tuple[Any, ...]] = {
        "streams": ("main", [start("K-1-1").saga_id, start("K-2-2").saga_id]),
        "facets": ("main", LIMIT),
        "live_by_place": ("main", name, LIMIT),
        "count_stuck": ("main", LIMIT),
        "count_letters": ("main", LIMIT),
        "count_early": ("main", LIMIT),
        "sent_message": ("main", start("K-1-1").saga_id, 1),
        "taken_in": ("main", message_key("main", "/source", "id")),
    }
    assert values.keys() == SQL.keys()
    async with store.pools.connection("read") as connection:
        await connection.begin()
        await connection.fetch(QUERIES["read_as"], "main")
        for query, args in values.items():
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE) {SQL[query]}", *args))
            looked_at = re.findall(r"rows=([\d.]+) loops|Rows Removed by Filter: (\d+)", plan)
            assert max(float(rows or removed) for rows, removed in looked_at) <= LOOKED_AT_MAX, f"{query}\n{plan}"
        await connection.roll_back()
