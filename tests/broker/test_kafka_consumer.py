"""The Kafka consumer against a driver that misbehaves on command: nothing may be skipped whatever it does."""

import asyncio
from types import SimpleNamespace
from typing import Any

import aiokafka.errors as kafka_errors
import pytest
from aiokafka import TopicPartition

from orchestrator.broker.contract import (
    BrokerError,
    BrokerSetupError,
    BrokerUnavailableError,
    IncomingMessage,
    PositionLostError,
)
from orchestrator.broker.kafka_consumer import KafkaConsumer
from tests.contracts.brokers import QUICK, Positions

ONE, TWO = TopicPartition("t", 0), TopicPartition("t", 1)


class Driver:
    """Stands in for the driver's consumer: two partitions of ten records each, read from wherever it is told."""

    def __init__(self) -> None:
        self.position = {ONE: 0, TWO: 0}
        self.errors: list[BaseException] = []  # each is raised by one ``getmany``, after positions moved
        self.gate = asyncio.Event()  # closed while the group is being rearranged
        self.gate.set()
        self.paused: set[TopicPartition] = set()
        self.listener: Any = None
        self._coordinator = SimpleNamespace(check_errors=lambda: None)
        assignment = SimpleNamespace(state_value=self._state)
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def topics(self) -> set[str]:
        return {"t"}

    def subscribe(self, topics: list[str], *, listener: Any) -> None:
        assert topics == ["t"]
        self.listener = listener

    def give(self, *partitions: TopicPartition) -> None:
        """What a rearrangement does, as the driver does it: first revoked, then assigned, from committed offsets."""
        self.listener.on_partitions_revoked(set(self.position))
        self.position = dict.fromkeys(partitions, 7)  # committed by somebody whose transaction then failed
        self.listener.on_partitions_assigned(set(partitions))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.position[partition] = offset

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused |= set(partitions)

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 10)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        if not self.gate.is_set():
            await self.gate.wait()
        drained: dict[TopicPartition, list[Any]] = {}
        for partition, position in self.position.items():
            upto = min(10, position + max_records)
            if upto > position:
                drained[partition] = [_record(offset) for offset in range(position, upto)]
                self.position[partition] = upto
        if self.errors:
            raise self.errors.pop(0)
        if not drained:
            await asyncio.sleep(timeout_ms / 1000)
        return drained

    def _state(self, partition: TopicPartition) -> Any:
        return SimpleNamespace(has_valid_position=True, position=self.position[partition])


def _record(offset: int) -> Any:
    return SimpleNamespace(offset=offset, key=b"k", value=str(offset).encode(), headers=(), timestamp=5)


def offsets(messages: list[IncomingMessage], partition: int = 0) -> list[int]:
    return [m.offset for m in messages if m.partition == partition]


@pytest.fixture
async def driver() -> Driver:
    """The driver of ``consumer``."""
    return Driver()


@pytest.fixture
async def positions() -> Positions:
    """The caller's store."""
    return Positions({("t", 0): 2})


@pytest.fixture
async def consumer(driver: Driver, positions: Positions) -> KafkaConsumer:
    """Started, without partitions yet."""
    consumer = KafkaConsumer(lambda: driver, "g", ["t"], positions, QUICK)
    await consumer.start()
    return consumer


async def test_nothing_comes_before_the_group_has_settled(consumer: KafkaConsumer, driver: Driver) -> None:
    assert await consumer.fetch(10, 20) == []
    assert consumer.assignment() == frozenset()
    driver.give(ONE)
    assert offsets(await consumer.fetch(3, 500)) == [2, 3, 4], "from the store, not from what was committed"
    assert consumer.positions() == {("t", 0): 5}


async def test_an_error_of_the_driver_skips_nothing(consumer: KafkaConsumer, driver: Driver) -> None:
    """It moves its positions over what it then does not hand out, as for a corrupt record in another partition."""
    driver.give(ONE)
    assert offsets(await consumer.fetch(2, 500)) == [2, 3]
    driver.errors = [kafka_errors.CorruptRecordException("bad"), kafka_errors.RequestTimedOutError("slow")]
    with pytest.raises(BrokerError, match="Corrupt"):
        await consumer.fetch(3, 500)
    with pytest.raises(BrokerUnavailableError, match="slow"):
        await consumer.fetch(3, 500)
    assert offsets(await consumer.fetch(3, 500)) == [4, 5, 6]


async def test_a_range_error_without_a_cause_is_not_taken_for_a_loss(consumer: KafkaConsumer, driver: Driver) -> None:
    driver.give(ONE)
    await consumer.fetch(2, 500)
    driver.errors = [kafka_errors.OffsetOutOfRangeError("odd")]
    with pytest.raises(BrokerError, match="OffsetOutOfRange"):
        await consumer.fetch(3, 500)


async def test_a_poll_that_spans_a_rearrangement_is_thrown_away(consumer: KafkaConsumer, driver: Driver) -> None:
    """It may end with records of the new assignment, from a position that nobody chose."""
    driver.give(ONE)
    assert offsets(await consumer.fetch(2, 500)) == [2, 3]
    driver.gate.clear()
    assert await consumer.fetch(2, 20) == []
    driver.give(ONE, TWO)
    driver.gate.set()
    received: list[IncomingMessage] = []
    while len(received) < 18:
        received += await consumer.fetch(100, 200)
    assert offsets(received) == [2, 3, 4, 5, 6, 7, 8, 9], "positioned anew, from the store"
    assert offsets(received, 1) == list(range(10))


async def test_a_finished_poll_of_an_older_generation_is_thrown_away(consumer: KafkaConsumer, driver: Driver) -> None:
    driver.give(ONE)
    assert offsets(await consumer.fetch(2, 500)) == [2, 3]
    driver.gate.clear()
    assert await consumer.fetch(2, 20) == []
    driver.gate.set()
    await asyncio.sleep(0.02)  # the poll ends with records that nobody fetched yet
    assert driver.position[ONE] == 6
    driver.give(ONE, TWO)
    received = await consumer.fetch(100, 500)
    assert offsets(received) == [2, 3, 4, 5, 6, 7, 8, 9]


async def test_a_finished_poll_of_this_generation_is_handed_out_later(consumer: KafkaConsumer, driver: Driver) -> None:
    driver.give(ONE)
    assert offsets(await consumer.fetch(2, 500)) == [2, 3]
    driver.gate.clear()
    assert await consumer.fetch(2, 20) == []
    driver.gate.set()
    await asyncio.sleep(0.02)
    assert offsets(await consumer.fetch(2, 500)) == [4, 5]
    assert offsets(await consumer.fetch(2, 500)) == [6, 7]


async def test_a_driver_that_goes_back_is_stopped(consumer: KafkaConsumer, driver: Driver) -> None:
    driver.give(ONE)
    await consumer.fetch(3, 500)
    driver.position[ONE] = 0
    with pytest.raises(BrokerError, match="went back from 5 to 0"):
        await consumer.fetch(3, 500)
    assert offsets(await consumer.fetch(1, 500)) == [5], "and set right"


async def test_a_paused_consumer_pauses_what_it_is_given(consumer: KafkaConsumer, driver: Driver) -> None:
    driver.give(ONE)
    await consumer.fetch(1, 500)
    await consumer.pause()
    assert driver.paused == {ONE}
    driver.give(TWO)
    assert await consumer.fetch(1, 20) == []
    assert driver.paused == {ONE, TWO}
    assert consumer.assignment() == {("t", 1)}


async def test_a_refusal_by_the_group_is_heard_while_nothing_is_assigned(
    consumer: KafkaConsumer, driver: Driver
) -> None:
    def refuse() -> None:
        raise kafka_errors.GroupAuthorizationFailedError("g")

    driver._coordinator.check_errors = refuse
    with pytest.raises(BrokerSetupError, match="ACL"):
        await consumer.fetch(1, 20)


async def test_delivery_stops_as_soon_as_partitions_are_revoked(consumer: KafkaConsumer, driver: Driver) -> None:
    """Not only when the new ones are known: in between, another member may read them already."""
    driver.give(ONE)
    assert offsets(await consumer.fetch(2, 500)) == [2, 3]
    before = consumer.generation()
    driver.listener.on_partitions_revoked({ONE})
    assert consumer.generation() > before
    assert await consumer.fetch(2, 20) == []
    assert consumer.assignment() == frozenset()
    assert consumer.positions() == {}


async def test_an_assignment_without_a_revocation_before_it_is_positioned_too(
    consumer: KafkaConsumer, driver: Driver
) -> None:
    """The driver does not do that; should it ever, nothing may depend on it."""
    driver.give(ONE)
    assert offsets(await consumer.fetch(2, 500)) == [2, 3]
    driver.position = {ONE: 9, TWO: 9}
    driver.listener.on_partitions_assigned({ONE, TWO})
    assert offsets(await consumer.fetch(100, 500)) == [2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("stored", "likely"), [(11, "shorter than what was already read"), (-1, "were deleted")])
async def test_a_position_outside_the_log_is_found_before_reading(
    driver: Driver, positions: Positions, stored: int, likely: str
) -> None:
    positions.stored["t", 0] = stored
    consumer = KafkaConsumer(lambda: driver, "g", ["t"], positions, QUICK)
    await consumer.start()
    driver.give(ONE)
    with pytest.raises(PositionLostError, match=likely):
        await consumer.fetch(1, 500)
