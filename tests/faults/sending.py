"""Sends whatever it is given to either broker, and says in which words that broker hands it out again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from orchestrator.broker.contract import Broker, OutgoingMessage, TopicSpec, open_broker
from orchestrator.broker.partition import partition_of
from orchestrator.broker.settings import BrokerSettings
from tests.faults.raw_kafka import RawKafka

PARTITIONS = 2
SETTINGS = BrokerSettings(partitions_default=PARTITIONS)


class Sender(Protocol):
    """One broker with topics that are ready."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Appends messages of one topic to the partition of the first one's key."""


class KafkaSender:
    """Records as other people's producers may write them, all in one batch of Kafka's format."""

    def __init__(self, raw: RawKafka) -> None:
        self._raw = raw

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """See ``Sender``."""
        await self._raw.send(messages, partition_of(messages[0].key or b"", PARTITIONS))


class LogSender:
    """The log in PostgreSQL takes names as text only: what is no UTF-8 comes as its escapes."""

    def __init__(self, broker: Broker) -> None:
        self._producer = broker.producer("corpus")

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """See ``Sender``."""
        results = await self._producer.send([replace(m, headers=shown(m.headers)) for m in messages])
        assert set(results) == {None}, results


def shown(headers: Sequence[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
    """Headers as every reader of ours gets them."""
    return tuple(
        (name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"), value) for name, value in headers
    )


@asynccontextmanager
async def sender_to(url: str, topics: Sequence[str]) -> AsyncIterator[Sender]:
    """A sender to the broker behind a URL, on which these topics were made, with a generous limit for sizes."""
    broker = open_broker(url, settings=SETTINGS)
    try:
        await broker.ensure_topics([TopicSpec(name) for name in topics])
        if url.startswith("kafka://"):
            async with RawKafka(url.removeprefix("kafka://")) as raw:
                yield KafkaSender(raw)
        else:
            yield LogSender(broker)
    finally:
        await broker.close()
