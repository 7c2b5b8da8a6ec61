"""Looking into the log, on every implementation: where a message lies, without moving anybody's position."""

import asyncio
import time

import pytest

from orchestrator.broker.contract import BrokerSetupError, IncomingMessage, Wanted
from orchestrator.broker.partition import partition_of
from tests.contracts.brokers import Site, consuming, new_name, new_topic, numbered, opened, read, send

SECOND = 1_000_000


def now() -> int:
    """Microseconds."""
    return time.time_ns() // 1000


def is_number(number: int) -> Wanted:
    """Wants the message with this value."""

    def wanted(message: IncomingMessage) -> bool:
        return message.value == str(number).encode()

    return wanted


async def test_a_message_is_found_where_it_lies_and_every_copy_of_it(site: Site) -> None:
    """By its key in one partition, without it in all; a message that was sent twice is there twice."""
    async with opened(site) as broker:
        topic = await new_topic(broker)
        await send(broker, numbered(topic, 300))
        await send(broker, numbered(topic, 1, start=140))
        asked = (now() - 60 * SECOND, now() + 60 * SECOND)
        wanted = is_number(140)
        one = await broker.look(topic, *asked, wanted, key=b"key-0", messages_max=10_000, wait_ms=5_000)
        every = await broker.look(topic, *asked, wanted, key=None, messages_max=10_000, wait_ms=5_000)
    number = partition_of(b"key-0", 4)
    assert (one.partitions, one.is_all) == ((number,), True)
    assert [m.value for m in one.found] == [b"140", b"140"]
    assert one.found[0].offset < one.found[1].offset
    assert {m.partition for m in one.found} == {number}
    assert every.partitions == (0, 1, 2, 3)
    assert (every.read, every.found) == (301, one.found)


async def test_a_look_ends_at_its_limits_and_says_so(site: Site) -> None:
    """What was not read is not said to be missing."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 50))
        asked = (now() - 60 * SECOND, now() + 60 * SECOND)
        looked = await broker.look(topic, *asked, is_number(49), key=None, messages_max=20, wait_ms=5_000)
    assert (looked.read, looked.is_all, looked.found) == (20, False, ())


async def test_a_look_keeps_to_its_time(site: Site) -> None:
    """What came before and after is not read."""
    async with opened(site) as broker:
        topic = await new_topic(broker, partitions=1)
        await send(broker, numbered(topic, 10))
        await asyncio.sleep(0.03)
        async with consuming(broker, [topic]) as consumer:
            await send(broker, numbered(topic, 10, start=10))
            received = await read(consumer, 20)
        middle = received[10].appended_at
        last = await broker.look(
            topic, middle, middle + SECOND, lambda m: True, key=None, messages_max=99, wait_ms=5_000
        )
        first = await broker.look(topic, 0, middle - 2_000, lambda m: True, key=None, messages_max=99, wait_ms=5_000)
        never = await broker.look(topic, middle + 99 * SECOND, middle + 100 * SECOND, lambda m: True, key=None,
                                  messages_max=99, wait_ms=5_000)  # fmt: skip
    assert [int(m.value or b"") for m in last.found] == list(range(10, 20))
    assert [int(m.value or b"") for m in first.found] == list(range(10))
    assert (never.read, never.is_all) == (0, True)


async def test_a_topic_that_is_not_there_is_said(site: Site) -> None:
    """In the words for those who set topics up."""
    async with opened(site) as broker:
        with pytest.raises(BrokerSetupError):
            await broker.look(new_name("none"), 0, now(), lambda m: True, key=None, messages_max=9, wait_ms=2_000)
