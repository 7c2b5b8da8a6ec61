"""Reading a stretch of a Kafka topic for people: a consumer without a group, from a time to a time, bounded.

Rules of this file: Kafka finds the first offset of a time itself; its times are milliseconds, so a look begins with the
millisecond that ``since`` lies in and ends with the one of ``until``.
"""

import asyncio
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

from orchestrator.broker.contract import BrokerUnavailableError, IncomingMessage, Looked, Wanted
from orchestrator.broker.kafka_driver import close_consumer
from orchestrator.broker.settings import BrokerSettings

_PAGE_MESSAGES = 500


async def look(
    consumer: Any,
    settings: BrokerSettings,
    name: str,
    numbers: tuple[int, ...],
    between: tuple[int, int],
    wanted: Wanted,
    limits: tuple[int, int],
) -> Looked:
    """See ``Broker.look``. ``consumer``: a new, unstarted one of the driver, which is stopped here.

    ``numbers``: the partitions; ``between``: since and until; ``limits``: messages and milliseconds.
    """
    try:
        async with asyncio.timeout(settings.connect_timeout_ms / 1000):
            await consumer.start()
        async with asyncio.timeout((settings.connect_timeout_ms + limits[1]) / 1000):
            ends = await _place(consumer, name, numbers, between[0])
            return await _read(consumer, ends, numbers, between, wanted, limits)
    except (TimeoutError, kafka_errors.KafkaError) as error:
        raise BrokerUnavailableError(f"Kafka did not show the log: {str(error) or 'no answer in time'}") from error
    finally:
        await close_consumer(consumer, settings.stop_timeout_ms)


async def _place(consumer: Any, name: str, numbers: tuple[int, ...], since: int) -> dict[TopicPartition, int]:
    """Puts the consumer where the time begins; gives the ends of the partitions that hold something from then on."""
    partitions = [TopicPartition(name, number) for number in numbers]
    consumer.assign(partitions)
    firsts = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, since // 1000)))
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    open_ = {place: ends[place] for place in partitions if firsts.get(place) and firsts[place].offset < ends[place]}
    for place in partitions:
        if place in open_:
            consumer.seek(place, firsts[place].offset)
        else:
            consumer.pause(place)
    return open_


async def _read(
    consumer: Any,
    ends: dict[TopicPartition, int],
    numbers: tuple[int, ...],
    between: tuple[int, int],
    wanted: Wanted,
    limits: tuple[int, int],
) -> Looked:
    over = asyncio.get_running_loop().time() + limits[1] / 1000
    until_ms = between[1] // 1000
    found: list[IncomingMessage] = []
    read, left = 0, dict(ends)
    while left and read < limits[0] and asyncio.get_running_loop().time() < over:
        fetched = await consumer.getmany(timeout_ms=200, max_records=min(_PAGE_MESSAGES, limits[0] - read))
        for place, records in fetched.items():
            for record in records:
                if place not in left or record.timestamp > until_ms:
                    left.pop(place, None)
                    break
                read += 1
                headers = tuple((header, text or b"") for header, text in record.headers)
                message = IncomingMessage(
                    place.topic, place.partition, record.offset, record.key, record.value, headers,
                    record.timestamp * 1000,
                )  # fmt: skip
                if wanted(message):
                    found.append(message)
        for place in list(left):
            if await consumer.position(place) >= left[place]:
                del left[place]
        for place in ends.keys() - left.keys():
            consumer.pause(place)
    return Looked(numbers, tuple(found), read, not left)
