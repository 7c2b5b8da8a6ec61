"""The store on PostgreSQL.

Rules of this file
- SQL stands in `.sql` files. A batch is one transaction on one connection; everything else is one statement, or a short
  transaction of its own that takes no head.
- An error before COMMIT means: nothing is stored. An error at COMMIT means: ask (`committed`), since the answer may
  have been lost on its way back.
- Asking takes the same locks as the batch had. So it waits until the server has finished with the old transaction,
  instead of answering "no" while a COMMIT is still on the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from orchestrator.messages.canonical import canonical_bytes
from orchestrator.store.batch import SQL as BATCH_SQL
from orchestrator.store.batch import PostgresBatch
from orchestrator.store.chain import data_bytes, seal
from orchestrator.store.columns import EVENT_KEY_LOCKS, SLOTS, joined, lock_buckets, message_key, texts
from orchestrator.store.connections import ConnectionLimits, Guarded, Pools
from orchestrator.store.contract import (
    Append,
    CommitUnknownError,
    MessageId,
    OutboxRow,
    StoredRecord,
    StoreError,
    StoreUnavailableError,
    Waiting,
)
from orchestrator.store.headers import unpack
from orchestrator.store.memory import keep_freed_memory
from orchestrator.store.reading import stored_record
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "work.sql")

# A message that took longer than this to get onto the broker moves its attempt's timer.
PUBLISHED_LATE_MS = 250
# A timer of a command that is still unsent is looked at again after at least this long.
POSTPONE_MS_MIN = 1_000
HANDED_OUT_ROWS_MAX = 200_000
SEAL_BATCHES_MAX = 5_000
FEED_PAGE_RECORDS_MAX = 2_000
ASK_AGAIN_MS_FIRST = 50
ASK_AGAIN_MS_MAX = 2_000


class PostgresStore:
    """A `contract.Store`. `url` logs in as the application's role; one object serves a whole process.

    Opens connections when they are first needed. Close it, or use it as `async with`.
    """

    def __init__(self, url: str, limits: ConnectionLimits | None = None, *, application: str = "orchestrator") -> None:
        keep_freed_memory()
        self.pools = Pools(url, limits or ConnectionLimits(), application)
        # seq by (saga, version), of messages that this process wrote or read
        self._numbers: dict[tuple[str, int], int] = {}

    async def __aenter__(self) -> PostgresStore:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes all connections."""
        await self.pools.close()

    # --- batches ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[PostgresBatch]:
        """One transaction. Leaving normally commits, an exception rolls back. On CommitUnknownError: `committed`."""
        async with self.pools.connection("batch") as connection:
            batch = PostgresBatch(connection)  # begins when it first asks; a presumed one may be a single statement
            try:
                yield batch
                await batch.finish()
            except BaseException:
                if connection.open:
                    await connection.roll_back()
                raise
            if connection.open:
                await connection.commit()
            self._remember(batch.numbers)

    def _remember(self, numbers: Mapping[tuple[str, int], int]) -> None:
        """Notes under which numbers messages stand, so that marking them looks nothing up."""
        if len(self._numbers) > HANDED_OUT_ROWS_MAX:
            self._numbers.clear()  # mark_sent then asks the database
        self._numbers.update(numbers)

    async def committed(self, appends: Sequence[Append], messages: Sequence[MessageId], late_until: int = 0) -> bool:
        """Did the batch with these appends and messages commit? Asks on new connections until the database answers.

        Appends count first: true when every one stands in its stream, byte by byte as this batch would have sealed it.
        A batch without records is known by its messages; one that has neither (timers, positions) answers False, since
        doing it again changes nothing.
        """
        written = [append for append in appends if append.records]
        if not written and not messages:
            return False
        pause_ms = ASK_AGAIN_MS_FIRST
        while True:
            try:
                found, asked_at = await self._ask(written, messages)
            except (StoreUnavailableError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await asyncio.sleep(pause_ms / 1000)
                pause_ms = min(pause_ms * 2, ASK_AGAIN_MS_MAX)
                continue
            if found or asked_at > late_until:
                return found
            # A single statement holds no locks while it is still on the wire; later than this it refuses to write.
            await asyncio.sleep((late_until - asked_at) / 1_000_000 + 0.01)

    async def _ask(self, appends: Sequence[Append], messages: Sequence[MessageId]) -> tuple[bool, int]:
        raw = await self.pools.fresh()
        connection = Guarded(raw, self.pools.limits)
        try:
            await connection.begin()
            asked_at: int = (await connection.fetchrow(BATCH_SQL["clock"]))["now"]
            await self._wait_for_the_old_transaction(connection, appends, messages)
            if appends:
                return await self._all_written(connection, appends), asked_at
            keys = [message_key(message.tenant, message.source, message.id) for message in messages]
            stored = {row[0]: row[1] for row in await connection.fetch(BATCH_SQL["taken_before"], keys)}
            found = all(stored.get(key) == message.body_hash for key, message in zip(keys, messages, strict=True))
            return found, asked_at
        finally:
            raw.terminate()  # rolls back: asking leaves nothing behind

    @staticmethod
    async def _wait_for_the_old_transaction(
        connection: Guarded, appends: Sequence[Append], messages: Sequence[MessageId]
    ) -> None:
        if appends:
            rows = sorted((a.saga_id, a.tenant, a.name, a.business_key) for a in appends)
            columns = [texts(list(column)) for column in zip(*rows, strict=True)]
            await connection.execute(BATCH_SQL["make_heads"], *columns)
            await connection.fetch(BATCH_SQL["lock_heads"], joined(columns[0]))
            await connection.execute(BATCH_SQL["forget_heads"], columns[0])
        else:
            keys = sorted({message_key(message.tenant, message.source, message.id) for message in messages})
            await connection.execute("SAVEPOINT probe")
            await connection.fetch(BATCH_SQL["take_in"], keys, [b""] * len(keys))
            await connection.execute("ROLLBACK TO SAVEPOINT probe")

    @staticmethod
    async def _all_written(connection: Guarded, appends: Sequence[Append]) -> bool:
        streams: dict[str, dict[int, StoredRecord]] = {}
        for row in await connection.fetch(BATCH_SQL["streams"], [append.saga_id for append in appends]):
            streams.setdefault(row[0], {})[row[1]] = stored_record(row)
        for append in appends:
            stream, first = streams.get(append.saga_id, {}), append.expected_version + 1
            last = append.expected_version + len(append.records)
            if last not in stream:
                return False
            _, hashes = seal(
                append.records,
                [data_bytes(record.data) for record in append.records],
                tenant=append.tenant,
                saga_id=append.saga_id,
                version=append.expected_version,
                previous=stream[first].previous_hash,
                recorded_at=stream[first].recorded_at,
            )
            if hashes[-1] != stream[last].hash:
                return False
        return True

    # --- relay --------------------------------------------------------------------------------------------------------

    async def unsent(self, shard: int, shards: int, limit: int) -> list[OutboxRow]:
        """The oldest unsent messages of a shard, in (saga, version) order. `shards`: 1 to 1024."""
        if not 0 <= shard < shards <= SLOTS:
            raise ValueError(f"shard {shard} of {shards}: shards must be 1 to {SLOTS}, shard less than that")
        async with self.pools.connection("work") as connection:
            rows = await connection.fetch(SQL["unsent"], shard, shards, limit)
        self._remember({(row[0], row[1]): row[6] for row in rows})
        return [OutboxRow(row[0], row[1], row[2], row[3], unpack(row[4]), row[5]) for row in rows]

    async def mark_sent(self, rows: Sequence[tuple[str, int]]) -> None:
        """Marks messages as durably on the broker. Where that took long, the attempt's timer starts again now."""
        if not rows:
            return
        found = [self._numbers.pop(row, 0) for row in set(rows)]
        async with self.pools.connection("work") as connection:
            if 0 in found:
                ids = [f"{saga_id}/{version}" for saga_id, version in rows]
                found += [row[0] for row in await connection.fetch(SQL["sequence_of"], ids)]
            await connection.execute(SQL["mark_sent"], sorted(found), PUBLISHED_LATE_MS * 1000)

    # --- timers and checks --------------------------------------------------------------------------------------------

    async def due_timers(self, until: int | None, limit: int) -> list[tuple[str, str, int]]:
        """(saga id, activity, armed) due by the database's clock and not after `until` (microseconds), earliest first.

        A timer is given to whoever asks until its batch has removed it: two processes may both try, one will conflict.
        """
        async with self.pools.connection("work") as connection:
            rows = await connection.fetch(SQL["due_timers"], until, limit)
            unsent = [row for row in rows if row[3]]
            if unsent:
                columns = [[row[place] for row in unsent] for place in range(3)]
                await connection.execute(SQL["postpone_timers"], *columns, POSTPONE_MS_MIN * 1000)
        return [(row[0], row[1], row[2]) for row in rows if not row[3]]

    async def due_resumes(self, limit: int) -> list[str]:
        """Sagas that stopped at the record limit of a turn, longest waiting first."""
        async with self.pools.connection("work") as connection:
            return [row[0] for row in await connection.fetch(SQL["due_resumes"], limit)]

    async def due_checks(self, limit: int) -> list[Waiting]:
        """Subscriptions for whose key something early is kept. Those with nothing kept are ticked off here.

        That is safe because it happens under the locks of the keys: an event kept before is seen here, one kept later
        sees the subscription.
        """
        async with self.pools.connection("work") as connection:
            await connection.begin()
            try:
                found = await self._checks(connection, limit)
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit_repeatable()
        return found

    @staticmethod
    async def _checks(connection: Guarded, limit: int) -> list[Waiting]:
        """Keys are locked before any row: a batch has its keys when it comes to write."""
        rows = await connection.fetch(SQL["open_checks"], limit)
        if not rows:
            return []
        await connection.fetch(BATCH_SQL["lock_keys"], EVENT_KEY_LOCKS, lock_buckets([tuple(row)[:3] for row in rows]))
        columns = [list(column) for column in zip(*(tuple(row)[1:] for row in rows), strict=True)]
        wanted = await connection.fetch(SQL["wanted_checks"], *columns)
        await connection.execute(SQL["tick_off"], *columns)
        return [Waiting(*row) for row in wanted]

    # --- positions and definitions ------------------------------------------------------------------------------------

    async def positions(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        """Next offsets of a group; None where nothing is stored."""
        offsets: dict[tuple[str, int], int | None] = dict.fromkeys(partitions)
        if offsets:
            columns = [list(column) for column in zip(*offsets, strict=True)]
            async with self.pools.connection("work") as connection:
                for row in await connection.fetch(SQL["positions"], group, *columns):
                    offsets[row[0], row[1]] = row[2]
        return offsets

    async def read_until(self, group: str) -> int | None:
        """How far in time intake has read, microseconds: the minimum over the partitions that have a position."""
        async with self.pools.connection("work") as connection:
            row = await connection.fetchrow(SQL["read_until"], group)
        until: int | None = row["read_until"]
        return until

    async def register_definition(self, name: str, version: int, hash_: str, data: Any) -> str:
        """Stores a definition that is new; gives the stored hash, another one if the code changed under a version."""
        async with self.pools.connection("work") as connection:
            await connection.execute(SQL["register_definition"], name, version, hash_, canonical_bytes(data))
            stored: str = (await connection.fetchrow(SQL["definition_hash"], name, version))["hash"]
        return stored

    # --- the feed -----------------------------------------------------------------------------------------------------

    async def records(self, after: int, limit: int) -> AsyncIterator[StoredRecord]:
        """Records with positions `after` + 1 onwards, at most `limit`, in safe global order and without gaps.

        Ends when there is nothing more now. Reads in pages, so no transaction stays open while the caller works.
        """
        await self.seal()
        while limit > 0:
            page = min(limit, FEED_PAGE_RECORDS_MAX)
            async with self.pools.connection("read") as connection:
                rows = await connection.fetch(SQL["records_after"], after, page)
            for row in rows:
                yield stored_record(row)
            if len(rows) < page:
                return
            after, limit = rows[-1]["position"], limit - len(rows)

    async def seal(self) -> int:
        """Gives global positions to the batches that are visible now; how many. 0 also when somebody else is at it."""
        async with self.pools.connection("work") as connection:
            if not (await connection.fetchrow(SQL["unsealed"]))["any"]:
                return 0
            await connection.begin()
            try:
                sealed = 0
                if (await connection.fetchrow(SQL["seal_lock"], EVENT_KEY_LOCKS + 1))["got"]:
                    sealed = await connection.execute(SQL["seal"], SEAL_BATCHES_MAX)
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit_repeatable()
        return sealed


__all__ = ["CommitUnknownError", "ConnectionLimits", "PostgresStore", "StoreError"]
