"""What goes when its time is over, and what must never go."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.kernel.effects import Subscription, TaskRow, Timer
from orchestrator.store.contract import DeadLetter, EarlyEvent
from orchestrator.store.maintenance import DAY_MS, Kept, Maintenance
from orchestrator.store.postgres import PostgresStore
from tests.contracts.stores import append, claimed, message, outgoing, start, written
from tests.databases import Database

YEAR_US = 365 * DAY_MS * 1000


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


@pytest_asyncio.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The owner's connection, for turning back clocks."""
    connection = await asyncpg.connect(database.migrate_url)
    yield connection
    await connection.close()


async def fill(store: PostgresStore) -> None:
    """One thing of every kind that is kept for a while."""
    saga = start()
    letters = [DeadLetter("main", "t", 0, n, None, b"x", [], "unreadable", "") for n in (1, 2)]
    task = TaskRow("task", 1, {"to": [{"role": "manager"}]})
    row = append(saga, 0, "a", "b", outbox=[outgoing(saga, 1), outgoing(saga, 2)], tasks_open=[task], consumed=["e\n1"])
    early = [EarlyEvent("main", "t", "k", "e\n1", {}, 1), EarlyEvent("main", "t", "k", "e\n2", {}, 1)]
    await written(store, row, messages=[message("m-1")], early=early, dead_letters=letters)
    await written(store, append(saga, 2, "c", tasks_closed=[("task", "decided")]), redriven=[1])
    await store.mark_sent([(saga.saga_id, 1)])


class TestTrimming:
    async def test_what_is_young_stays(self, store: PostgresStore) -> None:
        """However often somebody trims."""
        await fill(store)
        maintenance = Maintenance(store.pools)
        assert [await maintenance.trim() for _ in range(3)] == [0, 0, 0]

    async def test_what_is_old_goes_but_nothing_that_is_still_needed(
        self, store: PostgresStore, owner: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        """An unsent message, a letter that waits, an open task and every record stay for ever."""
        await fill(store)
        other = start("K-2")
        await written(store, append(other, 0, "a", tasks_open=[TaskRow("task", 1, {"to": []})]))
        await self.age(owner)
        maintenance = Maintenance(store.pools)
        while await maintenance.trim():
            pass
        assert maintenance.trimmed == {
            "inbox": 1, "outbox": 1, "tasks": 1, "early_events": 2, "consumed_events": 1, "dead_letters": 1,
        }  # fmt: skip
        assert [row.version for row in await store.unsent(0, 1, 10)] == [2]
        assert [record.position async for record in store.records(0, 10)] == [1, 2, 3, 4]
        assert (await claimed(store, messages=[message("m-1")]))[1] == ["new"]
        counts = {table: await owner.fetchval(f"SELECT count(*) FROM {table}") for table in ("tasks", "dead_letters")}
        assert counts == {"tasks": 1, "dead_letters": 1}

    async def test_who_took_an_event_is_remembered_while_the_event_is(
        self, store: PostgresStore, owner: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        """Otherwise a rerun would take it again."""
        await fill(store)
        await owner.execute("UPDATE consumed_events SET consumed_at = 1")
        await Maintenance(store.pools).trim()
        assert await owner.fetchval("SELECT count(*) FROM consumed_events") == 1

    async def test_large_tables_are_trimmed_slice_by_slice(
        self, store: PostgresStore, owner: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        """A pass looks at some blocks and goes on there; after one round nothing old is left."""
        for batch in range(10):
            await claimed(store, messages=[message(f"m-{batch}-{n}") for n in range(300)])
        await owner.execute("UPDATE inbox SET received_at = 1")
        maintenance = Maintenance(store.pools, blocks_per_pass=8)
        passes = [await maintenance.trim() for _ in range(20)]
        assert sum(passes) == 3_000
        assert max(passes) < 1_500
        assert await owner.fetchval("SELECT count(*) FROM inbox") == 0

    def test_times_that_would_break_a_promise_are_refused(self) -> None:
        """An event must not outlive the note of who took it."""
        with pytest.raises(ValueError, match="taken twice"):
            Kept(consumed_events_ms=DAY_MS)
        with pytest.raises(ValueError, match="inbox_ms is 0"):
            Kept(inbox_ms=0)

    @staticmethod
    async def age(owner: asyncpg.Connection[asyncpg.Record]) -> None:
        """Makes everything a year older."""
        await owner.execute(
            f"""UPDATE inbox SET received_at = received_at - {YEAR_US};
                UPDATE outbox SET written_at = written_at - {YEAR_US};
                UPDATE tasks SET opened_at = opened_at - {YEAR_US}, closed_at = closed_at - {YEAR_US};
                UPDATE early_events SET kept_at = kept_at - {YEAR_US};
                UPDATE consumed_events SET consumed_at = consumed_at - {YEAR_US};
                UPDATE dead_letters SET kept_at = kept_at - {YEAR_US}, redriven_at = redriven_at - {YEAR_US};"""
        )


class TestTheSecurityLog:
    async def test_the_oldest_rows_go_and_the_log_says_so(
        self, store: PostgresStore, owner: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        """By the setting, in passes, and told once a pass."""
        await self.fill(owner, *[800] * 3, 500, 1)
        maintenance = Maintenance(store.pools, Kept(security_log_ms=700 * DAY_MS))
        assert [await maintenance.trim() for _ in range(2)] == [3, 0]
        rows = await owner.fetch("SELECT actor, action, object, outcome FROM security_log ORDER BY id")
        assert [row["actor"] for row in rows] == ["ada", "ada", "system"]
        assert (rows[-1]["action"], rows[-1]["outcome"]) == ("security.trim", "allowed")
        assert rows[-1]["object"].startswith("3 rows from before ")
        assert maintenance.trimmed["security_log"] == 3

    async def test_no_setting_takes_what_the_owner_keeps(
        self, store: PostgresStore, owner: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        """A process that was taken over asks for everything to go, and cannot change what stays."""
        await self.fill(owner, 200, 170, 1)
        assert await Maintenance(store.pools, Kept(security_log_ms=1)).trim() == 1
        await owner.execute("UPDATE retention SET least = '5 years'")
        await self.fill(owner, 1_000)
        assert await Maintenance(store.pools, Kept(security_log_ms=1)).trim() == 0
        await owner.execute("DELETE FROM retention")
        assert await Maintenance(store.pools, Kept(security_log_ms=1)).trim() == 0

    async def test_the_application_can_neither_delete_nor_shorten(
        self, store: PostgresStore, database: Database
    ) -> None:
        """By privilege."""
        connection = await asyncpg.connect(database.url)
        try:
            for statement in (
                "DELETE FROM security_log", "UPDATE security_log SET actor = 'x'", "TRUNCATE security_log",
                "UPDATE retention SET least = '1 day'", "DELETE FROM retention",
                "INSERT INTO retention VALUES ('x', '1 day')",
                "DROP FUNCTION trim_security_log(bigint, int)",
            ):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()

    @staticmethod
    async def fill(owner: asyncpg.Connection[asyncpg.Record], *days: int) -> None:
        """One row for each age."""
        await owner.executemany(
            """INSERT INTO security_log (at, tenant, actor, authentication, action, object, outcome, status, code,
                                         request_id, address)
               VALUES (clock_timestamp() - $1 * interval '1 day', 'main', 'ada', '', 'x', '', 'allowed', 200, '', '',
                       '')""",
            [(count,) for count in days],
        )


class TestOrphans:
    async def test_only_a_live_saga_that_waits_for_nothing_is_an_orphan(self, store: PostgresStore) -> None:
        """Every other kind of waiting counts, one by one."""
        waiting: dict[str, dict[str, Any]] = {
            "timer": {"timers_set": [Timer("t", 1, 1)]},
            "wait": {"waits_opened": [Subscription("w", "t", "k", 0)]},
            "task": {"tasks_open": [TaskRow("t", 1, {})]},
            "resume": {"resume": True},
            "message": {"outbox": [outgoing(start("message"), 1)]},
            "stuck": {"stuck": 1},
            "ended": {"ended": True},
            "orphan": {},
            "other orphan": {},
        }
        await written(store, *(append(start(key), 0, "x", **fields) for key, fields in waiting.items()))
        parent, child = start("parent"), start("child")
        await written(store, append(parent, 0, "x"), append(child, 0, "x", resume=True, parent=parent.saga_id))
        orphans = sorted(start(key).saga_id for key in ("orphan", "other orphan"))
        assert await Maintenance(store.pools).orphans() == orphans
        slices = Maintenance(store.pools, sagas_per_look=3)
        found = [await slices.orphans() for _ in range(4)]
        assert sorted(saga_id for slice_ in found for saga_id in slice_) == orphans
        await written(store, append(child, 1, "x", ended=True), resumes_done=[child.saga_id])
        assert parent.saga_id in await Maintenance(store.pools).orphans()
        await store.mark_sent([(start("message").saga_id, 1)])
        assert start("message").saga_id in await Maintenance(store.pools).orphans()
