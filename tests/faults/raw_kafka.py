"""Writes records to Kafka as other people's producers may: any header names, null headers, compressed batches.

Our own producer and the driver's refuse such records, so they are built here with the driver's plain Python builder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from orchestrator.broker.contract import OutgoingMessage

BATCH_BYTES = 4_000_000


class AnyName(str):
    """A header name that is written as the bytes it stands for: surrogate escapes become what they escape."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", "surrogateescape")


class RawKafka:
    """A producer without manners. `async with RawKafka(bootstrap) as raw`."""

    def __init__(self, bootstrap: str) -> None:
        self._producer: Any = AIOKafkaProducer(
            bootstrap_servers=bootstrap, acks="all", max_request_size=BATCH_BYTES, max_batch_size=BATCH_BYTES
        )

    async def __aenter__(self) -> RawKafka:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(await self._producer.partitions_for(topic))

    async def send(self, messages: Sequence[OutgoingMessage], partition: int, compression: int = 0) -> int:
        """Appends messages of one topic as one batch; gives the offset of the first. `compression`: 0 none, 1 gzip."""
        batch: Any = BatchBuilder(BATCH_BYTES, compression)
        batch._builder = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, 0, BATCH_BYTES)
        for message in messages:
            headers = [(AnyName(name), value) for name, value in message.headers]
            added = batch.append(timestamp=None, key=message.key, value=message.value, headers=headers)
            assert added is not None, "the batch is full"
        batch.close()
        sent = await self._producer.send_batch(batch, messages[0].topic, partition=partition)
        return int((await sent).offset)
