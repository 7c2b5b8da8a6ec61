"""What other people's producers compress is read; and what is small cannot become huge in a reader's memory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiokafka.errors as kafka_errors
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orchestrator.broker.contract import Broker, IncomingMessage, OutgoingMessage, TopicSpec, open_broker
from orchestrator.broker.settings import BrokerSettings
from tests.faults.raw_kafka import RawKafka

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BOMB_BYTES = 3_000_000  # three times the limit; some kilobytes when compressed

pytestmark = [pytest.mark.kafka]


@pytest.fixture
async def broker(fresh_kafka: str) -> AsyncIterator[Broker]:
    """Our side of it."""
    made = open_broker(f"kafka://{fresh_kafka}", settings=BrokerSettings(partitions_default=1))
    try:
        yield made
    finally:
        await made.close()


async def foreign_topic(bootstrap: str) -> str:
    """A topic of another team, which keeps batches as their producers compressed them."""
    name = f"foreign-{uuid.uuid4().hex[:8]}"
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {"compression.type": "producer", "message.timestamp.type": "LogAppendTime"}
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])
    finally:
        await admin.close()
    return name


async def read(broker: Broker, topic: str, count: int) -> list[IncomingMessage]:
    """The first messages of a topic."""

    async def nowhere(wanted: Any) -> dict[Any, None]:
        return dict.fromkeys(wanted)

    consumer = broker.consumer(f"g-{uuid.uuid4().hex[:8]}", [topic], nowhere)
    await consumer.start()
    found: list[IncomingMessage] = []
    while len(found) < count:
        found += await consumer.fetch(100, 200)
    await consumer.stop()
    return found


@pytest.mark.parametrize("codec", CODECS)
async def test_a_batch_in_any_compression_is_read(codec: str, broker: Broker, fresh_kafka: str) -> None:
    """One that the driver could not unpack would stop its partition for ever. A strange header name changes nothing."""
    topic = await foreign_topic(fresh_kafka)
    await broker.ensure_topics([TopicSpec(topic)])
    headers = [(("a", b"1"),), (("\udcff", b"2"),), (("b", b"3"),)]
    messages = [OutgoingMessage(topic, b"k", b"v" * 1_000, given) for given in headers]
    async with RawKafka(fresh_kafka) as raw:
        await raw.send(messages, 0, CODECS[codec])
        await raw.send(messages[:1], 0, CODECS[codec])
    found = await read(broker, topic, 4)
    assert [message.offset for message in found] == [0, 1, 2, 3]
    assert [message.headers[0][0] for message in found] == ["a", "\\xff", "b", "a"]
    assert {message.value for message in found} == {b"v" * 1_000}


async def test_a_batch_that_is_small_only_while_it_is_compressed_is_refused(broker: Broker, fresh_kafka: str) -> None:
    """By the broker, on topics that we make: what they hold is what readers get."""
    topic = f"ours-{uuid.uuid4().hex[:8]}"
    await broker.ensure_topics([TopicSpec(topic)])
    bomb = OutgoingMessage(topic, b"k", bytes(BOMB_BYTES))
    fine = OutgoingMessage(topic, b"k", b"fine")
    async with RawKafka(fresh_kafka) as raw:
        for codec in CODECS.values():
            with pytest.raises(kafka_errors.MessageSizeTooLargeError):
                await raw.send([bomb], 0, codec)
        await raw.send([fine], 0, CODECS["zstd"])
    assert [message.value for message in await read(broker, topic, 1)] == [b"fine"]
