"""The Kafka producer against a driver that fails on command: what may still be sent after a failure, and what not."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import aiokafka.errors as kafka_errors
import pytest

from orchestrator.broker.contract import BrokerUnavailableError, OutgoingMessage
from orchestrator.broker.kafka_producer import KafkaProducer
from orchestrator.broker.settings import BrokerSettings

SETTINGS = replace(BrokerSettings(), send_batch_bytes=200, send_timeout_ms=200, stop_timeout_ms=100)
SMALL = b"x" * 110  # one message fills a batch of 200 bytes


class Driver:
    """Stands in for the driver's producer. ``plan`` says what becomes of each batch: None, an error, or ``hang``."""

    def __init__(self, plan: list[object], sent: list[int]) -> None:
        self.plan, self.sent = plan, sent
        self.stopped = False
        cluster = SimpleNamespace(partitions_for_topic=lambda topic: {0, 1})
        self.client = SimpleNamespace(cluster=cluster, close=self._nothing)
        self._message_accumulator = SimpleNamespace(fail_all=lambda error: None)
        self._sender = SimpleNamespace(sender_task=None)

    async def start(self) -> None:
        if self.plan and self.plan[0] == "no start":
            raise kafka_errors.KafkaConnectionError("refused")

    async def stop(self) -> None:
        self.stopped = True

    async def send_batch(self, builder: Any, topic: str, *, partition: int) -> "asyncio.Future[None]":
        del topic, builder
        self.sent.append(partition)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        outcome = self.plan.pop(0) if self.plan else None
        if isinstance(outcome, BaseException):
            answer.set_exception(outcome)
        elif outcome is None:
            answer.set_result(None)
        return answer

    async def _nothing(self) -> None:
        return


def producer(plan: list[object]) -> tuple[KafkaProducer, list[Driver], list[int]]:
    """A producer, the drivers it made, and the partitions of the batches that were handed over."""
    drivers: list[Driver] = []
    sent: list[int] = []

    def make() -> Driver:
        drivers.append(Driver(plan, sent))
        return drivers[-1]

    return KafkaProducer(make, SETTINGS), drivers, sent


def messages(count: int, key: bytes = b"a") -> list[OutgoingMessage]:
    """Each of them a batch of its own."""
    return [OutgoingMessage("t", key, SMALL) for _ in range(count)]


def codes(results: list[Any]) -> list[str | None]:
    return [result.code if result else None for result in results]


async def test_after_a_retriable_failure_later_batches_of_the_partition_are_held_back() -> None:
    """Sent on, they would overtake the failed one, which is going to be sent again."""
    send, drivers, sent = producer([None, kafka_errors.TopicAuthorizationFailedError("t")])
    results = await send.send(messages(4))
    assert codes(results) == [None, "not_allowed", "held_back", "held_back"]
    assert all(result.retriable for result in results if result)
    assert len(sent) == 2
    assert len(drivers) == 1
    assert await send.send(messages(1)) == [None]
    assert len(drivers) == 2, "the failed batch left the first one's sequence numbers wrong"
    await send.stop()
    assert all(driver.stopped for driver in drivers)


async def test_a_refused_message_does_not_hold_back_the_next() -> None:
    send, _, sent = producer([kafka_errors.UnknownError("invalid record")])
    assert codes(await send.send(messages(3))) == ["refused", None, None]
    assert len(sent) == 3
    await send.stop()


async def test_other_partitions_go_on() -> None:
    send, _, sent = producer([kafka_errors.OutOfOrderSequenceNumber("lost")])
    both = [message for pair in zip(messages(3, b"a"), messages(3, b"d"), strict=True) for message in pair]
    results = await send.send(both)
    assert codes(results[::2]) == ["unavailable", "held_back", "held_back"]
    assert codes(results[1::2]) == [None, None, None]
    assert len(set(sent)) == 2, "the keys were chosen to differ"
    await send.stop()


async def test_silence_is_a_time_out_with_unknown_outcome() -> None:
    send, drivers, _ = producer([None, "hang"])
    results = await send.send(messages(3))
    assert codes(results) == [None, "timeout", "held_back"]
    assert "may have been appended" in str(results[1])
    assert await send.send(messages(1)) == [None]
    assert len(drivers) == 2
    await send.stop()


async def test_a_broker_that_is_away_fails_all_and_is_tried_again() -> None:
    plan: list[object] = ["no start"]
    send, _, _ = producer(plan)
    with pytest.raises(BrokerUnavailableError, match="refused"):
        await send.start()
    assert codes(await send.send(messages(2))) == ["unavailable"] * 2
    plan.clear()
    assert await send.send(messages(2)) == [None, None]
    await send.stop()
