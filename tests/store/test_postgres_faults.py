"""What the store does when PostgreSQL, the network or its own caller fails in the middle of something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.store.connections import ConnectionLimits
from orchestrator.store.contract import (
    PRESUMED_US,
    BatchWrite,
    CommitUnknownError,
    StoreError,
    StoreUnavailableError,
)
from orchestrator.store.postgres import PostgresStore
from tests.contracts.stores import append, begun, claimed, message, now_of, presumed, start, written
from tests.databases import Database
from tests.store.cable import Cable, Fault

SHORT = ConnectionLimits(
    batch_connections=2,
    statement_timeout_ms=700,
    lock_timeout_ms=300,
    idle_in_transaction_timeout_ms=700,
    acquire_timeout_ms=500,
    answer_timeout_ms=1_000,
)


@pytest_asyncio.fixture
async def cable(database: Database) -> AsyncIterator[Cable]:
    """A cable to the test's database."""
    async with Cable(database.url).laid() as laid:
        yield laid


@pytest_asyncio.fixture
async def store(cable: Cable) -> AsyncIterator[PostgresStore]:
    """A store at the end of the cable."""
    async with PostgresStore(cable.url, SHORT) as made:
        yield made


class TestUnknownCommits:
    @pytest.mark.parametrize(
        ("fault", "happened"), [("lost on the way", False), ("answer lost", True), ("late arrival", True)]
    )
    async def test_a_connection_that_dies_in_commit_is_asked_about_and_never_guessed(
        self, store: PostgresStore, cable: Cable, fault: Fault, happened: bool
    ) -> None:
        """The late one is the trap: at the moment of asking there is nothing yet, and a moment later there is."""
        saga = start()
        mine = append(saga, 0, "saga.started")
        cable.fault = fault
        with pytest.raises(CommitUnknownError, match="It may have happened"):
            await written(store, mine, messages=[message("m-1")])
        assert await store.committed([mine], [message("m-1")]) is happened
        heads, fates = await claimed(store, saga.saga_id, messages=[message("m-1")])
        assert (saga.saga_id in heads, fates) == (happened, ["seen" if happened else "new"])

    @pytest.mark.parametrize(
        ("fault", "happened"), [("lost on the way", False), ("answer lost", True), ("late arrival", True)]
    )
    async def test_so_is_one_that_dies_in_the_call_that_verifies_writes_and_commits(
        self, store: PostgresStore, cable: Cable, fault: Fault, happened: bool
    ) -> None:
        """A presumed batch has no COMMIT of its own to die in."""
        saga = start()
        await presumed(store, append(start("K-0"), 0, "saga.started"))
        mine = append(saga, 0, "saga.started")
        now = await now_of(store)
        cable.fault = fault
        with pytest.raises(CommitUnknownError, match="It may have been stored"):
            await presumed(store, mine, messages=[message("m-1")], now=now)
        assert await store.committed([mine], [message("m-1")], now + PRESUMED_US) is happened
        heads, fates = await claimed(store, saga.saga_id, messages=[message("m-1")])
        assert (saga.saga_id in heads, fates) == (happened, ["seen" if happened else "new"])

    @pytest.mark.parametrize("fault", ["lost on the way", "answer lost"])
    async def test_what_may_be_done_again_is_no_unknown_commit(
        self, store: PostgresStore, cable: Cable, fault: Fault
    ) -> None:
        """Ticking off checks and sealing: whoever does it tries again, and the process goes on."""
        await written(store, append(start(), 0, "saga.started"), messages=[message("m-1")])
        for work in (lambda: store.due_checks(10), store.seal):
            cable.fault = fault
            with pytest.raises(StoreUnavailableError) as raised:
                await work()
            assert raised.value.retriable
            await work()
        assert [record.type async for record in store.records(0, 10)] == ["saga.started"]

    @pytest.mark.parametrize(("fault", "happened"), [("lost on the way", False), ("late arrival", True)])
    async def test_so_is_one_of_a_batch_that_wrote_no_records(
        self, store: PostgresStore, cable: Cable, fault: Fault, happened: bool
    ) -> None:
        """Its messages are what there is to ask about; the same fault, the same trap."""
        cable.fault = fault
        with pytest.raises(CommitUnknownError):
            await claimed(store, messages=[message("m-1")])
        assert await store.committed([], [message("m-1")]) is happened

    async def test_an_existing_saga_in_a_late_commit_is_waited_for(self, store: PostgresStore, cable: Cable) -> None:
        """Its head is locked by the dying transaction."""
        saga = start()
        await begun(store, saga)
        mine = append(saga, 1, "x")
        cable.fault = "late arrival"
        with pytest.raises(CommitUnknownError):
            await written(store, mine)
        assert await store.committed([mine], [])

    async def test_asking_goes_on_until_the_database_answers(
        self, store: PostgresStore, cable: Cable, database: Database
    ) -> None:
        """A database that is away for a while is no answer."""
        mine = append(start(), 0, "saga.started")
        cable.fault = "answer lost"
        with pytest.raises(CommitUnknownError):
            await written(store, mine)
        admin = await asyncpg.connect(database.admin_url.replace(f"/{database.name}?", "/postgres?"))
        try:
            await admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
            asking = asyncio.create_task(store.committed([mine], []))
            await asyncio.sleep(0.3)
            assert not asking.done()
            await admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
            assert await asking
        finally:
            await admin.close()

    async def test_a_server_that_never_answers_commit_is_given_up_on(self, store: PostgresStore, cable: Cable) -> None:
        """And its own limits free the locks, so that the question can be answered."""
        mine = append(start(), 0, "saga.started")
        cable.fault = "frozen"
        with pytest.raises(CommitUnknownError, match="no answer to COMMIT within 1 s"):
            await written(store, mine)
        assert not await store.committed([mine], [])


class TestCancellation:
    async def test_a_batch_that_is_cancelled_leaves_nothing_and_no_broken_connection(
        self, store: PostgresStore
    ) -> None:
        """Ten times over two connections, in the middle of a statement and between two."""
        saga = start()
        await begun(store, saga)

        async def stuck() -> None:
            async with store.batch() as batch:
                await batch.claim([saga.saga_id], [], [message("m-1")])
                await batch.write(BatchWrite([append(saga, 1, "x")]))
                await asyncio.sleep(60)

        async def waits_for_it() -> None:
            async with store.batch() as batch:
                await batch.claim([saga.saga_id], [], [])

        for _ in range(5):
            tasks = [asyncio.create_task(stuck())]
            await asyncio.sleep(0.05)
            tasks.append(asyncio.create_task(waits_for_it()))
            await asyncio.sleep(0.02)
            for task in reversed(tasks):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        heads, fates = await claimed(store, saga.saga_id, messages=[message("m-1")])
        assert (heads[saga.saga_id].version, fates) == (1, ["new"])

    async def test_whoever_is_cancelled_in_commit_is_told_after_it(self, store: PostgresStore, cable: Cable) -> None:
        """COMMIT is never cut off: otherwise every shutdown would leave unknown outcomes."""
        saga = start()
        cable.fault = "slow"

        async def batch() -> None:
            async with store.batch() as batch:
                await batch.claim([], [saga], [])
                await batch.write(BatchWrite([append(saga, 0, "x")]))
                asyncio.get_running_loop().call_soon(task.cancel)

        task = asyncio.create_task(batch())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await claimed(store, saga.saga_id))[0][saga.saga_id].version == 1

    async def test_whoever_is_cancelled_in_a_call_that_commits_is_told_after_it(
        self, store: PostgresStore, cable: Cable
    ) -> None:
        """The same for a presumed batch."""
        saga = start()
        await presumed(store, append(start("K-0"), 0, "saga.started"))
        now = await now_of(store)
        cable.fault = "slow"
        task = asyncio.create_task(presumed(store, append(saga, 0, "x"), now=now))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await claimed(store, saga.saga_id))[0][saga.saga_id].version == 1

    async def test_whoever_is_cancelled_while_nothing_moves_is_free_at_once(
        self, store: PostgresStore, cable: Cable
    ) -> None:
        """The connection is closed, not asked politely: a driver that waits for an answer here hangs a shutdown."""
        inside = asyncio.Event()

        async def batch() -> None:
            async with store.batch() as batch:
                cable.hold = True
                inside.set()
                await batch.claim([], [], [message("m-1")])

        task = asyncio.create_task(batch())
        await inside.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=0.5)
        assert done
        cable.hold = False
        assert (await claimed(store, messages=[message("m-1")]))[1] == ["new"]


class TestLimits:
    async def test_a_backend_that_is_killed_in_a_batch_is_a_retriable_error(
        self, store: PostgresStore, database: Database
    ) -> None:
        """Nothing is stored, and the next batch gets a new connection."""
        saga = start()

        async def killed() -> None:
            async with store.batch() as batch:
                await batch.claim([], [saga], [message("m-1")])
                owner = await asyncpg.connect(database.admin_url)
                await owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
                )
                await owner.close()
                await batch.write(BatchWrite([append(saga, 0, "x")]))

        with pytest.raises(StoreUnavailableError) as error:
            await killed()
        assert error.value.retriable
        heads, fates = await claimed(store, saga.saga_id, messages=[message("m-1")])
        assert (heads, fates) == ({}, ["new"])

    async def test_nobody_waits_for_a_lock_for_ever(self, store: PostgresStore) -> None:
        """The error says what was waited for; the batch can be done again."""
        saga = start()
        await begun(store, saga)
        async with store.batch() as batch:
            await batch.claim([saga.saga_id], [], [])
            with pytest.raises(StoreUnavailableError, match=r"claim_few: LockNotAvailableError") as error:
                await claimed(store, saga.saga_id)
            assert error.value.retriable

    async def test_a_process_that_freezes_inside_a_batch_gives_its_locks_back(self, store: PostgresStore) -> None:
        """The server ends the session; whoever wakes up late can write nothing."""
        saga = start()
        await begun(store, saga)

        async def frozen() -> None:
            async with store.batch() as batch:
                await batch.claim([saga.saga_id], [], [])
                time.sleep(1.0)  # noqa: ASYNC251 - the whole process stands still
                await batch.write(BatchWrite([append(saga, 1, "x")]))

        with pytest.raises(StoreUnavailableError):
            await frozen()
        await written(store, append(saga, 1, "y"))

    async def test_a_connection_that_is_not_to_be_had_is_a_retriable_error(self, store: PostgresStore) -> None:
        """For HTTP this is a 503."""
        async with store.batch(), store.batch():
            with pytest.raises(StoreUnavailableError, match="no database connection for role 'batch' within 500 ms"):
                await claimed(store)

    async def test_an_error_that_was_swallowed_inside_a_batch_does_not_pass_as_a_commit(
        self, store: PostgresStore
    ) -> None:
        """PostgreSQL answers COMMIT with ROLLBACK then, and no error."""

        async def swallowed() -> None:
            async with store.batch() as batch:
                await batch.claim([], [], [message("m-1")])
                with contextlib.suppress(StoreError):
                    await batch._connection.execute("SELECT 1 / 0")

        with pytest.raises(StoreError, match="its error was swallowed"):
            await swallowed()
        assert (await claimed(store, messages=[message("m-1")]))[1] == ["new"]

    def test_limits_that_could_not_work_are_refused(self) -> None:
        """A client that gives up before the server does never hears what happened."""
        with pytest.raises(ValueError, match="the server must give up before the client does"):
            ConnectionLimits(answer_timeout_ms=1_000)
        with pytest.raises(ValueError, match="lock_timeout_ms is 0"):
            ConnectionLimits(lock_timeout_ms=0)

    async def test_a_database_that_is_away_is_a_retriable_error(self) -> None:
        """Also at the very first question."""
        async with PostgresStore("postgresql://nobody@/nothing?host=%2Fnonexistent", SHORT) as away:
            with pytest.raises(StoreUnavailableError):
                await away.due_resumes(1)
