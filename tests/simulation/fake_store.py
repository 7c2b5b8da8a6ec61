"""The store in memory: a `contract.Store` for one process, over tables that outlive it.

Rules of this file
- It keeps the same contract suite as PostgreSQL (`tests/contracts/stores.py`); what it lies about belongs to the tests
  with real servers: drivers, cancellation, fsync.
- Asking after an unknown commit takes the locks of the batch, so that it waits for a COMMIT that is still on the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.store.chain import data_bytes, seal
from orchestrator.store.columns import SLOTS, lock_buckets, message_key, slot
from orchestrator.store.contract import (
    Append,
    MessageId,
    OutboxRow,
    StoredRecord,
    StoreUnavailableError,
    Waiting,
)
from tests.simulation.fake_batch import FakeBatch
from tests.simulation.locks import Transaction
from tests.simulation.ports import Port
from tests.simulation.tables import Check, Tables

PUBLISHED_LATE_US = 250_000
POSTPONE_US_MIN = 1_000_000
SEAL_BATCHES_MAX = 5_000

Given = TypeVar("Given")


class FakeStore:
    """One process's way to the tables."""

    def __init__(self, tables: Tables, port: Port | None = None) -> None:
        self.tables = tables
        self._port = port or Port()

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[FakeBatch]:
        """One transaction."""
        batch = FakeBatch(self.tables, self._port)
        await self._call("begin", _nothing)
        if self.tables.watcher is not None:
            self.tables.watcher.began()
        try:
            yield batch
        except BaseException:
            if not batch.committing:
                self._port.roll_back(batch.undo)
            raise
        if not batch.committing:
            await self._port.commit(batch.apply, batch.undo)

    async def committed(self, appends: Sequence[Append], messages: Sequence[MessageId], late_until: int = 0) -> bool:
        """After an unknown commit: asks until answered."""
        written = [append for append in appends if append.records]
        if not written and not messages:
            return False
        pause_ms = 50
        while True:
            transaction, asked_at = Transaction(), self.tables.clock()
            try:
                if await self._port.call("committed", lambda t=transaction: self._ask(t, written, messages)):  # type: ignore[misc]
                    return True
                if asked_at > late_until:
                    return False
            except StoreUnavailableError:
                await asyncio.sleep(pause_ms / 1000)
                pause_ms = min(pause_ms * 2, 2_000)
            finally:
                self.tables.locks.free(transaction)
            await asyncio.sleep(max(late_until - self.tables.clock(), 0) / 1_000_000 + 0.01)

    async def _ask(self, transaction: Transaction, appends: Sequence[Append], messages: Sequence[MessageId]) -> bool:
        tables, locks = self.tables, self.tables.locks
        if appends:
            for saga_id in sorted(append.saga_id for append in appends):
                await locks.take(transaction, ("head", saga_id))
            return all(self._stands(append) for append in appends)
        keys = [message_key(message.tenant, message.source, message.id) for message in messages]
        for key in sorted(set(keys)):
            if key not in tables.inbox:
                await locks.take(transaction, ("inbox", key))
        return all(tables.inbox.get(key) == m.body_hash for key, m in zip(keys, messages, strict=True))

    def _stands(self, append: Append) -> bool:
        stream = self.tables.stream(append.saga_id)
        last = append.expected_version + len(append.records)
        if len(stream) < last:
            return False
        first = stream[append.expected_version]
        _, hashes = seal(
            append.records, [data_bytes(record.data) for record in append.records], tenant=append.tenant,
            saga_id=append.saga_id, version=append.expected_version, previous=first.previous_hash,
            recorded_at=first.recorded_at,
        )  # fmt: skip
        return hashes[-1] == stream[last - 1].hash

    # --- relay --------------------------------------------------------------------------------------------------------

    async def unsent(self, shard: int, shards: int, limit: int) -> list[OutboxRow]:
        """The oldest unsent messages of a shard, in (saga, version) order."""
        if not 0 <= shard < shards <= SLOTS:
            raise ValueError(f"shard {shard} of {shards}: shards must be 1 to {SLOTS}")

        def read() -> list[OutboxRow]:
            rows = [self.tables.outbox[name] for name in self.tables.unsent if slot(name[0]) % shards == shard]
            oldest = sorted(rows, key=lambda sent: sent.number)[:limit]
            return sorted((sent.row for sent in oldest), key=lambda row: (row.saga_id, row.version))

        return await self._call("unsent", read)

    async def mark_sent(self, rows: Sequence[tuple[str, int]]) -> None:
        """Marks messages; where that took long, the attempt's timer starts again now."""

        def mark() -> None:
            tables, now = self.tables, self.tables.clock()
            for name in sorted(set(rows) & tables.unsent):
                tables.unsent.discard(name)
                if tables.outbox[name].written_at < now - PUBLISHED_LATE_US:
                    for place, timer in tables.timers.items():
                        if timer.command == name and not tables.locks.foreign(_NOBODY, ("timer", *place)):
                            timer.due = now + timer.period

        if rows:
            await self._call("mark sent", mark)

    # --- timers and checks --------------------------------------------------------------------------------------------

    async def due_timers(self, until: int | None, limit: int) -> list[tuple[str, str, int]]:
        """Due timers; those of unsent commands are moved on instead."""

        def read() -> list[tuple[str, str, int]]:
            tables, now = self.tables, self.tables.clock()
            latest = now if until is None else min(now, until)
            due = sorted((row.due, *place) for place, row in tables.timers.items() if row.due <= latest)
            found = []
            for _, saga_id, activity in due[:limit]:
                timer = tables.timers[saga_id, activity]
                if timer.command not in tables.unsent:
                    found.append((saga_id, activity, timer.armed))
                elif not tables.locks.foreign(_NOBODY, ("timer", saga_id, activity)):
                    timer.due = now + max(timer.period, POSTPONE_US_MIN)
            return found

        return await self._call("due timers", read)

    async def due_resumes(self, limit: int) -> list[str]:
        """Sagas that stopped at the record limit of a turn, longest waiting first."""

        def read() -> list[str]:
            return [saga_id for _, saga_id in sorted((since, s) for s, since in self.tables.resumes.items())][:limit]

        return await self._call("due resumes", read)

    async def due_checks(self, limit: int) -> list[Waiting]:
        """Subscriptions for whose key something early is kept; the others are ticked off, under the keys' locks."""
        transaction = Transaction()

        async def checked() -> list[Waiting]:
            tables = self.tables
            oldest = sorted((since, check) for check, since in tables.checks.items())[:limit]
            checks = [check for _, check in oldest]
            keys = [(tables.waits[check].tenant if check in tables.waits else "", *check[2:]) for check in checks]
            for bucket in lock_buckets(keys):
                await tables.locks.take(transaction, ("key", bucket))
            return [found for check in checks if (found := self._wanted(check)) is not None]

        try:
            return await self._port.call("due checks", checked)
        finally:
            self.tables.locks.free(transaction)

    def _wanted(self, check: Check) -> Waiting | None:
        tables = self.tables
        wait = tables.waits.get(check)
        if wait is not None and check in tables.checks and tables.has_early(wait.tenant, *check[2:]):
            return Waiting(*check, wait.accepts_from)
        tables.checks.pop(check, None)
        return None

    # --- positions, definitions, the feed -----------------------------------------------------------------------------

    async def positions(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        """Next offsets of a group; None where nothing is stored."""

        def read() -> dict[tuple[str, int], int | None]:
            found = {place: self.tables.positions.get((group, *place)) for place in partitions}
            return {place: stored[0] if stored is not None else None for place, stored in found.items()}

        return await self._call("positions", read)

    async def read_until(self, group: str) -> int | None:
        """How far in time intake has read: the minimum over the partitions that have a position."""

        def read() -> int | None:
            return min((row[1] for place, row in self.tables.positions.items() if place[0] == group), default=None)

        return await self._call("read until", read)

    async def register_definition(self, name: str, version: int, hash_: str, data: Any) -> str:
        """Stores a definition; gives the stored hash."""
        return await self._call("register", lambda: self.tables.definitions.setdefault((name, version), hash_))

    async def records(self, after: int, limit: int) -> AsyncIterator[StoredRecord]:
        """Records in safe global order."""

        def read() -> list[StoredRecord]:
            tables = self.tables
            for batch in sorted(tables.unsealed)[:SEAL_BATCHES_MAX]:
                tables.sealed += tables.unsealed.pop(batch)
            return [
                _positioned(tables.stream(saga_id)[version - 1], after + place)
                for place, (saga_id, version) in enumerate(tables.sealed[after : after + limit], start=1)
            ]

        for record in await self._call("records", read):
            yield record

    async def _call(self, name: str, work: Callable[[], Given]) -> Given:
        async def done() -> Given:
            return work()

        return await self._port.call(name, done)


_NOBODY = Transaction()


def _nothing() -> None:
    return None


def _positioned(record: StoredRecord, position: int) -> StoredRecord:
    return replace(record, position=position)
