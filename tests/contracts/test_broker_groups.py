"""The broker's contract where several readers meet: sharing, joining, dying, pausing. On every implementation."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.broker.contract import Broker, Consumer, IncomingMessage
from tests.contracts.brokers import (
    QUICK,
    Positions,
    Site,
    assigned,
    by_key,
    consuming,
    member_process,
    new_name,
    new_topic,
    numbered,
    numbers,
    opened,
    read,
    send,
)

# Where another process can join. The simulation kills members by itself.
with_processes = pytest.mark.parametrize(
    "site", [pytest.param("kafka", marks=pytest.mark.kafka), "postgres"], indirect=True
)


class Reader:
    """Reads in a task as the product does: keeps what belongs to the generation it was fetched under."""

    def __init__(self, consumer: Consumer, positions: Positions) -> None:
        self.consumer, self.positions = consumer, positions
        self.kept: list[IncomingMessage] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            messages = await self.consumer.fetch(20, 50)
            generation = self.consumer.generation()
            await asyncio.sleep(0.001)  # the transaction
            if self.consumer.generation() == generation:
                self.positions.keep(messages)
                self.kept += messages

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait until ``condition()`` is true."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 members tell nobody when they change
            await asyncio.sleep(0.01)


async def test_members_share_the_partitions_and_each_message_comes_once(site: Site) -> None:
    async with opened(site) as broker:
        topic, group, positions = await new_topic(broker, 6), new_name("group"), Positions()
        async with (
            consuming(broker, [topic], group=group, positions=positions) as one,
            consuming(broker, [topic], group=group, positions=positions) as two,
        ):
            readers = [Reader(one, positions), Reader(two, positions)]
            await until(lambda: len(one.assignment()) == 3 == len(two.assignment()))
            assert not one.assignment() & two.assignment()
            generations = [one.generation(), two.generation()]
            await send(broker, numbered(topic, 600, keys=40))
            await until(lambda: set(numbers(readers[0].kept + readers[1].kept)) == set(range(600)))
            for reader in readers:
                await reader.end()
            if [
                one.generation(),
                two.generation(),
            ] == generations:  # on a crowded machine a member may be taken for dead
                assert len(readers[0].kept) + len(readers[1].kept) == 600
                for reader in readers:
                    assert {(m.topic, m.partition) for m in reader.kept} <= reader.consumer.assignment()
                    assert len(reader.kept) > 0


async def test_every_group_gets_everything(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker)
        await send(broker, numbered(topic, 100))
        async with consuming(broker, [topic]) as one, consuming(broker, [topic]) as two:
            for consumer in (one, two):
                assert sorted(numbers(await read(consumer, 100))) == list(range(100))


async def test_one_consumer_reads_several_topics(site: Site) -> None:
    async with opened(site) as broker:
        first, second = await new_topic(broker, 2), await new_topic(broker, 3)
        await send(broker, numbered(first, 30) + numbered(second, 30, start=30))
        async with consuming(broker, [first, second]) as consumer:
            received = await read(consumer, 60)
            assert consumer.assignment() == {(first, n) for n in range(2)} | {(second, n) for n in range(3)}
    assert sorted(numbers(received)) == list(range(60))
    assert {m.topic for m in received if int(m.value or b"") < 30} == {first}


async def test_a_join_under_load_loses_nothing(site: Site) -> None:
    """Duplicates are allowed while partitions change hands; what was not kept by one is read by the other."""
    async with opened(site) as broker:
        topic, group, positions = await new_topic(broker, 6), new_name("group"), Positions()
        async with consuming(broker, [topic], group=group, positions=positions) as one:
            first = Reader(one, positions)
            await until(lambda: len(one.assignment()) == 6)
            before = one.generation()
            sending = asyncio.create_task(_send_slowly(broker, topic, 1_500))
            await until(lambda: len(first.kept) > 100)
            async with consuming(broker, [topic], group=group, positions=positions) as two:
                second = Reader(two, positions)
                await until(lambda: len(two.assignment()) == 3 == len(one.assignment()))
                assert one.generation() > before
                await sending
                await until(lambda: set(numbers(first.kept + second.kept)) == set(range(1_500)))
                for reader in (first, second):
                    await reader.end()
                assert second.kept
    _assert_first_occurrences_in_order(first.kept + second.kept)


async def test_a_leaving_member_hands_over_at_once(site: Site) -> None:
    long = replace(QUICK, session_timeout_ms=20_000, postgres_lease_ms=20_000)
    async with opened(site, long) as broker:
        topic, group, positions = await new_topic(broker), new_name("group"), Positions()
        async with consuming(broker, [topic], group=group, positions=positions) as one:
            first = Reader(one, positions)
            two = broker.consumer(group, [topic], positions)
            await two.start()
            second = Reader(two, positions)
            await until(lambda: len(one.assignment()) == 2 == len(two.assignment()))
            await second.end()
            await two.stop()
            started = time.monotonic()
            await until(lambda: len(one.assignment()) == 4)
            assert time.monotonic() - started < 10, "shorter than the time-out after a death"
            await send(broker, numbered(topic, 40))
            await until(lambda: len(first.kept) == 40)
            await first.end()


@with_processes
async def test_a_killed_member_is_replaced_and_its_messages_come_again(site: Site) -> None:
    """The process read, but its store kept nothing; whoever takes over starts at the stored positions."""
    async with opened(site) as broker:
        topic, group, positions = await new_topic(broker), new_name("group"), Positions()
        async with consuming(broker, [topic], group=group, positions=positions) as one:
            reader = Reader(one, positions)
            await until(lambda: len(one.assignment()) == 4)
            async with member_process(site, group, topic) as process:
                assert await asyncio.wait_for(process.stdout.readline(), 20) == b"joined\n"
                await until(lambda: len(one.assignment()) == 2)
                await send(broker, numbered(topic, 100))
                await until(lambda: len(reader.kept) > 20)
                await asyncio.sleep(0.3)
                assert len(reader.kept) < 100
                process.kill()
                await until(lambda: len(one.assignment()) == 4)
            await until(lambda: sorted(numbers(reader.kept)) == list(range(100)))
            await reader.end()


@with_processes
async def test_a_frozen_member_loses_its_partitions_and_knows_it(site: Site) -> None:
    """A stopped event loop is a stopped member: another takes over, and the old one counts its generation up."""
    async with opened(site) as broker, opened(site) as elsewhere:
        topic, group, positions = await new_topic(broker, 2), new_name("group"), Positions()
        async with consuming(broker, [topic], group=group, positions=positions) as one:
            await assigned(one, 2)
            before = one.generation()
            async with member_process(site, group, topic) as process:
                # The loop stands still for longer than lease and session time-out, as in a long garbage collection.
                time.sleep(3)  # noqa: ASYNC251
                assert await asyncio.wait_for(process.stdout.readline(), 20) == b"joined\n"
                await send(elsewhere, numbered(topic, 50))
                async with asyncio.timeout(20):
                    while one.generation() == before or len(one.assignment()) != 1:
                        await one.fetch(10, 50)
                # Fetched until here under generations that are over; from here on only what is still its own.
                generation, mine = one.generation(), one.assignment()
                received = await one.fetch(10, 200)
                if one.generation() == generation:
                    assert {(m.topic, m.partition) for m in received} <= mine


async def test_what_an_older_generation_fetched_comes_again(site: Site) -> None:
    """The caller has to drop it, also where the same partitions come back: so they are positioned anew."""
    async with opened(site) as broker:
        topic, positions = await new_topic(broker, 2), Positions()
        await send(broker, numbered(topic, 40))
        async with consuming(broker, [topic], positions=positions) as consumer:
            positions.keep(await read(consumer, 10))
            dropped = await read(consumer, 10)
            before = consumer.generation()
            time.sleep(3)  # noqa: ASYNC251 a frozen process; nobody else is there to take over
            again: list[IncomingMessage] = []
            async with asyncio.timeout(20):
                while consumer.generation() == before or not consumer.assignment():
                    again = await consumer.fetch(10, 50)  # until the change, these belong to the old generation
            again = again or await consumer.fetch(10, 5_000)
            again += await read(consumer, 30 - len(again))
    assert {(m.partition, m.offset) for m in dropped} <= {(m.partition, m.offset) for m in again}
    assert sum(positions.stored.values()) + len(again) == 40


async def test_pause_returns_nothing_and_resume_goes_on_in_order(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=2)
        await send(broker, numbered(topic, 40))
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 10)
            await consumer.pause()
            for _ in range(4):
                assert await consumer.fetch(10, 50) == []
            assert len(consumer.assignment()) == 2, "a paused consumer stays in its group"
            await send(broker, numbered(topic, 40, start=40))
            assert await consumer.fetch(10, 50) == []
            waiting = asyncio.create_task(consumer.fetch(10, 10_000))
            await asyncio.sleep(0.05)
            await consumer.resume()
            received += await waiting
            received += await read(consumer, 80 - len(received))
    assert sorted(numbers(received)) == list(range(80))
    assert all(sequence == sorted(sequence) for sequence in by_key(received).values())


async def test_a_pause_survives_a_rearrangement(site: Site) -> None:
    async with opened(site) as broker:
        topic, group = await new_topic(broker), new_name("group")
        async with consuming(broker, [topic], group=group) as one:
            await assigned(one, 4)
            await one.pause()
            two = broker.consumer(group, [topic], Positions())
            await two.start()
            reader = Reader(two, Positions())
            await assigned(one, 2)
            await reader.end()
            await two.stop()
            await assigned(one, 4)
            await send(broker, numbered(topic, 20))
            assert await one.fetch(20, 500) == []
            await one.resume()
            assert sorted(numbers(await read(one, 20))) == list(range(20))


async def test_more_members_than_partitions_leaves_some_idle_and_ready(site: Site) -> None:
    async with opened(site) as broker:
        topic, group, positions = await new_topic(broker, 1), new_name("group"), Positions()
        async with (
            consuming(broker, [topic], group=group, positions=positions) as one,
            consuming(broker, [topic], group=group, positions=positions) as two,
        ):
            readers = [Reader(one, positions), Reader(two, positions)]
            await until(lambda: len(one.assignment()) + len(two.assignment()) == 1)
            await asyncio.sleep(0.5)
            assert len(one.assignment()) + len(two.assignment()) == 1
            owner, idle = (0, 1) if one.assignment() else (1, 0)
            await readers[owner].end()
            await readers[owner].consumer.stop()
            await send(broker, numbered(topic, 5))
            await until(lambda: numbers(readers[idle].kept) == [0, 1, 2, 3, 4])
            await readers[idle].end()


async def _send_slowly(broker: Broker, topic: str, count: int) -> None:
    producer = broker.producer("slow")
    await producer.start()
    for start in range(0, count, 10):
        assert await producer.send(numbered(topic, 10, keys=30, start=start)) == [None] * 10
        await asyncio.sleep(0.004)


def _assert_first_occurrences_in_order(messages: list[IncomingMessage]) -> None:
    """Within a partition each reader's run is in order; a new owner may begin again further back."""
    seen: dict[int, set[int]] = {}
    for message in sorted(messages, key=lambda m: (m.partition, m.offset)):
        seen.setdefault(message.partition, set()).add(message.offset)
    assert all(offsets == set(range(len(offsets))) for offsets in seen.values())
