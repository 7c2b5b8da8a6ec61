"""The bare loop: what the same machine does when nothing is decided and nothing proved.

Rules of this file
- What one saga weighs is read from a run of the real product: messages and rows, and their bytes.
- One process then sends that many messages of that size, fetches them, and writes that many rows of that size, in
  transactions as large as the product's. What the product needs beyond this is the price of deciding and of proving.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.bench.place import SQL, Place
from orchestrator.bench.upstream import Upstream
from orchestrator.broker.contract import OutgoingMessage, TopicSpec

BATCH_SAGAS = 100  # whose messages are sent, fetched and written together, as intake's batches of 500 messages do
TOPIC = "limit.messages"
HEADER = "ce_type"


@dataclass(frozen=True)
class Weight:
    """What one saga means: messages on the broker and their bytes, rows and their bytes."""

    messages: float
    message_bytes: float
    records: float
    record_bytes: float
    outbox_rows: float
    inbox_rows: float


def weight_of(row: Mapping[str, Any]) -> Weight:
    """Per saga: what the coordinator sent, the replies to it (as many, and about as large), and the starting event."""
    sagas, sent = row["sagas"], row["outbox_rows"] / row["sagas"]
    messages = sent * 2 + 1
    return Weight(
        messages=messages,
        message_bytes=row["outbox_bytes"] / row["outbox_rows"],
        records=row["record_rows"] / sagas,
        record_bytes=row["record_bytes"] / row["record_rows"],
        outbox_rows=sent,
        inbox_rows=messages,
    )


async def bare_loop(here: Place, weight: Weight, sagas: int) -> float:
    """Seconds for everything that these sagas mean, in batches, sending and writing side by side."""
    async with here.pools.connection("work") as connection:
        for statement in SQL["make_limit_tables"].split(";"):
            await connection.execute(statement)
    await here.broker.ensure_topics([TopicSpec(TOPIC, here.settings.topic_partitions)])
    batches = [min(BATCH_SAGAS, sagas - first) for first in range(0, sagas, BATCH_SAGAS)]
    async with Upstream(here.broker, TOPIC) as upstream:
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(_send(upstream, weight, batches))
            group.create_task(_take(here, upstream, weight, batches))
    return time.perf_counter() - began


async def _send(upstream: Upstream, weight: Weight, batches: list[int]) -> None:
    body = os.urandom(max(1, int(weight.message_bytes)))
    for count in batches:
        messages = [
            OutgoingMessage(TOPIC, str(number % count).encode(), body, ((HEADER, b"limit"),))
            for number in range(round(count * weight.messages))
        ]
        await upstream.send(messages)


async def _take(here: Place, upstream: Upstream, weight: Weight, batches: list[int]) -> None:
    """Fetches what one batch sends, then writes what it means in one transaction."""
    body, value = os.urandom(int(weight.record_bytes)), os.urandom(max(1, int(weight.message_bytes)))
    waiting = 0
    for number, count in enumerate(batches):
        wanted = round(count * weight.messages)
        while waiting < wanted:
            waiting += len(await upstream.hear(wanted))
        waiting -= wanted
        await _write(here, weight, number, count, body, value)


async def _write(here: Place, weight: Weight, number: int, count: int, body: bytes, value: bytes) -> None:
    name = f"{number}/"
    records = [(i, i, f"{name}{i}", "main", b"h" * 32, body) for i in range(round(count * weight.records))]
    outbox = [(i, f"{name}{i}", i, TOPIC, "k", b"", value) for i in range(round(count * weight.outbox_rows))]
    inbox = [(i, "main", "limit", f"{name}{i}", b"h" * 32) for i in range(round(count * weight.inbox_rows))]
    async with here.pools.connection("work") as connection:
        await connection.execute("BEGIN")
        await connection.copy("limit_records", ["seq", "version", "saga_id", "tenant", "hash", "body"], records)
        columns = ["seq", "saga_id", "version", "topic", "key", "headers", "value"]
        await connection.copy("limit_outbox", columns, outbox)
        await connection.copy("limit_inbox", ["received_at", "tenant", "source", "id", "body_hash"], inbox)
        await connection.commit()
