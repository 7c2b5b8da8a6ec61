"""The log in PostgreSQL where it has no counterpart in Kafka: locks, late commits, retention, hints, a lost server."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from orchestrator.broker.contract import (
    BrokerSetupError,
    BrokerUnavailableError,
    ConsumerFencedError,
    IncomingMessage,
    OutgoingMessage,
    TopicSpec,
    open_broker,
)
from orchestrator.broker.partition import partition_of
from orchestrator.broker.postgres_database import SQL
from orchestrator.broker.postgres_database import Database as LogDatabase
from orchestrator.broker.settings import BrokerSettings
from tests.contracts.brokers import (
    QUICK,
    Positions,
    PostgresSite,
    assigned,
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
    """The owner's connection, to hold things open and to look."""
    connection = await asyncpg.connect(database.migrate_url)
    yield connection
    await connection.close()


def one(topic_id: int, partition: int, value: bytes) -> tuple[list[object], ...]:
    """The append's arguments for one message."""
    return [topic_id], [partition], [1], [topic_id], [partition], [0], [b"k"], [value], [b"[]"]


async def test_a_slow_writers_late_commit_is_never_skipped(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The classic of logs in tables: a sequence is not commit order. A writer is held open in its append."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=2)
        slow_partition = partition_of(b"key-0", 2)
        await send(broker, numbered(topic, 10))
        async with consuming(broker, [topic]) as consumer:
            await read(consumer, 10)
            transaction = connection.transaction()
            await transaction.start()
            await connection.fetch(SQL["append"], *one(1, slow_partition, b"1000"))
            before = (await consumer.end_offsets())[topic, slow_partition]
            other = OutgoingMessage(topic, _key_for(1 - slow_partition, 2), b"2000")
            behind = asyncio.create_task(send(broker, [OutgoingMessage(topic, b"key-0", b"3000")]))
            elsewhere = open_broker(site.url, settings=QUICK)
            await send(elsewhere, [other])
            await elsewhere.close()
            assert numbers(await read(consumer, 1)) == [2000], "other partitions go on"
            assert await consumer.fetch(10, 300) == [], "what came later in this partition waits for its turn"
            assert (await consumer.end_offsets())[topic, slow_partition] == before
            await transaction.commit()
            await behind
            received = await read(consumer, 2)
    assert numbers(received) == [1000, 3000]
    assert [m.offset for m in received] == [before, before + 1]
    assert received[0].appended_at <= received[1].appended_at


async def test_a_writer_that_rolls_back_leaves_no_gap(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch(SQL["append"], *one(1, 0, b"0"))
        sending = asyncio.create_task(send(broker, numbered(topic, 2, start=1)))
        await asyncio.sleep(0.05)
        await transaction.rollback()
        await sending
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 2)
    assert [(m.offset, m.value) for m in received] == [(0, b"1"), (1, b"2")]


async def test_many_writers_at_once_give_dense_offsets_to_a_reader_that_never_waits(site: PostgresSite) -> None:
    """Batches over several partitions in different orders must neither deadlock nor hide from the reader."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=3)
        writers = [open_broker(site.url, settings=QUICK) for _ in range(6)]

        async def write(which: int) -> None:
            producer = writers[which].producer(str(which))
            for start in range(0, 200, 10):
                batch = numbered(topic, 10, keys=13, start=which * 1_000 + start)
                assert await producer.send(batch if which % 2 else batch[::-1]) == [None] * 10

        async with consuming(broker, [topic]) as consumer:
            writing = asyncio.gather(*(write(which) for which in range(6)))
            received = await read(consumer, 1_200, within_s=60)
            await writing
        for writer in writers:
            await writer.close()
    assert len(set(numbers(received))) == 1_200
    for partition in range(3):
        mine = [m for m in received if m.partition == partition]
        assert [m.offset for m in mine] == list(range(len(mine)))
        times = [m.appended_at for m in mine]
        assert times == sorted(times)


async def test_an_append_that_waits_too_long_for_a_lock_is_retriable(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(site, replace(QUICK, postgres_lock_timeout_ms=100)) as broker:
        topic = await new_topic(broker, partitions=1)
        async with connection.transaction():
            await connection.fetch(SQL["append"], *one(1, 0, b"0"))
            (error,) = await broker.producer("p").send(numbered(topic, 1))
        assert error is not None
        assert (error.code, error.retriable) == ("unavailable", True)
        assert await broker.producer("p").send(numbered(topic, 1)) == [None]


async def test_a_failed_statement_holds_back_the_rest_of_its_batch(
    site: PostgresSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large batch goes in several statements; a later one must not overtake the one that has to be sent again."""
    async with opened(site, replace(QUICK, message_bytes_max=4_000, send_batch_bytes=250)) as broker:
        topic = await new_topic(broker, partitions=1)
        asked, rows = 0, LogDatabase.rows

        async def failing(self: LogDatabase, query: str, *arguments: object) -> list[asyncpg.Record]:
            nonlocal asked
            asked += query == "append"
            if query == "append" and asked == 2:
                raise BrokerUnavailableError("cut")
            return await rows(self, query, *arguments)

        monkeypatch.setattr(LogDatabase, "rows", failing)
        batch = [OutgoingMessage(topic, b"k", bytes([n]) * 2_000) for n in range(8)]
        results = await broker.producer("p").send(batch)
        codes = [error.code if error else None for error in results]
        assert codes == [None, None, "unavailable", "unavailable", *["held_back"] * 4]
        assert all(error.retriable for error in results if error)
        assert await broker.producer("p").send(batch[2:]) == [None] * 6
        async with consuming(broker, [topic]) as consumer:
            assert [m.value for m in await read(consumer, 8)] == [m.value for m in batch]


async def test_cut_connections_lose_nothing(site: PostgresSite) -> None:
    """A failover or an impatient administrator ends every session, again and again, while messages flow."""
    async with opened(site) as broker:
        topic, positions = await new_topic(broker, partitions=3), Positions()
        producer = broker.producer("p")
        got: list[IncomingMessage] = []

        async def write() -> None:
            for message in numbered(topic, 300, keys=5):
                while await producer.send([message]) != [None]:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

        async with consuming(broker, [topic], positions=positions) as consumer:
            writing = asyncio.create_task(write())
            admin = await asyncpg.connect(site.database.admin_url)
            deadline = time.monotonic() + 60
            cuts, cut_at = 0, time.monotonic()
            while len({m.value for m in got}) < 300:
                assert time.monotonic() < deadline
                try:
                    got += await consumer.fetch(20, 50)
                except BrokerUnavailableError:
                    continue
                if cuts < 12 and time.monotonic() > cut_at:
                    cuts, cut_at = cuts + 1, time.monotonic() + 0.1
                    await admin.fetch(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
            await writing
            await admin.close()
            assert cuts > 2
    firsts: dict[bytes | None, list[int]] = {}
    for message in got:
        number = int(message.value or b"")
        if number not in firsts.setdefault(message.key, []):
            firsts[message.key].append(number)
    assert all(sequence == sorted(sequence) for sequence in firsts.values())


async def test_polling_alone_is_enough(site: PostgresSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints may all be lost, as behind a pooler of transactions."""
    monkeypatch.setattr("orchestrator.broker.postgres_hints.Hints.poke", lambda self, keys: None)
    async with opened(site) as broker, opened(site) as elsewhere:
        topic = await new_topic(broker)
        async with consuming(broker, [topic]) as consumer:
            await assigned(consumer, 4)
            await consumer.fetch(1, 300)  # the pause has grown to its longest
            sent_at = time.monotonic()
            await send(elsewhere, numbered(topic, 1))
            assert numbers(await read(consumer, 1)) == [0]
            assert time.monotonic() - sent_at < 5


async def test_a_hint_from_another_process_ends_the_pause(site: PostgresSite) -> None:
    slow = replace(QUICK, postgres_poll_idle_ms=20_000, postgres_poll_busy_ms=20_000)
    async with opened(site, slow) as broker, opened(site) as elsewhere:
        topic = await new_topic(broker)
        producer = elsewhere.producer("p")
        async with consuming(broker, [topic]) as consumer:
            await assigned(consumer, 4)
            for number in range(5):
                waiting = asyncio.create_task(consumer.fetch(1, 15_000))
                await asyncio.sleep(0.1)
                sent_at = time.monotonic()
                await producer.send(numbered(topic, 1, start=number))
                assert numbers(await waiting) == [number]
                assert time.monotonic() - sent_at < 10, "shorter than the pause"


async def test_fetch_stays_within_its_bytes_but_always_brings_something(site: PostgresSite) -> None:
    async with opened(site, replace(QUICK, fetch_bytes_max=10_000)) as broker:
        topic = await new_topic(broker, partitions=1)
        sizes = [100] * 50 + [30_000] + [4_000] * 5
        await send(broker, [OutgoingMessage(topic, b"k", b"x" * size) for size in sizes])
        async with consuming(broker, [topic]) as consumer:
            fetches: list[list[int]] = []
            while sum(map(len, fetches)) < len(sizes):
                fetches.append([len(m.value or b"") for m in await consumer.fetch(500, 1_000)])
    assert [size for part in fetches for size in part] == sizes
    assert fetches[0] == [*[100] * 50, 30_000], "the message that crosses the line is the last one"
    assert all(len(part) <= 3 for part in fetches[1:])


async def test_a_full_partition_does_not_starve_the_others(site: PostgresSite) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=3)
        await send(broker, [OutgoingMessage(topic, _key_for(0, 3), b"0")] * 500)
        await send(broker, [OutgoingMessage(topic, _key_for(n, 3), b"1") for n in (1, 2)])
        async with consuming(broker, [topic]) as consumer:
            received = [m for _ in range(3) for m in await consumer.fetch(10, 1_000)]
    assert {m.partition for m in received} == {0, 1, 2}


# A member that says so seldom that it lives: its next beat would claim back what a test has taken from it.
RARELY = replace(QUICK, postgres_heartbeat_ms=60_000, postgres_lease_ms=180_000)


async def test_only_the_owner_reports_progress(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async with opened(site, RARELY) as broker:
        topic = await new_topic(broker, partitions=2)
        async with consuming(broker, [topic], group="g") as consumer:
            await assigned(consumer, 2)
            await consumer.commit({(topic, 0): 5, ("elsewhere", 0): 3})
            await connection.execute("UPDATE broker_ownership SET member_id = gen_random_uuid() WHERE partition = 1")
            await consumer.commit({(topic, 1): 7})
            stored = await connection.fetch("SELECT partition, next_offset FROM broker_ownership ORDER BY partition")
    assert [tuple(row) for row in stored] == [(0, 5), (1, None)]


async def test_what_a_living_member_has_cannot_be_claimed(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """Two members may see the same free partition; one of them gets it."""
    async with opened(site, RARELY) as broker:
        topic = await new_topic(broker, partitions=2)
        async with consuming(broker, [topic], group="g") as consumer:
            await assigned(consumer, 2)
            topic_id = await connection.fetchval("SELECT topic_id FROM broker_topic")
            other = uuid.uuid4()
            claim = (SQL["claim"], "g", other, [topic_id] * 2, [0, 1])
            assert await connection.fetch(*claim) == []
            await connection.execute("UPDATE broker_member SET expires_at = clock_us() - 1")
            assert len(await connection.fetch(*claim)) == 2
            assert await connection.fetchval("SELECT min(epoch) FROM broker_ownership") == 2


async def test_a_member_that_cannot_beat_stops_delivering_when_its_lease_is_over(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """By its own clock, before it hears from anybody: by then others may read its partitions."""
    async with opened(site, replace(QUICK, postgres_lease_ms=600)) as broker:
        topic = await new_topic(broker)
        async with consuming(broker, [topic], group="g") as consumer:
            await assigned(consumer, 4)
            before = consumer.generation()
            async with connection.transaction():
                await connection.execute("SELECT FROM broker_member FOR UPDATE")  # the next beat hangs
                await asyncio.sleep(0.8)
                await send(broker, numbered(topic, 5))
                assert await consumer.fetch(5, 200) == []
                assert consumer.assignment() == frozenset()
                assert consumer.generation() > before
            assert sorted(numbers(await read(consumer, 5))) == [0, 1, 2, 3, 4]


async def test_a_restart_under_the_same_instance_takes_its_place_at_once(site: PostgresSite) -> None:
    settings = replace(QUICK, instance_id="pod-0", postgres_lease_ms=60_000)
    async with opened(site, settings) as broker, opened(site, settings) as restarted:
        topic = await new_topic(broker)
        async with consuming(broker, [topic], group="g") as former:
            await assigned(former, 4)
            started = time.monotonic()
            async with consuming(restarted, [topic], group="g") as latter:
                await assigned(latter, 4)
                assert time.monotonic() - started < 20, "shorter than the lease"
                with pytest.raises(ConsumerFencedError, match="pod-0"):
                    await read(former, 1)
                assert former.assignment() == frozenset()
                await send(restarted, numbered(topic, 3))
                assert len(await read(latter, 3)) == 3


async def test_the_former_self_cannot_slip_in_while_its_place_is_taken(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    """It may beat at any moment, also between the two statements of who restarts."""
    former, latter = uuid.uuid4(), uuid.uuid4()
    await connection.execute(SQL["beat"], "g", former, "pod-0", [1], 60_000)
    await connection.execute(SQL["take_place"], "g", latter, "pod-0")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(SQL["beat"], "g", former, "pod-0", [1], 60_000)
    await connection.execute(SQL["beat"], "g", latter, "pod-0", [1, 2], 60_000)
    assert [tuple(row) for row in await connection.fetch(SQL["members"], "g")] == [(latter, [1, 2])]


async def test_a_database_without_the_tables_names_its_next_step(empty_database: Database) -> None:
    broker = open_broker(empty_database.url, settings=QUICK)
    with pytest.raises(BrokerSetupError, match="orchestrator migrate"):
        await broker.ensure_topics([TopicSpec("t")])
    (error,) = await broker.producer("p").send([OutgoingMessage("t", b"k", b"v")])
    assert error is not None
    assert error.retriable
    await broker.close()


async def test_without_prepared_statements_everything_works(site: PostgresSite) -> None:
    """As behind a pooler that gives each transaction another session."""
    async with opened(site, replace(QUICK, postgres_prepared_statements=False)) as broker:
        topic = await new_topic(broker)
        await send(broker, numbered(topic, 100))
        async with consuming(broker, [topic]) as consumer:
            assert sorted(numbers(await read(consumer, 100))) == list(range(100))


async def test_reading_touches_only_what_it_returns(
    site: PostgresSite, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The plan is part of the promise: a long log must not make a look at its end slower."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=4)
        for _ in range(5):
            await send(broker, numbered(topic, 2_000, keys=50))
    await connection.execute("ANALYZE broker_message")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    statement = await connection.prepare(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {SQL['fetch']}")
    plan = "\n".join(row[0] for row in await statement.fetch([1] * 4, [0, 1, 2, 3], [0] * 4, 100, 1_000_000))
    assert "Index Scan using broker_message_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "actual rows=100.00 loops=1" in plan, plan


def test_the_defaults_are_quick_enough_for_a_person() -> None:
    settings = BrokerSettings()
    assert settings.postgres_poll_idle_ms <= 100
    assert settings.postgres_lease_ms <= 10_000


def _key_for(partition: int, partitions: int) -> bytes:
    return next(key for n in range(1_000) if partition_of(key := f"k{n}".encode(), partitions) == partition)
