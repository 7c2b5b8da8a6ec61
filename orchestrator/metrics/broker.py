"""A broker that counts: what is sent, polled and committed, by topic, with the names of the messaging conventions.

Rules of this file
- It changes nothing: same results, same errors, same order. Counting costs one pass over topics a batch.
- A batch that goes to several topics names none in its duration, as the conventions say; its messages are counted by
  topic.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from time import perf_counter

from orchestrator.broker.contract import (
    Assignment,
    Broker,
    Consumer,
    IncomingMessage,
    Looked,
    OutgoingMessage,
    PositionSource,
    Producer,
    SendError,
    TopicSpec,
    Wanted,
)
from orchestrator.metrics import names
from orchestrator.metrics.figures import Figures


class CountingBroker:
    """A broker whose producers and consumers count."""

    def __init__(self, broker: Broker, figures: Figures, system: str) -> None:
        self._broker, self._figures, self._system = broker, figures, system

    def producer(self, name: str) -> Producer:
        """See Broker."""
        return CountingProducer(self._broker.producer(name), self._figures, self._system)

    def consumer(self, group: str, topics: Sequence[str], positions: PositionSource) -> Consumer:
        """See Broker."""
        inner = self._broker.consumer(group, topics, positions)
        only = topics[0] if len(topics) == 1 else ""
        return CountingConsumer(inner, self._figures, self._system, group, only)

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """See Broker."""
        await self._broker.ensure_topics(topics)

    async def look(
        self, topic: str, since: int, until: int, wanted: Wanted, *, key: bytes | None, messages_max: int, wait_ms: int
    ) -> Looked:
        """See Broker. Not counted: it is people's looking, no part of the flow."""
        return await self._broker.look(topic, since, until, wanted, key=key, messages_max=messages_max, wait_ms=wait_ms)

    async def close(self) -> None:
        """See Broker."""
        await self._broker.close()


class CountingProducer:
    """A producer that counts."""

    def __init__(self, producer: Producer, figures: Figures, system: str) -> None:
        self._producer, self._system = producer, system
        self._took = figures.histogram(names.OPERATION_DURATION)
        self._sent = figures.counter(names.SENT)

    async def start(self) -> None:
        """See Producer."""
        await self._producer.start()

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """See Producer."""
        began = perf_counter()
        topics = Tally([message.topic for message in messages])
        try:
            results = await self._producer.send(messages)
        except BaseException as error:
            self._count(topics, perf_counter() - began, type(error).__name__)
            raise
        took = perf_counter() - began
        if not any(results):
            self._count(topics, took, "")
            return results
        errors = Tally((m.topic, e.code if e else "") for m, e in zip(messages, results, strict=True))
        for (topic, code), number in errors.items():
            self._sent.add((self._system, "send", topic, code), number)
        self._took.observe(self._called(topics, next(e.code for e in results if e)), took)
        return results

    async def stop(self) -> None:
        """See Producer."""
        await self._producer.stop()

    def _count(self, topics: Mapping[str, int], took: float, error: str) -> None:
        for topic, number in topics.items():
            self._sent.add((self._system, "send", topic, error), number)
        self._took.observe(self._called(topics, error), took)

    def _called(self, topics: Mapping[str, int], error: str) -> tuple[str, ...]:
        return self._system, "send", "send", next(iter(topics)) if len(topics) == 1 else "", "", error


class CountingConsumer:
    """A consumer that counts. `topic`: the only one that it reads, or ""."""

    def __init__(self, consumer: Consumer, figures: Figures, system: str, group: str, topic: str) -> None:
        self._consumer, self._system, self._group, self._topic = consumer, system, group, topic
        self._took = figures.histogram(names.OPERATION_DURATION)
        self._consumed = figures.counter(names.CONSUMED)
        self.start, self.stop = consumer.start, consumer.stop
        self.assignment, self.settled = consumer.assignment, consumer.settled
        self.generation, self.positions = consumer.generation, consumer.positions
        self.end_offsets, self.pause, self.resume = consumer.end_offsets, consumer.pause, consumer.resume

    async def fetch(self, max_messages: int, wait_ms: int) -> list[IncomingMessage]:
        """See Consumer. Nothing is awaited after the poll: what it gave belongs to the generation at that moment."""
        began = perf_counter()
        try:
            messages = await self._consumer.fetch(max_messages, wait_ms)
        except Exception as error:
            self._called("poll", "receive", perf_counter() - began, type(error).__name__)
            raise
        self._called("poll", "receive", perf_counter() - began, "")
        if messages:
            for topic, number in Tally([message.topic for message in messages]).items():
                self._consumed.add((self._system, "poll", topic, self._group, ""), number)
        return messages

    async def commit(self, positions: Mapping[Assignment, int]) -> None:
        """See Consumer."""
        began = perf_counter()
        try:
            await self._consumer.commit(positions)
        except Exception as error:
            self._called("commit", "settle", perf_counter() - began, type(error).__name__)
            raise
        self._called("commit", "settle", perf_counter() - began, "")

    def _called(self, name: str, kind: str, took: float, error: str) -> None:
        self._took.observe((self._system, name, kind, self._topic, self._group, error), took)
