"""A projection as a loop of a process: it says how it gets on, survives trouble, and reads what others have read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.postgres import PostgresStore
from projections import runner as running
from projections.audit import AuditProjection
from projections.contract import Connection, Facts, FeedRecord, GapError
from projections.feed import Feed
from projections.registry import projections
from projections.runner import Runner
from tests.contracts.stores import begun, start
from tests.databases import Database

SECONDS_MAX = 20


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


class Troubled(AuditProjection):
    """Raises what it is told to, before it writes."""

    error: Exception | None = None

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        if self.error is not None:
            raise self.error
        await super().apply(connection, slot, records, facts)


async def until(what: Callable[[], bool]) -> None:
    """Waits for it."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            if what():
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_projection_that_is_stopped_says_so_and_goes_on_when_it_can(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, blocking: bool
) -> None:
    """A bug in its code ends no process. One that does nothing else is not ready; one that decides stays ready."""
    monkeypatch.setattr(running, "STOPPED_RETRY_MS", 10)
    made, stopping, pulse = Troubled(), Stopping(), Pulse("read-model-audit", 60_000)
    made.error = ZeroDivisionError("a bug")
    runner = Runner(store, Feed(store), made, batch_records=10, poll_ms=10, blocking=blocking)
    await begun(store, start())
    loop = asyncio.create_task(runner.run(stopping, pulse))
    try:
        await until(lambda: bool(runner.stopped))
        assert runner.stopped == "projection audit stopped: ZeroDivisionError: a bug"
        await until(lambda: pulse.detail == (runner.stopped if blocking else ""))
        made.error = None
        await until(lambda: not runner.stopped and not pulse.detail)
    finally:
        stopping.ask()
        await asyncio.wait_for(loop, SECONDS_MAX)


async def test_a_database_that_is_away_is_waited_for(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the projection: the loop says where the trouble is, and takes the records afterwards."""
    monkeypatch.setattr(running, "STANDBY_MS", 10)
    made, stopping, pulse = Troubled(), Stopping(), Pulse("read-model-audit", 60_000)
    made.error = StoreUnavailableError("gone")
    runner = Runner(store, Feed(store), made, batch_records=10, poll_ms=10)
    await begun(store, start())
    loop = asyncio.create_task(runner.run(stopping, pulse))
    try:
        await until(lambda: pulse.detail == "database: gone")
        assert not runner.stopped
        made.error = None
        await until(lambda: not pulse.detail)
    finally:
        stopping.ask()
        await asyncio.wait_for(loop, SECONDS_MAX)
    assert await runner.step() == 0


class Counting(Feed):
    """A feed that counts how often it asks the database."""

    asked = 0

    async def _read(self, position: int, limit: int) -> list[FeedRecord]:
        self.asked += 1
        return await super()._read(position, limit)


async def test_projections_that_stand_at_the_same_place_read_once(store: PostgresStore) -> None:
    """A page is read for all of them; that nothing follows is asked once in a while, not by each."""
    await begun(store, start("K-1"), start("K-2"))
    feed = Counting(store, quiet_ms=60_000)
    runners = [
        Runner(store, feed, made, batch_records=10, poll_ms=10) for made in projections() if made.name != "journeys"
    ]
    assert [await runner.step() for runner in runners] == [2, 2]
    assert feed.asked == 1
    assert [await runner.step() for runner in runners for _ in range(3)] == [0] * 6
    assert feed.asked == 2


async def test_missing_records_stop_a_projection_instead_of_being_passed_over(store: PostgresStore) -> None:
    """Somebody deleted what had a position: that is said, with where."""

    class Holed(Feed):
        async def _read(self, position: int, limit: int) -> list[FeedRecord]:
            rows: list[Any] = await super()._read(position, limit)
            return self.checked(position, rows[1:])

    await begun(store, start("K-1"), start("K-2"))
    with pytest.raises(GapError, match="goes on at position 2 instead of 1"):
        await Runner(store, Holed(store), AuditProjection(), batch_records=10, poll_ms=10).step()
