"""From rows to the values of the contract."""

from __future__ import annotations

import asyncpg
import orjson

from orchestrator.store.chain import opened
from orchestrator.store.contract import EarlyEvent, StoredRecord


def stored_record(row: asyncpg.Record) -> StoredRecord:
    """A row of (saga id, version, body, hash) and, where asked for, position."""
    return opened(row[0], row[1], row[2], row[3], row[4] if len(row) > 4 else 0)


def early_event(row: asyncpg.Record) -> EarlyEvent:
    """A kept event with those who took it."""
    return EarlyEvent(
        tenant=row["tenant"],
        type=row["type"],
        key=row["key"],
        event_id=row["event_id"],
        data=orjson.loads(row["data"]),
        arrived_at=row["arrived_at"],
        traceparent=row["traceparent"],
        consumed_by=frozenset(zip(row["names"], row["business_keys"], strict=True)),
    )
