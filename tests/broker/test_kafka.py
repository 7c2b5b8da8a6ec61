"""Kafka where it has no counterpart: the driver's settings, refused batches, a crashed or frozen cluster, markers."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orchestrator.broker.contract import BrokerError, BrokerSetupError, OutgoingMessage, TopicSpec, open_broker
from orchestrator.broker.kafka import KafkaBroker, check_topic, connect
from orchestrator.broker.local_kafka import KafkaServer
from orchestrator.broker.settings import BrokerSettings, KafkaSecurity
from tests.contracts.brokers import (
    QUICK,
    KafkaSite,
    Positions,
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

needs_kafka = pytest.mark.kafka


@pytest.fixture
def site(kafka: str) -> KafkaSite:
    """The run's Kafka."""
    return KafkaSite(kafka)


@pytest.fixture
async def admin(kafka: str) -> AsyncIterator[Any]:
    """The driver's own administration, to make topics as others would."""
    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    yield client
    await client.close()


@needs_kafka
async def test_partitions_of_one_number_go_to_one_member_in_all_topics(site: KafkaSite) -> None:
    """Answers to a saga come on several topics under one key: else its state would wander between processes."""
    async with opened(site) as broker:
        topics, group = [await new_topic(broker, 4) for _ in range(3)], new_name("group")
        async with AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(consuming(broker, topics, group=group, positions=Positions()))
                for _ in range(3)
            ]
            async with asyncio.timeout(60):
                while sorted(len(member.assignment()) for member in members) != [3, 3, 6]:
                    await asyncio.gather(*(member.fetch(1, 50) for member in members))
            for member in members:
                places = {topic: {p for t, p in member.assignment() if t == topic} for topic in topics}
                assert len(set(map(frozenset, places.values()))) == 1, places


def test_the_drivers_unsafe_defaults_are_all_overruled() -> None:
    """Automatic commits, reading from the end, uncommitted reads, one acknowledging replica: each loses data."""
    broker = connect("kafka://a:1,b", BrokerSettings())
    consumer = broker.consumer_options("group")
    assert consumer["enable_auto_commit"] is False
    assert consumer["auto_offset_reset"] == "none"
    assert consumer["isolation_level"] == "read_committed"
    assert consumer["session_timeout_ms"] == 45_000
    assert consumer["heartbeat_interval_ms"] == 3_000
    assert consumer["request_timeout_ms"] > consumer["session_timeout_ms"], "joining waits for the slowest member"
    assert consumer["max_partition_fetch_bytes"] >= BrokerSettings().message_bytes_max
    producer = broker.producer_options("relay")
    assert producer["acks"] == "all"
    assert producer["enable_idempotence"] is True
    assert producer["max_batch_size"] <= producer["max_request_size"] == BrokerSettings().message_bytes_max
    assert consumer["bootstrap_servers"] == producer["bootstrap_servers"] == ["a:1", "b:9092"]


def test_security_reaches_the_driver() -> None:
    security = KafkaSecurity(protocol="SASL_SSL", mechanism="PLAIN", username="u", password="secret")
    options = connect("kafka://a", BrokerSettings(kafka_security=security)).producer_options("p")
    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_context"] is not None
    assert (options["sasl_mechanism"], options["sasl_plain_username"]) == ("PLAIN", "u")
    assert "ssl_context" not in connect("kafka://a", BrokerSettings()).producer_options("p")


@pytest.mark.parametrize(
    ("partitions", "configs", "complaint"),
    [
        (5, {}, "has 5 partitions, 4 are wanted"),
        (4, {"message.timestamp.type": "CreateTime"}, "message.timestamp.type = CreateTime, LogAppendTime is needed"),
        (4, {"max.message.bytes": "1000"}, "max.message.bytes = 1000, .*message_bytes_max is 2000"),
    ],
)
def test_a_topic_that_does_not_fit_is_refused_with_both_values(
    partitions: int, configs: dict[str, str], complaint: str
) -> None:
    good = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "2000"}
    check_topic(TopicSpec("t", 4), 4, good, 2_000)
    with pytest.raises(BrokerSetupError, match=complaint):
        check_topic(TopicSpec("t", 4), partitions, good | configs, 2_000)


@needs_kafka
async def test_a_topic_with_the_senders_clock_is_refused(site: KafkaSite, admin: Any) -> None:
    topic = new_name("foreign")
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"message.timestamp.type": "CreateTime"})])
    async with opened(site) as broker:
        with pytest.raises(BrokerSetupError, match=f"{topic}.*CreateTime, LogAppendTime is needed"):
            await broker.ensure_topics([TopicSpec(topic)])


@needs_kafka
async def test_one_bad_record_does_not_take_its_batch_along(site: KafkaSite, admin: Any) -> None:
    """A compacted topic refuses records without a key, and Kafka refuses the whole batch for one of them.

    Afterwards the producer must still work, though the driver's sequence numbers are ahead of the broker's then.
    """
    topic = new_name("compacted")
    configs = {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    async with opened(site) as broker:
        other = await new_topic(broker)
        producer = broker.producer("p")
        await producer.start()
        for _ in range(2):
            batch = [
                OutgoingMessage(topic, b"a", b"1"),
                OutgoingMessage(topic, None, b"bad"),
                OutgoingMessage(topic, b"b", b"2"),
                *numbered(other, 20),
                OutgoingMessage(topic, b"a", b"3"),
            ]
            results = await producer.send(batch)
            assert [index for index, result in enumerate(results) if result is not None] == [1]
            refusal = results[1]
            assert refusal is not None
            assert (refusal.code, refusal.retriable) == ("refused", False)
        async with consuming(broker, [topic]) as consumer:
            assert numbers(await read(consumer, 6)) == [1, 2, 3, 1, 2, 3]


@needs_kafka
async def test_a_batch_over_the_topics_own_limit_is_taken_apart(site: KafkaSite, admin: Any) -> None:
    """Somebody lowered max.message.bytes after we had checked it."""
    topic = new_name("small")
    configs = {"max.message.bytes": "5000", "message.timestamp.type": "LogAppendTime"}
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
    async with opened(site) as broker:
        producer = broker.producer("p")
        await producer.start()
        sizes = [1_000, 1_000, 6_000, 1_000, 1_000, 1_000]
        results = await producer.send([OutgoingMessage(topic, b"k", b"x" * size) for size in sizes])
        assert [result.code if result else None for result in results] == [None, None, "too_large", None, None, None]
        async with consuming(broker, [topic]) as consumer:
            assert [len(m.value or b"") for m in await read(consumer, 5)] == [1_000] * 5


@needs_kafka
async def test_large_batches_go_in_several_requests_in_order(site: KafkaSite) -> None:
    async with opened(site, replace(QUICK, send_batch_bytes=2_000)) as broker:
        topic = await new_topic(broker, partitions=2)
        await send(broker, numbered(topic, 3_000))
        async with consuming(broker, [topic]) as consumer:
            received = await read(consumer, 3_000)
    assert all(sequence == sorted(sequence) for sequence in by_key(received).values())


@needs_kafka
async def test_positions_reach_the_end_behind_markers_of_transactions(site: KafkaSite) -> None:
    """An upstream service with transactions leaves markers that nobody reads; a partition at rest must look read."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        upstream = AIOKafkaProducer(bootstrap_servers=site.bootstrap, transactional_id=new_name("tx"))
        await upstream.start()
        try:
            async with upstream.transaction():
                await upstream.send_and_wait(topic, b"1", key=b"k")
            await upstream.begin_transaction()
            await upstream.send_and_wait(topic, b"2", key=b"k")
            await upstream.abort_transaction()
        finally:
            await upstream.stop()
        async with consuming(broker, [topic]) as consumer:
            assert numbers(await read(consumer, 1)) == [1], "what was rolled back upstream is never seen"
            async with asyncio.timeout(60):
                while consumer.positions() != await consumer.end_offsets():
                    assert await consumer.fetch(10, 100) == []
            assert consumer.positions() == {(topic, 0): 4}
            await send(broker, numbered(topic, 1, start=3))
            assert numbers(await read(consumer, 1)) == [3]


@needs_kafka
async def test_a_null_header_becomes_an_empty_one(site: KafkaSite) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        foreign = AIOKafkaProducer(bootstrap_servers=site.bootstrap)
        await foreign.start()
        try:
            await foreign.send_and_wait(topic, b"v", headers=[("a", b"1"), ("b", None), ("c", b"3")])
        finally:
            await foreign.stop()
        async with consuming(broker, [topic]) as consumer:
            (message,) = await read(consumer, 1)
    assert message.headers == (("a", b"1"), ("b", b""), ("c", b"3"))


@needs_kafka
async def test_stop_is_prompt_while_the_group_waits_for_a_frozen_member(site: KafkaSite) -> None:
    """A rearrangement lasts until the frozen member's session ends; whoever wants to go shall not wait for that."""
    patient = replace(QUICK, session_timeout_ms=10_000, stop_timeout_ms=500)
    async with opened(site, patient) as broker:
        topic, group = await new_topic(broker), new_name("group")
        async with member_process(site, group, topic, session_timeout_ms=10_000) as process:
            assert await asyncio.wait_for(process.stdout.readline(), 20) == b"joined\n"
            os.kill(process.pid, signal.SIGSTOP)
            consumer = broker.consumer(group, [topic], Positions())
            await consumer.start()
            assert await consumer.fetch(1, 1_000) == []
            assert consumer.assignment() == frozenset()
            started = time.monotonic()
            await consumer.stop()
            assert time.monotonic() - started < 7, "shorter than the session of the frozen one"


@pytest.mark.slow
@pytest.mark.timeout(400)
@needs_kafka
async def test_an_outage_is_survived_without_loss_or_reordering(kafka: str) -> None:
    """The server is killed between two batches and in the midst of one, and comes back with its data."""
    del kafka  # where no Kafka can be had, this one cannot be had either
    server = KafkaServer()
    await asyncio.to_thread(server.start)
    try:
        site = KafkaSite(server.bootstrap)
        impatient = replace(QUICK, send_timeout_ms=1_500, connect_timeout_ms=1_000, session_timeout_ms=6_000)
        async with opened(site, impatient) as broker:
            topic = await new_topic(broker, partitions=2)
            producer = broker.producer("p")
            await producer.start()
            assert await producer.send(numbered(topic, 50)) == [None] * 50
            async with consuming(broker, [topic]) as consumer:
                received = await read(consumer, 20)
                await asyncio.to_thread(server.kill)
                results = await producer.send(numbered(topic, 50, start=50))
                assert all(error is not None and error.retriable for error in results)
                assert {error.code for error in results if error} <= {"timeout", "unavailable", "held_back"}
                with pytest.raises(BrokerError) as caught:
                    await consumer.end_offsets()
                assert caught.value.retriable
                await asyncio.to_thread(server.start)
                async with asyncio.timeout(200):  # two Java starts on a crowded machine
                    while await producer.send(numbered(topic, 50, start=50)) != [None] * 50:
                        pass
                    while len(set(numbers(received))) < 100:
                        received += await consumer.fetch(100, 200)
            firsts = {key: list(dict.fromkeys(sequence)) for key, sequence in by_key(received).items()}
            assert all(sequence == sorted(sequence) for sequence in firsts.values())
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.timeout(240)
@needs_kafka
async def test_a_stop_with_messages_in_the_air_ends_in_time(kafka: str) -> None:
    del kafka
    server = KafkaServer()
    await asyncio.to_thread(server.start)
    try:
        site = KafkaSite(server.bootstrap)
        broker = open_broker(site.url, settings=replace(QUICK, stop_timeout_ms=500))
        assert isinstance(broker, KafkaBroker)
        topic = await new_topic(broker)
        producer = broker.producer("p")
        await producer.start()
        assert await producer.send(numbered(topic, 5)) == [None] * 5
        consumer = broker.consumer("g", [topic], Positions())
        await consumer.start()
        await assigned_quietly(consumer, 4)
        await asyncio.to_thread(server.kill)
        hanging = asyncio.create_task(producer.send(numbered(topic, 5)))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        await broker.close()
        assert time.monotonic() - started < 15, "shorter than a request that nobody answers"
        (answer,) = await asyncio.gather(hanging, return_exceptions=True)
        if isinstance(answer, BaseException):
            assert isinstance(answer, BrokerError)
        else:
            assert None not in answer
    finally:
        await asyncio.to_thread(server.stop)


async def assigned_quietly(consumer: Any, partitions: int) -> None:
    """Like ``assigned``, whatever messages come."""
    async with asyncio.timeout(20):
        while len(consumer.assignment()) != partitions:
            await consumer.fetch(10, 50)
