"""The runner: takes records into projections, batch by batch, each exactly once.

Rules of this file
- Rows and checkpoint change in one transaction, which holds the checkpoint's row. Whoever finds it held stands by;
  whoever finds it elsewhere than expected drops what it kept in memory. So any number of processes may run the same
  projections.
- Nothing is locked while there is nothing to do.
- A record that a projection cannot read stops that projection, just before it, and no other; it is tried again now and
  then, since the next release may read it. What stops it stands in its checkpoint, in the log, and in the health.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

import structlog

from orchestrator.store.connections import Guarded
from orchestrator.store.contract import StoreError
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sql import load_queries
from projections.contract import FeedRecord, Projection, ProjectionError, UnreadableRecordError
from projections.feed import Feed

SQL = load_queries("projections", "slots.sql")
STOPPED_RETRY_MS = 5_000
STANDBY_MS = 1_000
_MOVED = -1  # the checkpoint was not where it was expected

log = structlog.get_logger("orchestrator.projections")


class Stopping(Protocol):
    """A request to stop."""

    def __bool__(self) -> bool: ...

    async def sleep(self, ms: float) -> None:
        """Waits, or until asked to stop."""


class Pulse(Protocol):
    """Tells that a loop gets on, or why it does not."""

    def beat(self) -> None:
        """A round is over."""

    def trouble(self, detail: str) -> None:
        """It cannot do its work."""


class OutdatedError(ProjectionError):
    """The rows were made by another version of the projection's code: it must be built anew."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a slot has come."""

    slot: str
    version: int
    position: int
    records: int
    checksum: bytes
    read_until: int
    stopped: str = ""
    stopped_position: int = 0

    def after(self, records: Sequence[FeedRecord]) -> Checkpoint:
        """With these records in."""
        checksum = self.checksum
        for record in records:
            checksum = hashlib.sha256(checksum + record.hash).digest()
        until = max(self.read_until, *(record.recorded_at for record in records))
        return replace(
            self,
            position=records[-1].position,
            records=self.records + len(records),
            checksum=checksum,
            read_until=until,
        )


class Runner:
    """Runs one projection.

    `share`: of its time that it may work, so that a process that decides too stays quick while a read model catches up.
    `blocking`: while it is stopped, this process is not ready (it has nothing else to do).
    """

    def __init__(
        self,
        store: PostgresStore,
        feed: Feed,
        projection: Projection,
        *,
        batch_records: int,
        poll_ms: int,
        share: float = 1.0,
        blocking: bool = False,
        live: bool = True,
    ) -> None:
        self.projection = projection
        self.stopped = ""  # why it does not get on, "" while it does
        self._store, self._feed = store, feed
        self._batch, self._poll_ms, self._blocking, self._live = batch_records, poll_ms, blocking, live
        self._rest = 1 / share - 1  # how long it pauses for the time that a batch took
        self._known: Checkpoint | None = None

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Takes records in until asked to stop."""
        while not stopping:
            began = perf_counter()
            try:
                taken = await self.step()
            except ProjectionError as error:
                self._say(str(error))
                pause: float = STOPPED_RETRY_MS
            except Exception as error:  # a read model never ends the process that money runs through
                if isinstance(error, StoreError) and error.retriable:
                    pulse.trouble(f"database: {error}"[:200])
                    await stopping.sleep(STANDBY_MS)
                    continue
                self._say(f"projection {self.projection.name} stopped: {type(error).__name__}: {error}"[:1_000])
                pause = STOPPED_RETRY_MS
            else:
                self.stopped = ""
                resting = (perf_counter() - began) * 1000 * self._rest
                pause = resting if taken else STANDBY_MS if taken is None else self._poll_ms
            if self.stopped and self._blocking:
                pulse.trouble(self.stopped)
            else:
                pulse.beat()
            if pause:
                await stopping.sleep(pause)

    async def step(self, up_to: int = 0) -> int | None:
        """Takes in one batch; how many records, 0 when there are none now, None when another process is at it.

        `up_to`: not beyond this position. Raises OutdatedError, UnreadableRecordError, GapError, StoreError.
        """
        taken = await self._try(up_to)
        if taken == _MOVED:
            taken = await self._try(up_to)
        return None if taken == _MOVED else taken

    async def _try(self, up_to: int) -> int | None:
        known = self._known or await self._look()
        if known is None:
            return None
        limit = min(self._batch, up_to - known.position) if up_to else self._batch
        if limit <= 0:
            return 0
        if known.version != self.projection.version:
            self._known = None
            raise OutdatedError(
                f"projection {self.projection.name}: its rows are of version {known.version}, the code is version "
                f"{self.projection.version}: run orchestrator projection rebuild {self.projection.name}"
            )
        records = await self._feed.after(known.position, limit)
        if not records:
            return 0
        try:
            return await self._take(known, records)
        except UnreadableRecordError as error:
            before = [record for record in records if record.position < error.position]
            if before:
                await self._take(known, before)
            await self._stop(error)
            raise

    def is_at(self, found: Checkpoint) -> bool:
        """It stands where this runner has left it: nobody else has worked on it, or put another slot in its place."""
        return self._known is None or self._known == found

    async def take_in(self, connection: Guarded, known: Checkpoint, records: Sequence[FeedRecord]) -> Checkpoint:
        """Rows and checkpoint of one batch, in a transaction that holds the checkpoint's row."""
        facts = await self._feed.facts(records)
        await self.projection.apply(connection, known.slot, records, facts)
        after = known.after(records)
        await connection.execute(
            SQL["advance"],
            self.projection.name,
            after.slot,
            after.position,
            after.records,
            after.checksum,
            after.read_until,
        )
        return after

    async def prepared(self, records: Sequence[FeedRecord]) -> bool:
        """What must be done before rows and checkpoint are written, outside of every transaction; here nothing.

        False where that is another process's work now.
        """
        return True

    async def _take(self, known: Checkpoint, records: Sequence[FeedRecord]) -> int | None:
        if not await self.prepared(records):
            self.projection.forget()
            self._known = None
            return None
        async with self._store.pools.connection("projection") as connection:
            await connection.begin()
            try:
                await connection.fetch(SQL["relaxed"])
                held = await self._hold(connection)
                if held is None or held != known:
                    self.projection.forget()  # another process went on, or the slots were swapped
                    self._known = held
                    await connection.roll_back()
                    return None if held is None else _MOVED
                after = await self.take_in(connection, known, records)
            except BaseException:
                self.projection.forget()
                self._known = None
                await connection.roll_back()
                raise
            try:
                await connection.commit_repeatable()
            except BaseException:
                self.projection.forget()  # it may have happened: the checkpoint will tell
                self._known = None
                raise
        self._known = replace(after, stopped="", stopped_position=0)
        return len(records)

    async def _look(self) -> Checkpoint | None:
        """Where the projection stands; makes its row where there is none."""
        async with self._store.pools.connection("projection") as connection:
            await connection.execute(SQL["ensure"], self.projection.name, self.projection.version)
            await connection.begin()
            try:
                found = await self._hold(connection)
            finally:
                await connection.roll_back()
        self.projection.forget()
        self._known = found
        return found

    async def _hold(self, connection: Guarded) -> Checkpoint | None:
        rows = await connection.fetch(SQL["hold"], self.projection.name, self._live)
        return checkpoint(rows[0]) if rows else None

    async def _stop(self, error: UnreadableRecordError) -> None:
        known = self._known
        if known is None:
            known = await self._look()
        if known is not None:
            async with self._store.pools.connection("projection") as connection:
                await connection.execute(
                    SQL["stop"], self.projection.name, known.slot, str(error)[:2_000], error.position
                )
        self._known = None

    def _say(self, reason: str) -> None:
        if reason != self.stopped:
            log.error("projection stopped", projection=self.projection.name, reason=reason)
        self.stopped = reason


def checkpoint(row: Any) -> Checkpoint:
    """A row of `hold`."""
    return Checkpoint(*tuple(row)[:8])
