"""The record feed on Kafka: every sealed record, in order, to one topic, for live figures and whoever else follows.

Rules of this file
- A projection like the others, with a checkpoint of its own and a topic instead of tables: at least once, and each
  saga's records in order. The key is the saga's id, the message's id is the record's (`<saga id>/<version>`), so that
  repetitions are known.
- A message is the record as stored, with its position. It holds whatever the record holds: who may read the topic may
  read everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson
import structlog

from orchestrator.broker.contract import BrokerError, OutgoingMessage, Producer
from projections.contract import Connection, Facts, FeedRecord, ProjectionError

TYPE = "orchestrator.record"

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

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        """Sends records and waits until the broker has them. Raises NotSentError."""
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

    def forget(self) -> None:
        """Keeps nothing."""


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
