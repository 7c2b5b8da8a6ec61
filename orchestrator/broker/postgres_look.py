"""Reading a stretch of the log in PostgreSQL for people: no group, no position, bounded.

Rules of this file: a page of messages is one statement; the place to begin is found by halving, since append times
never go back within a partition.
"""

import asyncio
from collections.abc import AsyncIterator

from orchestrator.broker.contract import BrokerSetupError, IncomingMessage, Looked, Wanted
from orchestrator.broker.partition import partition_of
from orchestrator.broker.postgres_database import Database, Topic
from orchestrator.store.headers import unpack

_PAGE_MESSAGES = 200


async def look(
    database: Database,
    name: str,
    between: tuple[int, int],
    wanted: Wanted,
    key: bytes | None,
    limits: tuple[int, int],
) -> Looked:
    """See ``Broker.look``. ``between``: since and until; ``limits``: messages and milliseconds."""
    topic = (await database.topics([name])).get(name)
    if topic is None:
        raise BrokerSetupError(f"the log has no topic {name!r}; topics are made by ensure_topics")
    numbers = tuple(range(topic.partitions)) if key is None else (partition_of(key, topic.partitions),)
    messages_max, wait_ms = limits
    over = asyncio.get_running_loop().time() + wait_ms / 1000
    found, read = list[IncomingMessage](), 0
    for number in numbers:
        async for message in _messages(database, topic, number, between):
            if read >= messages_max or asyncio.get_running_loop().time() > over:
                return Looked(numbers, tuple(found), read, False)
            read += 1
            if wanted(message):
                found.append(message)
    return Looked(numbers, tuple(found), read, True)


async def _messages(
    database: Database, topic: Topic, number: int, between: tuple[int, int]
) -> AsyncIterator[IncomingMessage]:
    """The messages of one partition that were appended in this time."""
    since, until = between
    bounds = await database.rows("bounds", [topic.topic_id], [number])
    start, end = bounds[0]["start_offset"], bounds[0]["next_offset"]
    (first,) = await database.rows("first_since", topic.topic_id, number, since, start, end)
    offset: int = first["low"]
    while offset < end:
        rows = await database.rows("look", topic.topic_id, number, offset, _PAGE_MESSAGES)
        for row in rows:
            if row["appended_at"] > until:
                return
            yield IncomingMessage(
                topic.name, number, row["log_offset"], row["key"], row["value"], unpack(row["headers"]),
                row["appended_at"],
            )  # fmt: skip
        if not rows:
            return
        offset = rows[-1]["log_offset"] + 1
