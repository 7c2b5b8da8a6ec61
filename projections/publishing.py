"""The record feed on Kafka: every sealed record, in order, to one topic, for live figures and whoever else follows.

Rules of this file
- A projection like the others, with a checkpoint of its own and a topic instead of tables: at least once, and each
  saga's records in order. The key is the saga's id, the message's id is the record's (`<saga id>/<version>`), so that
  repetitions are known.
- Records are sent first, then the checkpoint moves, in a short transaction: none is open while the broker is waited for
  (docs/adr/0077). Who sends is who holds the lease. That spares repetitions, no more: whoever lost it without knowing
  sends what was sent already, and cannot move the checkpoint.
- A message is the record as stored, with its position. It holds whatever the record holds: who may read the topic may
  read everything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from uuid import uuid4

import orjson
import structlog

from orchestrator.broker.contract import BrokerError, OutgoingMessage, Producer
from orchestrator.store.contract import StoreError
from orchestrator.store.postgres import PostgresStore
from projections.contract import Connection, Facts, FeedRecord, ProjectionError
from projections.feed import Feed
from projections.runner import SQL, Pulse, Runner, Stopping

TYPE = "orchestrator.record"
LEASE_MS = 15_000

log = structlog.get_logger("orchestrator.projections")


class NotSentError(ProjectionError):
    """The broker did not take the records; they are sent again."""

    retriable = True


class RecordFeed:
    """The projection `records`: it has no tables."""

    name = "records"
    version = 1
    tables: tuple[str, ...] = ()

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._started = False
        self._sent: tuple[int, int] = (0, 0)  # the first and the last position that the broker has now

    async def send(self, records: Sequence[FeedRecord], facts: Mapping[str, Facts]) -> None:
        """Sends records and waits until the broker has them. Raises NotSentError."""
        self.forget()
        try:
            if not self._started:
                await self._producer.start()
                self._started = True
            results = await self._producer.send(
                [message(self._topic, record, facts[record.saga_id]) for record in records]
            )
        except BrokerError as error:
            raise NotSentError(f"the record feed waits for the broker: {error}") from error
        for record, refused in zip(records, results, strict=True):
            if refused is not None and refused.code == "too_large":
                log.error("record is too large for its topic", saga=record.saga_id, record=record.version)
            elif refused is not None:
                raise NotSentError(f"the record feed waits for the broker: {refused}")
        self._sent = records[0].position, records[-1].position

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        """There are no rows. Raises NotSentError for what was not sent before: the checkpoint must not pass it."""
        if self._sent != (records[0].position, records[-1].position):
            raise NotSentError("the record feed was not sent before its checkpoint: run it by FeedRunner")

    def forget(self) -> None:
        """What was sent is sent again."""
        self._sent = (0, 0)

    @property
    def went_well(self) -> bool:
        """What was sent last counts."""
        return self._sent != (0, 0)


class FeedRunner(Runner):
    """Runs the record feed: a batch is sent under a lease, then the checkpoint moves from where it stood before."""

    def __init__(
        self,
        store: PostgresStore,
        feed: Feed,
        projection: RecordFeed,
        *,
        batch_records: int,
        poll_ms: int,
        lease_ms: int = LEASE_MS,
    ) -> None:
        super().__init__(store, feed, projection, batch_records=batch_records, poll_ms=poll_ms)
        self._out, self._lease_ms = projection, lease_ms
        self._holder = uuid4().hex
        self._held_until = 0.0  # by this process's clock, from before the database was asked

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Sends until asked to stop; then others need not wait for the end of the lease."""
        await super().run(stopping, pulse)
        if self._held_until:
            await self._let_go()

    async def prepared(self, records: Sequence[FeedRecord]) -> bool:
        """Sends; no connection is held meanwhile. False where another process does. Raises NotSentError."""
        if not await self._leased():
            return False
        try:
            await self._out.send(records, await self._feed.facts(records))
        except NotSentError:
            await self._let_go()  # it may be our own way to the broker that is broken: whoever stands by tries next
            raise
        return True

    async def _let_go(self) -> None:
        self._held_until = 0.0
        try:
            async with self._store.pools.connection("projection") as connection:
                await connection.execute(SQL["let_go"], self.projection.name, self._holder)
        except StoreError as error:
            log.info("the lease on the record feed ends by itself", reason=str(error)[:200])

    async def _leased(self) -> bool:
        """This process is the one that sends, for half of the lease at least; asked again after whatever went wrong."""
        now = time.monotonic()
        if self._out.went_well and now < self._held_until - self._lease_ms / 2000:
            return True
        async with self._store.pools.connection("projection") as connection:
            held = await connection.execute(SQL["lease"], self.projection.name, self._holder, self._lease_ms * 1000)
        self._held_until = now + self._lease_ms / 1000 if held else 0.0
        return bool(held)


def message(topic: str, record: FeedRecord, saga: Facts) -> OutgoingMessage:
    """A record as a message: CloudEvents headers, and the record with what its saga is called."""
    value = {
        "position": record.position,
        "saga": record.saga_id,
        "version": record.version,
        "tenant": record.tenant,
        "name": saga.name,
        "business_key": saga.business_key,
        "type": record.type,
        "activity": record.activity,
        "data": record.data,
        "actor": record.actor,
        "recorded_at": record.recorded_at,
        "hash": record.hash.hex(),
    }
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{record.saga_id}/{record.version}".encode()),
        ("ce_source", b"/orchestrator/records"),
        ("ce_type", TYPE.encode()),
        ("ce_correlationid", record.saga_id.encode()),
        ("content-type", b"application/json"),
    )
    return OutgoingMessage(topic, record.saga_id.encode(), orjson.dumps(value), headers)
