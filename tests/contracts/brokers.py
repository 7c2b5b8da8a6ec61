"""What the broker conformance suite needs from each implementation, and helpers to read and write in tests."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncpg
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from orchestrator.broker.contract import (
    Assignment,
    Broker,
    Consumer,
    IncomingMessage,
    OutgoingMessage,
    TopicSpec,
    open_broker,
)
from orchestrator.broker.settings import BrokerSettings
from tests import forking
from tests.databases import Database
from tests.simulation.fake_broker import FakeBroker
from tests.simulation.fake_log import Log

# Short enough to wait for in a test; a busy machine may pause a process for some hundred milliseconds.
QUICK = BrokerSettings(
    session_timeout_ms=2_000,
    heartbeat_ms=200,
    postgres_lease_ms=2_000,
    postgres_heartbeat_ms=100,
    stop_timeout_ms=3_000,
)


class Site(Protocol):
    """Where one implementation runs."""

    url: str

    def open(self, settings: BrokerSettings) -> Broker:
        """A broker there."""

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Do what retention does: forget the messages before ``offset``."""


@dataclass
class KafkaSite:
    """A Kafka shared by the whole run."""

    bootstrap: str
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"kafka://{self.bootstrap}"

    def open(self, settings: BrokerSettings) -> Broker:
        return open_broker(self.url, settings=settings)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
        finally:
            await admin.close()


@dataclass
class PostgresSite:
    """A database of the test's own."""

    database: Database
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.database.url

    def open(self, settings: BrokerSettings) -> Broker:
        return open_broker(self.url, settings=settings)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        connection = await asyncpg.connect(self.database.migrate_url)
        try:
            where = "topic_id = (SELECT topic_id FROM broker_topic WHERE name = $1) AND partition = $2"
            await connection.execute(
                f"UPDATE broker_head SET start_offset = $3 WHERE {where}", topic, partition, offset
            )
            await connection.execute(
                f"DELETE FROM broker_message WHERE {where} AND log_offset < $3", topic, partition, offset
            )
        finally:
            await connection.close()


@dataclass
class SimulatedSite:
    """A log in memory: what the simulation of the whole runtime runs on must keep the same promises."""

    log: Log = field(default_factory=Log)
    url: str = ""

    def open(self, settings: BrokerSettings) -> Broker:
        return FakeBroker(self.log, settings)

    async def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.log.topics[topic][partition].start = offset


def new_name(what: str) -> str:
    """A topic or group that no other test uses."""
    return f"{what}.{uuid.uuid4().hex[:8]}"


@asynccontextmanager
async def opened(site: Site, settings: BrokerSettings = QUICK) -> AsyncIterator[Broker]:
    """A broker that is closed afterwards."""
    broker = site.open(settings)
    try:
        yield broker
    finally:
        await broker.close()


async def new_topic(broker: Broker, partitions: int = 4) -> str:
    """A fresh topic."""
    topic = new_name("topic")
    await broker.ensure_topics([TopicSpec(topic, partitions)])
    return topic


class Positions:
    """A store of positions, as a caller has one: the truth that survives a consumer."""

    def __init__(self, stored: Mapping[Assignment, int] | None = None) -> None:
        self.stored: dict[Assignment, int] = dict(stored or {})
        self.asked: list[frozenset[Assignment]] = []

    async def __call__(self, assigned: frozenset[Assignment]) -> dict[Assignment, int | None]:
        self.asked.append(assigned)
        return {item: self.stored.get(item) for item in assigned}

    def keep(self, messages: Sequence[IncomingMessage]) -> None:
        """Move on, never back: what a fenced, conditional update does."""
        for message in messages:
            item = (message.topic, message.partition)
            self.stored[item] = max(self.stored.get(item, 0), message.offset + 1)


@asynccontextmanager
async def consuming(
    broker: Broker, topics: Sequence[str], *, group: str | None = None, positions: Positions | None = None
) -> AsyncIterator[Consumer]:
    """A started consumer, stopped afterwards."""
    consumer = broker.consumer(group or new_name("group"), topics, positions or Positions())
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def send(broker: Broker, messages: Sequence[OutgoingMessage]) -> None:
    """Send all, or fail the test."""
    producer = broker.producer("test")
    await producer.start()
    try:
        results = await producer.send(messages)
        assert results == [None] * len(messages)
    finally:
        await producer.stop()


async def read(consumer: Consumer, count: int, *, within_s: float = 20.0) -> list[IncomingMessage]:
    """The next ``count`` messages; fails when they do not come in time. Never takes more."""
    messages: list[IncomingMessage] = []
    async with asyncio.timeout(within_s):
        while len(messages) < count:
            messages += await consumer.fetch(count - len(messages), 200)
    return messages


async def assigned(consumer: Consumer, partitions: int, *, within_s: float = 20.0) -> None:
    """Fetch (nothing is expected to come) until the consumer has so many partitions."""
    async with asyncio.timeout(within_s):
        while len(consumer.assignment()) != partitions:
            assert await consumer.fetch(1, 50) == []


def numbered(topic: str, count: int, *, keys: int = 7, start: int = 0) -> list[OutgoingMessage]:
    """Messages whose value is their number, spread over some keys."""
    return [
        OutgoingMessage(topic, f"key-{number % keys}".encode(), str(number).encode())
        for number in range(start, start + count)
    ]


def numbers(messages: Sequence[IncomingMessage]) -> list[int]:
    """The numbers of ``numbered`` messages, in the order given."""
    return [int(message.value or b"-1") for message in messages]


def by_key(messages: Sequence[IncomingMessage]) -> dict[bytes | None, list[int]]:
    """The numbers per key, in order of delivery."""
    result: dict[bytes | None, list[int]] = {}
    for message in messages:
        result.setdefault(message.key, []).append(int(message.value or b"-1"))
    return result


@asynccontextmanager
async def member_process(
    site: Site, group: str, topic: str, *, session_timeout_ms: int = QUICK.session_timeout_ms
) -> AsyncIterator[forking.Program]:
    """Another process that is a member of the group, with at least one partition; killed afterwards at the latest."""
    assert site.url, "no other process can join a log in this one's memory"
    arguments = (site.url, group, topic, str(session_timeout_ms))
    process = await forking.started("tests.contracts.broker_member", *arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
