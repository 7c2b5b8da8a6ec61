"""The broker's contract, proved on every implementation: what is sent, what is read, and what a log keeps.

Groups and crashes are in ``test_broker_groups.py``, topics and stopping in ``test_broker_lifetime.py``.
"""

import asyncio
import time

import pytest

from orchestrator.broker.contract import (
    IncomingMessage,
    OutgoingMessage,
    PositionLostError,
    TopicSpec,
    message_bytes,
)
from orchestrator.broker.partition import partition_of
from tests.contracts.brokers import (
    QUICK,
    Positions,
    Site,
    assigned,
    by_key,
    consuming,
    new_name,
    new_topic,
    numbered,
    numbers,
    opened,
    read,
    send,
)


async def test_messages_of_one_key_keep_their_order(site: Site) -> None:
    """Across batches too: that is what a saga's commands rely on."""
    async with opened(site) as broker:
        topic = await new_topic(broker)
        for start in range(0, 900, 300):
            await send(broker, numbered(topic, 300, start=start))
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 900)
    assert sorted(numbers(received)) == list(range(900))
    assert all(sequence == sorted(sequence) for sequence in by_key(received).values())


async def test_a_key_lands_in_the_partition_that_every_process_computes(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=5)
        await send(broker, numbered(topic, 60, keys=60))
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 60)
    assert [(m.key, m.partition) for m in received] == [(m.key, partition_of(m.key or b"", 5)) for m in received]
    assert {m.partition for m in received} == set(range(5))


async def test_offsets_are_dense_and_start_at_zero(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=2)
        await send(broker, numbered(topic, 100))
        await send(broker, numbered(topic, 100, start=100))
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 200)
    for partition in range(2):
        offsets = [m.offset for m in received if m.partition == partition]
        assert offsets == list(range(len(offsets)))


async def test_two_producers_interleave_without_loss_or_reordering(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker)
        producers = [broker.producer(name) for name in ("one", "two")]
        for producer in producers:
            await producer.start()

        async def send_many(which: int) -> None:
            for start in range(0, 400, 20):
                batch = [
                    OutgoingMessage(topic, f"{which}-{n % 3}".encode(), str(n).encode())
                    for n in range(start, start + 20)
                ]
                assert await producers[which].send(batch) == [None] * 20

        await asyncio.gather(send_many(0), send_many(1))
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 800)
    assert len(by_key(received)) == 6
    for sequence in by_key(received).values():
        assert sequence == sorted(set(sequence))


async def test_concurrent_sends_of_one_producer_all_arrive(site: Site) -> None:
    """Many small callers share appends; each gets its own answer."""
    async with opened(site) as broker:
        topic = await new_topic(broker)
        producer = broker.producer("shared")
        await producer.start()
        answers = await asyncio.gather(*(producer.send([message]) for message in numbered(topic, 300)))
        assert answers == [[None]] * 300
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 300)
    assert sorted(numbers(received)) == list(range(300))
    assert all(sequence == sorted(sequence) for sequence in by_key(received).values())


async def test_bytes_come_back_as_they_were_sent(site: Site) -> None:
    """Null, empty and binary are three things; headers keep order and duplicates; names and values may be unicode."""
    headers = (
        ("ce_type", b"order.ReserveInventory"),
        ("twice", b"first"),
        ("empty", b""),
        ("twice", b"second"),
        ("binary", bytes(range(256))),
        ("größe-数", "naïve ✓".encode()),
    )
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        sent = [
            OutgoingMessage(topic, b"key", b"value", headers),
            OutgoingMessage(topic, b"tombstone", None),
            OutgoingMessage(topic, b"", b""),
            OutgoingMessage(topic, None, b"no key"),
            OutgoingMessage(topic, None, None, (("only", b"headers"),)),
            OutgoingMessage(topic, bytes(range(256)), bytes(range(255, -1, -1)) * 4),
        ]
        await send(broker, sent)
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, len(sent))
    assert [OutgoingMessage(m.topic, m.key, m.value, m.headers) for m in received] == sent


async def test_messages_without_a_key_are_spread_and_none_is_lost(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker)
        for number in range(40):
            await send(broker, [OutgoingMessage(topic, None, str(number).encode())])
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 40)
    assert sorted(numbers(received)) == list(range(40))
    assert len({m.partition for m in received}) > 1


async def test_large_messages_pass_whole(site: Site) -> None:
    large = bytes(range(256)) * 4 * 900
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=2)
        await send(broker, [OutgoingMessage(topic, f"{n}".encode(), large + bytes([n])) for n in range(6)])
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 6)
    assert sorted(m.value or b"" for m in received) == [large + bytes([n]) for n in range(6)]


async def test_the_largest_message_passes_and_one_byte_more_is_refused_alone(site: Site) -> None:
    limit = QUICK.message_bytes_max
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        room = limit - message_bytes(OutgoingMessage(topic, b"k", b""))
        producer = broker.producer("test")
        await producer.start()
        results = await producer.send(
            [
                OutgoingMessage(topic, b"k", b"before"),
                OutgoingMessage(topic, b"k", b"x" * (room + 1)),
                OutgoingMessage(topic, b"k", b"x" * room),
                OutgoingMessage(topic, b"k", b"after"),
            ]
        )
        assert [result is None for result in results] == [True, False, True, True]
        refusal = results[1]
        assert refusal is not None
        assert (refusal.code, refusal.retriable) == ("too_large", False)
        assert str(limit) in str(refusal)
        assert str(limit + 1) in str(refusal)
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 3)
    assert [len(m.value or b"") for m in received] == [6, room, 5]


async def test_a_missing_topic_fails_its_own_messages_only(site: Site) -> None:
    """Retriable: the message is fine, and an operator can make the topic."""
    async with opened(site) as broker:
        topic = await new_topic(broker)
        producer = broker.producer("test")
        await producer.start()
        nowhere = new_name("nowhere")
        for _ in range(2):
            results = await producer.send([OutgoingMessage(nowhere, b"k", b"v"), OutgoingMessage(topic, b"k", b"v")])
            refusal = results[0]
            assert refusal is not None
            assert (refusal.code, refusal.retriable) == ("unknown_topic", True)
            assert nowhere in str(refusal)
            assert results[1] is None
        await broker.ensure_topics([TopicSpec(nowhere, 1)])
        async with asyncio.timeout(60):
            while await producer.send([OutgoingMessage(nowhere, b"k", b"v")]) != [None]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_append_times_are_the_brokers_and_never_go_back_in_a_partition(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=2)
        before = time.time_ns() // 1000
        for start in range(0, 60, 20):
            await send(broker, numbered(topic, 20, start=start))
            await asyncio.sleep(0.005)
        after = time.time_ns() // 1000
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 60)
    for partition in range(2):
        times = [m.appended_at for m in received if m.partition == partition]
        assert times == sorted(times)
        # Kafka cuts to milliseconds.
        assert before - 1_000 <= times[0] <= times[-1] <= after + 1_000
    assert len({m.appended_at for m in received}) >= 3


async def test_end_offsets_count_all_that_was_acknowledged_and_positions_reach_them(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=3)
        async with consuming(broker, [topic]) as consumer:
            await assigned(consumer, 3)
            assert await consumer.end_offsets() == {(topic, n): 0 for n in range(3)} == consumer.positions()
            await send(broker, numbered(topic, 50))
            ends = await consumer.end_offsets()
            assert sum(ends.values()) == 50
            received = await read(consumer, 50)
            assert consumer.positions() == ends
            assert ends == {(topic, n): sum(m.partition == n for m in received) for n in range(3)}


async def test_fetch_honours_its_limit_and_loses_nothing_by_it(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=3)
        await send(broker, numbered(topic, 100))
        received: list[IncomingMessage] = []
        async with consuming(broker, [topic]) as consumer, asyncio.timeout(20):
            while len(received) < 100:
                part = await consumer.fetch(7, 200)
                assert len(part) <= 7
                received += part
    assert sorted(numbers(received)) == list(range(100))
    assert all(sequence == sorted(sequence) for sequence in by_key(received).values())


async def test_an_empty_fetch_returns_after_its_time_and_a_message_wakes_it(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker)
        producer = broker.producer("test")
        await producer.start()
        async with consuming(broker, [topic]) as consumer:
            await assigned(consumer, 4)
            started = time.monotonic()
            assert await consumer.fetch(10, 300) == []
            assert 0.25 < time.monotonic() - started < 5
            waiting = asyncio.create_task(consumer.fetch(10, 10_000))
            await asyncio.sleep(0.3)
            started = time.monotonic()
            await producer.send(numbered(topic, 1))
            assert numbers(await waiting) == [0]
            assert time.monotonic() - started < 5, "shorter than the fetch would have waited"


async def test_a_cancelled_fetch_loses_nothing(site: Site) -> None:
    """Whoever waits for messages may be cancelled at any moment, by a time-out for instance."""
    async with opened(site) as broker:
        topic = await new_topic(broker)
        received: list[IncomingMessage] = []
        async with consuming(broker, [topic]) as consumer:
            await assigned(consumer, 4)
            sending = asyncio.create_task(send(broker, numbered(topic, 200)))
            async with asyncio.timeout(30):
                while len(received) < 200:
                    try:
                        async with asyncio.timeout(0.003):
                            received += await consumer.fetch(5, 1_000)
                    except TimeoutError:
                        pass
            await sending
    assert sorted(numbers(received)) == list(range(200))
    assert all(sequence == sorted(sequence) for sequence in by_key(received).values())


async def test_a_cancelled_send_is_still_appended_and_harms_nobody(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker)
        producer = broker.producer("test")
        await producer.start()
        await producer.send(numbered(topic, 1))
        impatient = asyncio.create_task(producer.send(numbered(topic, 1, start=1)))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await producer.send(numbered(topic, 5, start=2)) == [None] * 5
        async with consuming(broker, [topic]) as consumer:
            assert sorted(numbers(await read(consumer, 7))) == list(range(7))


async def test_reading_goes_on_where_the_callers_store_says(site: Site) -> None:
    """Not where the broker's committed offsets say: those are a cache and may be ahead of a transaction that failed."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 10))
        group = new_name("group")
        async with consuming(broker, [topic], group=group) as consumer:
            assert numbers(await read(consumer, 10)) == list(range(10))
            await consumer.commit({(topic, 0): 10})
        async with consuming(broker, [topic], group=group, positions=Positions({(topic, 0): 4})) as consumer:
            assert numbers(await read(consumer, 6)) == [4, 5, 6, 7, 8, 9]
        async with consuming(broker, [topic], group=group, positions=Positions()) as consumer:
            assert numbers(await read(consumer, 10)) == list(range(10)), "None is a first start: from the earliest"


async def test_a_failing_position_source_is_heard_and_asked_again(site: Site) -> None:
    class Flaky(Positions):
        async def __call__(self, assigned: frozenset[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
            answer = await super().__call__(assigned)
            if len(self.asked) == 1:
                raise OSError("the store is away")
            return answer

    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 3))
        async with consuming(broker, [topic], positions=Flaky({(topic, 0): 1})) as consumer:
            with pytest.raises(OSError, match="the store is away"):
                await read(consumer, 1)
            assert consumer.assignment() == frozenset()
            assert numbers(await read(consumer, 2)) == [1, 2]


async def test_a_position_that_retention_has_passed_is_an_incident_not_a_jump(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 10))
        await site.delete_before(topic, 0, 6)
        async with consuming(broker, [topic], positions=Positions({(topic, 0): 4})) as consumer:
            for _ in range(2):
                with pytest.raises(PositionLostError) as caught:
                    await read(consumer, 1)
                lost = caught.value
                assert (lost.topic, lost.partition, lost.position, lost.log_start, lost.log_end) == (topic, 0, 4, 6, 10)
                assert "2 messages were deleted" in str(lost)
        async with consuming(broker, [topic]) as consumer:
            assert numbers(await read(consumer, 4)) == [6, 7, 8, 9], "a first start begins at what is left"


async def test_a_position_beyond_the_log_is_an_incident_too(site: Site) -> None:
    """As after a topic was deleted and made anew: waiting there would skip what comes until then."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 3))
        async with consuming(broker, [topic], positions=Positions({(topic, 0): 4})) as consumer:
            with pytest.raises(PositionLostError, match="shorter than what was already read"):
                await read(consumer, 1)


async def test_retention_that_overtakes_a_running_reader_is_noticed(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 2_000))
        async with consuming(broker, [topic]) as consumer:
            assert numbers(await read(consumer, 3)) == [0, 1, 2]
            await consumer.pause()
            await consumer.fetch(1, 0)
            await send(broker, numbered(topic, 10, start=2_000))
            await site.delete_before(topic, 0, 2_005)
            await consumer.resume()
            with pytest.raises(PositionLostError) as caught:
                await read(consumer, 2_007)
            assert caught.value.log_start == 2_005
            assert caught.value.position < 2_005
