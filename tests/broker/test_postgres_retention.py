"""Old messages go, but none that a group may still want, and never so that a reader would jump over them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from orchestrator.broker.contract import PositionLostError, TopicSpec
from orchestrator.broker.postgres import PostgresBroker
from orchestrator.broker.postgres_database import SQL
from tests.contracts.brokers import (
    QUICK,
    Positions,
    PostgresSite,
    consuming,
    new_topic,
    numbered,
    numbers,
    opened,
    read,
    send,
)
from tests.databases import Database


@pytest.fixture
def site(database: Database) -> PostgresSite:
    """A fresh database."""
    return PostgresSite(database)


@pytest.fixture
async def connection(database: Database) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The owner's connection, to make messages old and to look."""
    connection = await asyncpg.connect(database.migrate_url)
    yield connection
    await connection.close()


async def test_retention_deletes_what_is_old_and_read(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(site) as broker:
        assert isinstance(broker, PostgresBroker)
        topic, group, positions = "old", "g", Positions()
        await broker.ensure_topics([TopicSpec(topic, 1, retention_ms=3_600_000)])
        await send(broker, numbered(topic, 10))
        async with consuming(broker, [topic], group=group, positions=positions) as consumer:
            positions.keep(await read(consumer, 6))
            await consumer.commit(positions.stored)
            await broker.trim()
            assert await _left(connection) == list(range(10)), "nothing is old yet"
            await connection.execute("UPDATE broker_message SET appended_at = appended_at - 3600000000 * 2")
            await broker.trim()
            assert await _left(connection) == [6, 7, 8, 9], "what a group has not read stays"
            assert numbers(await read(consumer, 4)) == [6, 7, 8, 9]
        async with consuming(broker, [topic]) as consumer:
            assert numbers(await read(consumer, 4)) == [6, 7, 8, 9], "a first start begins at what is left"
            await connection.execute("UPDATE broker_message SET appended_at = appended_at - 3600000000 * 3")
            await broker.trim()
            assert await _left(connection) == [], "four times the retention is the end, read or not"
        async with consuming(broker, [topic], group=group, positions=Positions({(topic, 0): 6})) as consumer:
            with pytest.raises(PositionLostError):
                await read(consumer, 1)


async def test_retention_works_through_a_backlog_in_bounded_steps(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Also after a crash between moving the start and deleting."""
    async with opened(site, replace(QUICK, postgres_trim_rows_max=4)) as broker:
        assert isinstance(broker, PostgresBroker)
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 10))
        await connection.execute("UPDATE broker_message SET appended_at = 0 WHERE log_offset < 9")
        await connection.execute(SQL["advance_start"].replace("$1", "4").replace("$2", "4"))
        await broker.trim()
        assert await _left(connection) == [4, 5, 6, 7, 8, 9]
        for _ in range(3):
            await broker.trim()
        assert await _left(connection) == [9]


async def test_retention_runs_by_itself(site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    async with opened(site, replace(QUICK, postgres_trim_interval_ms=50)) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 3))
        await connection.execute("UPDATE broker_message SET appended_at = 0")
        async with consuming(broker, [topic], positions=Positions({(topic, 0): 3})) as consumer, asyncio.timeout(60):
            while await _left(connection):
                await consumer.fetch(1, 50)


async def _left(connection: "asyncpg.Connection[asyncpg.Record]") -> list[int]:
    return [row[0] for row in await connection.fetch("SELECT log_offset FROM broker_message ORDER BY log_offset")]
