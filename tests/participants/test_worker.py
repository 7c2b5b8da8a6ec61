"""A running participant on a real log: nothing lost, nothing done twice, nobody waits for somebody else's trouble."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.broker.contract import Broker, BrokerError, OutgoingMessage
from orchestrator.messages import Done
from orchestrator.participants import Handled, Participant, ParticipantSettings, Work, Worker
from orchestrator.participants.testing import Trial, command_message
from orchestrator.participants.work import Pool
from orchestrator.store.migrate import SchemaBehindError
from tests.databases import Database, DatabaseServer
from tests.participants.running import RefusingBroker, Replies, SilentBroker, at_work, opened, outcomes, send
from tests.participants.tills import Count, PutIn, PutMany, Stranger

TOTAL = "SELECT count(*)::int AS count, coalesce(sum(amount), 0)::int AS total FROM effects"


@pytest_asyncio.fixture
async def broker(till: Trial, database_server: DatabaseServer) -> AsyncIterator[Broker]:
    """The log that coordinator and till share; not in the till's own database."""
    async with database_server.database() as elsewhere, opened(elsewhere.url, till.participant) as made:
        yield made


def puts(count: int, kind: type[PutIn] | type[PutMany] = PutIn) -> list[OutgoingMessage]:
    return [command_message(kind(amount=number), saga=f"s-{number:04}") for number in range(100, 100 + count)]


async def test_commands_are_done_answered_and_passed(till: Trial, broker: Broker, pool: Pool) -> None:
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        await send(broker, [*puts(30), command_message(PutIn(amount=13), saga="s-9999")])
        assert outcomes(await replies.read(31)) == ["ok"] * 30 + ["refused"]
        await _until_passed(till, 31)
    assert await till.rows(TOTAL) == [{"count": 30, "total": sum(range(100, 130))}]


async def _until_passed(till: Trial, count: int) -> None:
    async with asyncio.timeout(60):
        while await _passed(till) != count:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


async def _passed(till: Trial) -> int:
    return sum(row["next_offset"] for row in await till.rows("SELECT next_offset FROM positions"))


async def test_a_crash_between_commit_and_send_loses_no_answer(till: Trial, broker: Broker, pool: Pool) -> None:
    """The position stays behind, so the next worker reads the commands again and answers from the inbox."""
    silent = SilentBroker(broker)
    async with at_work(till.participant, silent, pool):
        await send(broker, puts(20))
        await asyncio.wait_for(silent.tried.wait(), 60)
        assert await till.rows(TOTAL) == [{"count": 20, "total": sum(range(100, 120))}]
    assert await till.rows("SELECT * FROM positions") == []
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        assert outcomes(await replies.read(20)) == ["ok"] * 20
        await _until_passed(till, 20)
    assert await till.rows(TOTAL) == [{"count": 20, "total": sum(range(100, 120))}]


async def test_a_redelivered_command_is_answered_again_with_the_same_bytes(
    till: Trial, broker: Broker, pool: Pool
) -> None:
    message = command_message(PutIn(amount=5))
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        await send(broker, [message])
        await replies.read(1)
        await send(broker, [message])
        first, second = await replies.read(2)
    assert (first.value, first.headers, first.key) == (second.value, second.headers, second.key)


async def test_a_message_nobody_can_read_stops_nobody(till: Trial, broker: Broker, pool: Pool) -> None:
    good = command_message(PutIn(amount=5))
    poison = [OutgoingMessage(good.topic, good.key, value, ()) for value in (b"", b"\xff" * 100, b"null")]
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        await send(broker, [*poison, good])
        assert outcomes(await replies.read(1)) == ["ok"]
        await _until_passed(till, 4)
    assert len(await till.rows("SELECT id FROM dead_letters")) == 3


async def test_a_handler_that_kills_its_connection_is_answered_error_and_harms_nobody(
    till: Trial, broker: Broker, pool: Pool
) -> None:
    """The whole batch dies with it, so the batch is taken apart."""

    @till.participant.handles(Stranger)
    async def suicide(command: Stranger, work: Work) -> Done:
        await work.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return Done()

    batch = [*puts(5), command_message(Stranger(), saga="s-0500"), *puts(10)[5:]]
    await send(broker, batch)
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        answers = outcomes(await replies.read(11))
    assert sorted(answers) == ["error"] + ["ok"] * 10
    assert await till.rows(TOTAL) == [{"count": 10, "total": sum(range(100, 110))}]


async def test_two_transactions_that_meet_cost_nobody_an_attempt(till: Trial, broker: Broker, pool: Pool) -> None:
    """A deadlock or a serialisation failure is answered by doing it again, not with `error`."""
    met = 0

    @till.participant.handles(Stranger)
    async def meet(command: Stranger, work: Work) -> Done:
        nonlocal met
        met += 1
        if met <= 4:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return Done()

    await send(broker, [command_message(Stranger(), saga="s-1"), *puts(3)])
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        assert outcomes(await replies.read(4)) == ["ok"] * 4
    assert met == 5
    assert await till.rows(TOTAL) == [{"count": 3, "total": sum(range(100, 103))}]


async def test_a_handler_that_sleeps_in_its_transaction_is_ended(till: Trial, broker: Broker, pool: Pool) -> None:
    @till.participant.handles(Stranger)
    async def sleep(command: Stranger, work: Work) -> Done:
        await asyncio.sleep(0.6)
        await work.connection.execute("SELECT 1")
        return Done()

    settings = ParticipantSettings(idle_transaction_ms=200, fetch_wait_ms=20, retry_ms=20)
    await send(broker, [command_message(Stranger(), saga="s-1"), *puts(3)])
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool, settings):
        assert sorted(outcomes(await replies.read(4))) == ["error", "ok", "ok", "ok"]


async def test_a_slow_reader_holds_back_nobody_but_its_partitions_position(
    till: Trial, broker: Broker, pool: Pool
) -> None:
    """A command that is answered late must be read again after a crash, also when later ones are long done."""
    begun, let_go = asyncio.Event(), asyncio.Event()

    @till.participant.handles(Stranger, reads=True, outside=True)
    async def slow(command: Stranger, work: Work) -> Done:
        begun.set()
        await let_go.wait()
        return Done()

    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        await send(broker, [command_message(Stranger(), saga="s-0100")])
        await begun.wait()
        await send(broker, puts(20))
        assert outcomes(await replies.read(20)) == ["ok"] * 20
        await asyncio.sleep(0.2)
        assert await _passed(till) < 20
        let_go.set()
        await replies.read(21)
        await _until_passed(till, 21)


async def test_two_workers_share_the_work_and_one_takes_over(till: Trial, broker: Broker, pool: Pool) -> None:
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        async with at_work(till.participant, broker, pool):
            await send(broker, puts(100))
            await replies.answered(100)
        await send(broker, puts(150)[100:])
        answered = await replies.answered(150)
        assert all(len(answers) == 1 for answers in answered.values())
    assert await till.rows(TOTAL) == [{"count": 150, "total": sum(range(100, 250))}]


async def test_an_outage_of_the_database_is_waited_for(
    till: Trial, broker: Broker, pool: Pool, database: Database
) -> None:
    """Nobody is answered `error` because the participant's own database was away."""
    admin = await asyncpg.connect(database.admin_url.replace(database.name, "postgres"))
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool) as worker:
        await send(broker, puts(5))
        await replies.read(5)
        await admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database.name)
        await asyncio.sleep(0.5)
        await admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
        await send(broker, puts(10)[5:])
        assert set(outcomes(await replies.read(10))) == {"ok"}
        assert not worker.done()
    await admin.close()


async def test_reading_stops_while_too_much_is_unanswered(till: Trial, broker: Broker, pool: Pool) -> None:
    silent = SilentBroker(broker)
    settings = ParticipantSettings(batch_messages=10, unanswered_max=30, fetch_wait_ms=20)
    async with at_work(till.participant, silent, pool, settings):
        await send(broker, puts(200))
        await asyncio.wait_for(silent.tried.wait(), 60)
        await asyncio.sleep(0.5)
        [row] = await till.rows(TOTAL)
    assert row["count"] <= 40


async def test_an_old_schema_is_refused_at_the_start(broker: Broker, pool: Pool) -> None:
    nobody = Participant("nobody-migrated")
    with pytest.raises(SchemaBehindError, match="schema nobody_migrated: the database lacks"):
        await asyncio.wait_for(Worker(nobody, broker, pool).run(), 60)


async def test_an_answer_that_is_refused_for_good_ends_the_worker_with_its_cause(
    till: Trial, broker: Broker, pool: Pool
) -> None:
    """Nobody may pass over a command whose answer cannot be sent; somebody must look."""
    refusing = RefusingBroker(broker)
    await send(broker, puts(3))
    with pytest.raises(BrokerError, match="refused for good: not_allowed"):
        await asyncio.wait_for(Worker(till.participant, refusing, pool).run(), 60)
    assert await _passed(till) == 0
    async with Replies(broker, till.participant) as replies, at_work(till.participant, broker, pool):
        assert outcomes(await replies.read(3)) == ["ok"] * 3


async def test_what_was_handled_can_be_observed(till: Trial, broker: Broker, pool: Pool) -> None:
    seen: list[Handled] = []
    before = time.time_ns()
    async with (
        Replies(broker, till.participant) as replies,
        at_work(till.participant, broker, pool, on_handled=seen.append),
    ):
        await send(broker, [command_message(PutIn(amount=5)), command_message(Count(), saga="s-2")])
        await replies.read(2)
        await send(broker, [command_message(PutIn(amount=5))])
        await replies.read(3)
    assert sorted((one.outcome, one.again, one.header.type) for one in seen) == [
        ("ok", False, "till.Count"),
        ("ok", False, "till.Put"),
        ("ok", True, "till.Put"),
    ]
    assert all(before <= one.began_ns <= one.ended_ns for one in seen)
