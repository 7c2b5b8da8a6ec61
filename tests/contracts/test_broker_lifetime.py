"""The broker's contract around the messages: topics, starting, stopping, an absent server. On every implementation."""

import asyncio
import time

import pytest

from orchestrator.broker.contract import (
    BrokerError,
    BrokerSetupError,
    BrokerUnavailableError,
    TopicSpec,
    open_broker,
)
from tests.contracts.brokers import (
    QUICK,
    Positions,
    Site,
    assigned,
    consuming,
    new_name,
    new_topic,
    numbered,
    opened,
    read,
)


async def test_topics_are_created_once_and_checked_ever_after(site: Site) -> None:
    async with opened(site) as broker, opened(site) as other:
        topic = new_name("topic")
        await asyncio.gather(*(b.ensure_topics([TopicSpec(topic, 3)]) for b in (broker, other, broker)))
        await broker.ensure_topics([TopicSpec(topic, 3), TopicSpec(topic)])
        with pytest.raises(BrokerSetupError) as caught:
            await broker.ensure_topics([TopicSpec(topic, 5)])
        assert topic in str(caught.value)
        assert "has 3 partitions, 5 are wanted" in str(caught.value)
        plain = new_name("topic")
        await broker.ensure_topics([TopicSpec(plain)])
        async with consuming(broker, [plain]) as consumer:
            await assigned(consumer, QUICK.partitions_default)


async def test_a_consumer_of_a_missing_topic_says_so(site: Site) -> None:
    async with opened(site) as broker:
        nowhere = new_name("nowhere")
        consumer = broker.consumer(new_name("group"), [nowhere], Positions())
        with pytest.raises(BrokerSetupError, match=nowhere):
            await consumer.start()
        await consumer.stop()


async def test_stop_is_prompt_and_final(site: Site) -> None:
    async with opened(site) as broker:
        topic = await new_topic(broker)
        producer = broker.producer("test")
        await producer.start()
        await producer.send(numbered(topic, 1))
        consumer = broker.consumer(new_name("group"), [topic], Positions())
        await consumer.start()
        assert len(await read(consumer, 1)) == 1
        waiting = asyncio.create_task(consumer.fetch(10, 60_000))
        await asyncio.sleep(0.1)
        started = time.monotonic()
        await consumer.stop()
        await producer.stop()
        assert await waiting == []
        assert time.monotonic() - started < 20, "shorter than the fetch would have waited"
        await consumer.stop()
        await producer.stop()
        with pytest.raises(BrokerError):
            await consumer.fetch(1, 0)
        with pytest.raises(BrokerError):
            await producer.send(numbered(topic, 1))


async def test_an_unreachable_broker_is_named_as_such() -> None:
    quick = type(QUICK)(connect_timeout_ms=1_000)
    for url in ("kafka://127.0.0.1:1", "postgresql://nobody@127.0.0.1:1/nothing"):
        broker = open_broker(url, settings=quick)
        with pytest.raises(BrokerUnavailableError):
            await broker.ensure_topics([TopicSpec("t")])
        with pytest.raises(BrokerUnavailableError):
            await broker.consumer("g", ["t"], Positions()).start()
        with pytest.raises(BrokerUnavailableError):
            await broker.producer("p").start()
        await broker.close()
