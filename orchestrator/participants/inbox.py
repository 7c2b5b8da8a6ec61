"""The inbox in PostgreSQL: one class for its transactions, and nothing that decides.

Rules of this file
- Every transaction first chooses the participant's schema and its time limits, and reads the clock once.
- Rows of effects in this database are written once, at the end of their transaction. If another process had the same
  key meanwhile, `add` raises and everything, effects included, is rolled back.
- A transaction is never cancelled half-way: `uncancelled` lets it end first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, TypeVar, cast

import asyncpg

from orchestrator.broker.contract import Assignment, IncomingMessage
from orchestrator.participants.decide import Row, RowKey
from orchestrator.participants.settings import ParticipantSettings
from orchestrator.participants.work import Connection, Pool
from orchestrator.store.sql import load_queries

T = TypeVar("T")

_kind_of = attrgetter(
    "tenant", "type", "type_version", "starts", "outcome", "reply_type", "reply_schema", "closed", "under"
)
_READ = ("tenant", "key", "wire_key", "type", "type_version", "body_hash", "command", "first_started_at", "started_at",
         "lease_until", "starts", "outcome", "reply", "reply_type", "reply_schema", "closed", "under")  # fmt: skip
DATABASE_ANSWER_SECONDS_MAX = 5.0


class InboxConflict(Exception):
    """Another process has taken one of these keys meanwhile; nothing of this transaction stays."""


class Transaction:
    """One open transaction. `now`: the database's clock at its beginning, aware UTC. `found`: the rows of the keys that
    it was opened for, as they were then, unlocked: settled rows never change."""

    def __init__(
        self,
        connection: Connection,
        queries: Mapping[str, str],
        now: datetime,
        found: dict[RowKey, Row] | None = None,
    ) -> None:
        self.connection = connection
        self.now = now
        self.found = found or {}
        self._sql = queries

    async def lock(self, keys: Iterable[RowKey]) -> dict[RowKey, Row]:
        """The rows of these keys, locked until the end of the transaction. Missing ones are simply not there."""
        return _rows(await self.connection.fetch(self._sql["lock_rows"], *_columns(keys)))

    async def add(self, rows: Sequence[Row], positions: Mapping[Assignment, int] | None = None) -> None:
        """Writes settled rows, and how far everything was answered. Raises InboxConflict where a row is there."""
        if not rows:
            await self.write_positions(positions or {})
            return
        kinds: dict[tuple[Any, ...], int] = {}
        numbers = [kinds.setdefault(_kind_of(row), len(kinds) + 1) for row in rows]
        status = await self.connection.execute(
            self._sql["add_rows"],
            [row.key for row in rows],
            [row.wire_key for row in rows],
            [row.body_hash for row in rows],
            [row.reply for row in rows],
            numbers,
            *(list(column) for column in zip(*kinds, strict=True)),
            self.now,
            *_places(positions or {}),
        )
        if int(status.rpartition(" ")[2]) != len(rows):
            raise InboxConflict

    async def start(self, row: Row, limit: timedelta) -> None:
        """Notes that the outside will be called, for the first time. Raises InboxConflict where the key is there."""
        until = self.now + limit
        found = await self.connection.fetchval(
            self._sql["start"], row.tenant, row.key, row.wire_key, row.type, row.type_version, row.body_hash,
            row.command, self.now, until,
        )  # fmt: skip
        if found is None:
            raise InboxConflict

    async def start_again(self, row: Row, limit: timedelta) -> bool:
        """Notes another call. False: somebody else has moved this row since it was read."""
        until = self.now + limit
        arguments = (row.tenant, row.key, row.starts, self.now, until)
        return await self.connection.fetchval(self._sql["start_again"], *arguments) is not None

    async def settle(
        self, row: Row, answer: tuple[str, bytes, str, str], starts: int | None
    ) -> tuple[bool, str | None]:
        """Stores the outcome (outcome, body, type, schema) of an outside effect.

        starts: only if this is still the latest start. Gives (stored, how the key was closed before, if it was).
        """
        found = await self.connection.fetchrow(self._sql["settle"], row.tenant, row.key, *answer, starts)
        return (False, None) if found is None else (True, found["closed"])

    async def close(self, row: Row, closed: str) -> bool:
        """Closes a started key: fenced or never. False: somebody else has moved this row since it was read."""
        arguments = (row.tenant, row.key, row.starts, closed)
        return await self.connection.fetchval(self._sql["close"], *arguments) is not None

    async def take_back(self, row: Row, starts: int, lease_until: datetime | None) -> None:
        """The call of start number `starts` is over or was never sent; `lease_until`: that of the calls before it."""
        if lease_until is None:
            await self.connection.fetchval(self._sql["unstart"], row.tenant, row.key, starts)
        else:
            await self.connection.fetchval(self._sql["release_lease"], row.tenant, row.key, starts, lease_until)

    async def write_positions(self, positions: Mapping[Assignment, int]) -> None:
        """Notes how far everything was answered; never goes backwards."""
        if positions:
            await self.connection.execute(self._sql["write_positions"], *_places(positions))

    async def keep_dead_letter(self, message: IncomingMessage, reason: str, detail: str) -> None:
        """Keeps a message that cannot be obeyed, as it came."""
        names = [name.replace("\0", "\N{REPLACEMENT CHARACTER}") for name, _ in message.headers]
        await self.connection.execute(
            self._sql["keep_dead_letter"], message.topic, message.partition, message.offset, message.key, message.value,
            names, [value for _, value in message.headers], reason, detail.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        )  # fmt: skip

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What happens inside is undone, and only that, when it raises, also after a failed statement."""
        await self.connection.execute(self._sql["savepoint"])
        try:
            yield
            await self.connection.execute(self._sql["release_savepoint"])
        except Exception:
            await self.connection.execute(self._sql["roll_back_to_savepoint"])
            raise


def _columns(keys: Iterable[RowKey]) -> tuple[list[str], list[str]]:
    """Tenants and names, as the queries want them."""
    wanted = list(keys)
    return [key[0] for key in wanted], [key[1] for key in wanted]


def _places(positions: Mapping[Assignment, int]) -> tuple[list[str], list[int], list[int]]:
    """Topics, partitions and offsets, as the queries want them."""
    return [topic for topic, _ in positions], [number for _, number in positions], list(positions.values())


def _rows(found: Iterable[asyncpg.Record]) -> dict[RowKey, Row]:
    rows = (Row(**{name: record[name] for name in _READ}) for record in found)
    return {(row.tenant, row.key): row for row in rows}


class Inbox:
    """The inbox of one participant: makes transactions in its schema."""

    def __init__(self, pool: Pool, schema: str, settings: ParticipantSettings) -> None:
        self._pool = pool
        queries = load_queries("orchestrator.participants", "inbox.sql")
        # A statement that is prepared under one search_path is planned anew under another one; the connections are
        # shared by all participants of a process, so each of them has texts of its own.
        self._sql = {name: f"-- {schema}\n{text.replace('{schema}', schema)}" for name, text in queries.items()}
        self._enter = (
            schema,
            f"{settings.statement_timeout_ms}ms",
            f"{settings.lock_timeout_ms}ms",
            f"{settings.idle_transaction_ms}ms",
        )

    @asynccontextmanager
    async def transaction(self, keys: Iterable[RowKey] = (), *, readonly: bool = False) -> AsyncIterator[Transaction]:
        """Opens one, and reads the rows of `keys`; commits on leaving, rolls back on an exception."""
        async with self._pool.acquire() as connection, connection.transaction(readonly=readonly):
            tenants, names = _columns(keys)
            if names:
                read = await connection.fetch(self._sql["enter_and_read"], *self._enter, tenants, names, len(names))
            else:
                read = await connection.fetch(self._sql["enter"], *self._enter)
            found = _rows(record for record in read if record["key"] is not None) if names else {}
            yield Transaction(connection, self._sql, read[0]["now"], found)

    async def clock(self) -> datetime:
        """The database's clock."""
        return cast("datetime", await self._pool.fetchval(self._sql["clock"]))

    async def positions(self, partitions: Iterable[Assignment]) -> dict[Assignment, int | None]:
        """The next offset wanted of each partition; None where nothing was read yet."""
        places = list(partitions)
        async with self.transaction() as transaction:
            found = await transaction.connection.fetch(
                self._sql["read_positions"], [topic for topic, _ in places], [number for _, number in places]
            )
        stored = {(row["topic"], row["partition"]): row["next_offset"] for row in found}
        return {place: stored.get(place) for place in places}

    async def write_positions(self, positions: Mapping[Assignment, int]) -> None:
        """Notes progress by itself, where no batch carries it along."""
        async with self.transaction() as transaction:
            await transaction.write_positions(positions)

    async def forget_old(self, days: int, rows: int) -> None:
        """Deletes settled keys older than `days`, at most `rows` of them."""
        async with self.transaction() as transaction:
            await transaction.connection.execute(self._sql["forget_old"], days, rows)

    async def answers(self) -> bool:
        """Whether the database can be reached now."""
        with suppress(Exception):
            async with asyncio.timeout(DATABASE_ANSWER_SECONDS_MAX):
                await self.clock()
                return True
        return False


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work` to its end also when the caller is cancelled meanwhile; then the cancellation goes on.

    A connection that is cancelled inside a transaction may be left dirty or waiting for ever.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            task.exception()  # seen; the cancellation is what the caller must hear of
        raise
