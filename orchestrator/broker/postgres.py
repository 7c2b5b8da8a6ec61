"""The log in PostgreSQL as a ``Broker``: what a laptop starts with, outgrown by changing one URL.

It keeps the whole contract, the crash behaviour included. What it does not have is Kafka's throughput, its ecosystem,
and its independence from the database: when PostgreSQL is away, both store and broker are.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from orchestrator.broker.contract import BrokerError, BrokerSetupError, Looked, PositionSource, TopicSpec, Wanted
from orchestrator.broker.postgres_consumer import PostgresConsumer
from orchestrator.broker.postgres_database import Database
from orchestrator.broker.postgres_hints import Hints
from orchestrator.broker.postgres_look import look
from orchestrator.broker.postgres_producer import PostgresProducer
from orchestrator.broker.settings import BrokerSettings

logger = logging.getLogger(__name__)


def connect(url: str, settings: BrokerSettings) -> "PostgresBroker":
    """The broker in the database behind ``postgres://...``, on first use."""
    return PostgresBroker(url, settings)


class PostgresBroker:
    """A ``Broker`` on tables."""

    def __init__(self, url: str, settings: BrokerSettings) -> None:
        """``url`` logs in as the application's role; its tables come from the migrations."""
        self._settings = settings
        self._database = Database(url, settings)
        self._hints = Hints(self._database, settings)
        self._producers: list[PostgresProducer] = []
        self._consumers: list[PostgresConsumer] = []
        self._trimmer: asyncio.Task[None] | None = None
        self._closed = False

    def producer(self, name: str) -> PostgresProducer:
        """See ``Broker``."""
        logger.debug("producer %s appends to the log in PostgreSQL", name)
        producer = PostgresProducer(self._database, self._hints, self._settings)
        self._producers.append(producer)
        return producer

    def consumer(self, group: str, topics: Sequence[str], positions: PositionSource) -> PostgresConsumer:
        """See ``Broker``."""
        consumer = PostgresConsumer(self._database, self._hints, group, topics, positions, self._settings)
        self._consumers.append(consumer)
        if self._trimmer is None and not self._closed:
            self._trimmer = asyncio.create_task(self._keep_trimming(), name="broker-trim")
        return consumer

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """See ``Broker``."""
        if not topics:
            return
        settings = self._settings
        first = {spec.name: spec for spec in reversed(topics)}
        specs = list(first.values())
        await self._database.rows(
            "create_topics",
            [spec.name for spec in specs],
            [spec.partitions or settings.partitions_default for spec in specs],
            [settings.retention_ms_default if spec.retention_ms is None else spec.retention_ms for spec in specs],
        )
        found = await self._database.topics(first)
        for spec in topics:
            there = found[spec.name].partitions
            if spec.partitions is not None and spec.partitions != there:
                raise BrokerSetupError(
                    f"topic {spec.name!r} has {there} partitions, {spec.partitions} are wanted. Changing the number "
                    "moves keys to other partitions: drain the topic first, or set the wanted number to what is there."
                )

    async def look(
        self, topic: str, since: int, until: int, wanted: Wanted, *, key: bytes | None, messages_max: int, wait_ms: int
    ) -> Looked:
        """See ``Broker``."""
        async with asyncio.timeout(self._settings.connect_timeout_ms / 1000 + wait_ms / 1000):
            return await look(self._database, topic, (since, until), wanted, key, (messages_max, wait_ms))

    async def trim(self) -> None:
        """Delete what is older than its topic's retention. Runs by itself while there are consumers."""
        rows = self._settings.postgres_trim_rows_max
        await self._database.rows("advance_start", rows, self._settings.postgres_unread_retention_times)
        await self._database.rows("delete_before_start", rows)

    async def close(self) -> None:
        """See ``Broker``."""
        self._closed = True
        consumers, self._consumers = self._consumers, []
        producers, self._producers = self._producers, []
        await asyncio.gather(*(consumer.stop() for consumer in consumers), *(producer.stop() for producer in producers))
        if self._trimmer is not None:
            self._trimmer.cancel()
            await asyncio.wait({self._trimmer})
        await self._hints.close()
        await self._database.close()

    async def _keep_trimming(self) -> None:
        interval_s = self._settings.postgres_trim_interval_ms / 1000
        while True:
            # Several processes trim the same tables: they shall not do it at the same moment.
            await asyncio.sleep(interval_s * random.uniform(0.8, 1.2))  # noqa: S311 spread, not secrecy
            try:
                await self.trim()
            except BrokerError as error:
                logger.warning("old messages were not deleted this time: %s", error)
