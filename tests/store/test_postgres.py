"""What only PostgreSQL can promise: privileges, tenants, plans, bloat, and upgrades of a database that is in use."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.kernel.effects import Subscription, TaskRow, Timer
from orchestrator.store.batch import SQL as BATCH_SQL
from orchestrator.store.chain import verify
from orchestrator.store.connections import Connection, ConnectionLimits
from orchestrator.store.contract import BatchWrite, EarlyEvent
from orchestrator.store.migrate import MIGRATIONS, migrate
from orchestrator.store.postgres import SQL as WORK_SQL
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries
from tests.contracts.stores import append, begun, claimed, message, outgoing, start, written
from tests.databases import Database

# Statements that may read a whole table, because it holds only what is due now, or one row per partition.
READ_WHOLE = {"due_resumes", "open_checks", "read_until"}


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


@pytest_asyncio.fixture
async def app(database: Database) -> AsyncIterator[Connection]:
    """A bare connection of the application's role: what an intruder in the process would have."""
    connection = await asyncpg.connect(database.url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection of the tables' owner."""
    connection = await asyncpg.connect(database.migrate_url)
    yield connection
    await connection.close()


class TestPrivileges:
    @pytest.mark.parametrize("table", ["records", "records_stored", "feed_sealed", "definitions"])
    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE {} SET {} = {}",
            "DELETE FROM {}",
            "TRUNCATE {}",
            "ALTER TABLE {} DISABLE TRIGGER ALL",
            "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
            "DROP TABLE {}",
            "CREATE INDEX ON {} ({})",
        ],
    )
    async def test_the_application_cannot_rewrite_the_audit_trail(
        self, app: Connection, table: str, statement: str
    ) -> None:
        """It adds lines, and that is all."""
        column = {"feed_sealed": "last_seq", "definitions": "hash"}.get(table, "body")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.execute(statement.format(table, column, column))

    async def test_an_own_copy_of_the_rows_is_no_way_around(self, app: Connection, store: PostgresStore) -> None:
        """The partition behind the records can be added to, not read: reading goes past row level security."""
        await begun(store, start())
        assert await app.fetchval("SELECT count(*) FROM records") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await app.fetchval("SELECT count(*) FROM records_stored")

    async def test_one_version_of_a_saga_exists_once_whatever_else_fails(self, app: Connection) -> None:
        """The last line: the primary key, against a writer that ignores every lock."""
        insert = "INSERT INTO records (seq, version, saga_id, tenant, hash, body) VALUES ($1, 1, 's', 'main', '', '')"
        await app.execute(insert, 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            await app.execute(insert, 2)


async def test_marking_what_this_process_wrote_or_read_searches_for_nothing(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search goes through all that is unsent: dear exactly when much is under way."""
    monkeypatch.setitem(WORK_SQL, "sequence_of", "SELECT 1 / 0")
    mine, read = start("K-1"), start("K-2")
    await written(store, append(mine, 0, "x", outbox=[outgoing(mine, 1)]))
    await store.mark_sent([(mine.saga_id, 1)])
    async with PostgresStore(store.pools._url) as other:
        await written(other, append(read, 0, "x", outbox=[outgoing(read, 1)]))
    assert len(await store.unsent(0, 1, 10)) == 1
    await store.mark_sent([(read.saga_id, 1)])
    assert await store.unsent(0, 1, 10) == []


class TestTenants:
    async def test_a_session_of_one_tenant_sees_nothing_of_another(self, store: PostgresStore, app: Connection) -> None:
        """Row level security, below every condition that a query might forget."""
        for tenant in ("T1", "T2"):
            saga = start(tenant=tenant)
            effects = {
                "waits_opened": [Subscription("w", "t", "k", 0)],
                "tasks_open": [TaskRow("t", 1, {"to": [{"role": "manager"}]})],
                "consumed": ["e\n1"],
            }
            early = [EarlyEvent(tenant, "t", "k", "e\n1", {}, 1)]
            await written(store, append(saga, 0, "x", **effects), early=early)
        tables = [
            row[0]
            for row in await app.fetch(
                "SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant' "
                "AND table_schema = current_schema() AND table_name NOT LIKE '%\\_stored' ORDER BY 1"
            )
        ]
        assert len(tables) >= 9
        for table in tables:
            everything = await app.fetchval(f"SELECT count(*) FROM {table}")
            await app.execute("SET orchestrator.tenant = 'T1'")
            assert await app.fetchval(f"SELECT count(*) FROM {table} WHERE tenant <> 'T1'") == 0, table
            assert await app.fetchval(f"SELECT count(*) FROM {table}") * 2 == everything, table
            await app.execute("RESET orchestrator.tenant")

    async def test_a_session_of_one_tenant_changes_nothing_of_another(
        self, store: PostgresStore, app: Connection
    ) -> None:
        """Neither by finding its rows nor by naming it in new ones."""
        await begun(store, start(tenant="T2"))
        await app.execute("SET orchestrator.tenant = 'T1'")
        assert await app.execute("UPDATE saga_heads SET phase = 'completed'") == "UPDATE 0"
        assert await app.execute("DELETE FROM live_runs") == "DELETE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await app.execute("INSERT INTO live_runs VALUES ('T2', 'n', 'k', 's')")


class TestCosts:
    async def test_every_statement_of_a_batch_goes_by_an_index(self, store: PostgresStore) -> None:
        """In the plan that the coordinator's sessions really use; a whole table read would show under load only."""
        async with store.pools.connection("batch") as connection:
            for name, sql in {**BATCH_SQL, **WORK_SQL}.items():
                values = ", ".join(["NULL"] * max([0, *map(int, re.findall(r"\$(\d+)", sql))]))
                await connection.execute(f"PREPARE {name} AS {sql}")
                rows = await connection.fetch(f"EXPLAIN EXECUTE {name}" + (f" ({values})" if values else ""))
                plan = "\n".join(row[0] for row in rows)
                if name not in READ_WHOLE:
                    assert "Seq Scan" not in plan, f"{name}\n{plan}"
                assert "Hash Join" not in plan, f"{name}\n{plan}"

    async def test_a_turn_updates_its_head_in_place(self, store: PostgresStore, owner: Connection) -> None:
        """No index entry and no dead row stays behind (HOT), or heads and their indexes would grow with every turn."""
        sagas = [start(f"K-{n}") for n in range(50)]
        await begun(store, *sagas)
        for version in range(1, 40):
            await written(store, *(append(saga, version, "x", waiting_for=f"step {version}") for saga in sagas))
        await store.close()
        await owner.execute("SELECT pg_stat_force_next_flush()")
        row = await owner.fetchrow("SELECT * FROM pg_stat_user_tables WHERE relname = 'saga_heads'")
        assert row is not None
        assert row["n_tup_upd"] == 50 * 40
        assert row["n_tup_hot_upd"] / row["n_tup_upd"] > 0.9
        assert await owner.fetchval("SELECT pg_relation_size('saga_heads')") < 200_000

    async def test_recorded_times_never_go_back_when_the_clock_does(
        self, store: PostgresStore, owner: Connection
    ) -> None:
        """The head is ahead of the clock; the next record has the head's time, not the clock's."""
        saga = start()
        await begun(store, saga)
        ahead = 4_000_000_000_000_000
        await owner.execute("UPDATE saga_heads SET recorded_at = $1", ahead)
        await written(store, append(saga, 1, "x"))
        async with store.batch() as batch:
            stream = (await batch.streams([saga.saga_id]))[saga.saga_id]
            heads, _ = await batch.claim([saga.saga_id], [], [])
        assert stream[-1].recorded_at == heads[saga.saga_id].recorded_at == ahead

    async def test_messages_that_another_process_read_can_be_marked_too(
        self, store: PostgresStore, database: Database
    ) -> None:
        """A relay that was restarted between sending and marking."""
        saga = start()
        await written(store, append(saga, 0, "x", "y", outbox=[outgoing(saga, 1), outgoing(saga, 2)]))
        async with PostgresStore(database.url) as restarted:
            await restarted.mark_sent([(saga.saga_id, 1), (saga.saga_id, 9)])
        assert [row.version for row in await store.unsent(0, 1, 10)] == [2]

    @pytest.mark.parametrize(("shard", "shards"), [(-1, 2), (2, 2), (0, 0), (0, 2000)])
    async def test_shards_that_would_miss_sagas_are_refused(
        self, store: PostgresStore, shard: int, shards: int
    ) -> None:
        """Silently, their messages would never be sent."""
        with pytest.raises(ValueError, match="shards must be 1 to 1024"):
            await store.unsent(shard, shards, 1)


class TestPooler:
    async def test_a_store_behind_a_transaction_pooler_keeps_nothing_in_the_session(self, database: Database) -> None:
        """Neither prepared statements nor settings: each transaction brings its own limits, a lone statement too."""
        limits = ConnectionLimits(prepared_statements=False, lock_timeout_ms=1_234)
        saga = start()
        async with PostgresStore(database.url, limits) as store:
            row = append(saga, 0, "x", outbox=[outgoing(saga, 1)], timers_set=[Timer("t", 1, 1)])
            await written(store, row, messages=[message(f"m-{n}") for n in range(50)])
            async with store.batch() as batch:
                await batch.claim([saga.saga_id], [], [])
                (limit,) = await batch._connection.fetchrow("SELECT current_setting('lock_timeout')")
                await batch.write(BatchWrite([append(saga, 1, "y")]))
            async with store.pools.connection("work") as connection:
                (alone,) = await connection.fetchrow("SELECT current_setting('lock_timeout')")
                (session,) = await connection._raw.fetchrow("SELECT current_setting('lock_timeout')")
                kept = await connection._raw.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''")
            assert (limit, alone, session) == ("1234ms", "1234ms", "0")
            assert kept == []
            assert [found.version for found in await store.unsent(0, 1, 10)] == [1]
            await store.mark_sent([(saga.saga_id, 1)])
            assert await store.due_timers(None, 10) == [(saga.saga_id, "t", 1)]
            assert [found.position async for found in store.records(0, 10)] == [1, 2]
            assert [found.saga_id for found in (await ReadQueries(store.pools).sagas("main")).items] == [saga.saga_id]


class TestUpgrade:
    async def test_a_filled_database_survives_the_migrations_after_its_first(
        self, empty_database: Database, tmp_path: Path
    ) -> None:
        """Everything that was there is read again, sealed as it was, and goes on."""
        for name in ("0001_store.sql", "0003_small_batches.sql", "grants.sql"):
            (tmp_path / name).write_bytes((MIGRATIONS / name).read_bytes())
        await migrate(empty_database.migrate_url, tmp_path)
        sagas = [start(f"K-{n}") for n in range(30)]
        async with PostgresStore(empty_database.url) as store:
            for version in range(10):
                appends = [
                    append(s, version, "x", outbox=[outgoing(s, version + 1)], timers_set=[Timer("t", 1, version + 1)])
                    for s in sagas
                ]
                await written(store, *appends, messages=[message(f"m-{version}-{n}") for n in range(30)])
            before = [record async for record in store.records(0, 1_000)]
        await migrate(empty_database.migrate_url)
        async with PostgresStore(empty_database.url) as store:
            assert [record async for record in store.records(0, 1_000)] == before
            assert len(await store.unsent(0, 1, 1_000)) == 300
            assert len(await store.due_timers(None, 1_000)) == 30
            heads, fates = await claimed(store, *(s.saga_id for s in sagas), messages=[message("m-3-7")])
            assert fates == ["seen"]
            async with store.batch() as batch:
                heads, _ = await batch.claim([saga.saga_id for saga in sagas], [], [])
                streams = await batch.streams(list(heads))
                for saga_id, head in heads.items():
                    found = verify(streams[saga_id], saga_id=saga_id, head_version=10, head_hash=head.hash)
                    assert found is None
                await batch.write(BatchWrite([append(saga, 10, "y") for saga in sagas]))
