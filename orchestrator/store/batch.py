"""One batch: the transaction in which a coordinator locks, reads and writes.

Rules of this file
- Lock order: which versions are active, event keys (sorted buckets), new heads, heads (in id order), live runs (in key
  order), inbox. A transaction waits only for others that are at least as far as itself, so two batches never wait for
  each other.
- The clock and the batch's number are read after the locks. So `now` never precedes what a waited-for batch recorded,
  and batch numbers follow the order of versions in every stream.
- A presumed batch asks nothing before it writes, and verifies what it was decided on in the call that writes.
- Everything is checked before anything is written: a saga that cannot be written is named, the others can go on.
- What a batch costs is round trips: one statement per table, arrays in, nothing per row in Python but building them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import time

from orchestrator.store import small
from orchestrator.store.batch_rows import COPIED, Rows, Statement
from orchestrator.store.columns import EVENT_KEY_LOCKS, SEQ_BITS, joined, lock_buckets, message_key, storable, texts
from orchestrator.store.connections import Guarded, SeenError
from orchestrator.store.contract import (
    PRESUMED_US,
    BatchWrite,
    ConflictError,
    EarlyEvent,
    EventKey,
    Head,
    MessageFate,
    MessageId,
    PresumedWrongError,
    SagaStart,
    StoredRecord,
    StoreError,
    Switch,
    Waiting,
)
from orchestrator.store.reading import early_event, stored_record
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "batch.sql")
ACTIVE = load_queries("orchestrator.store", "activations.sql")
CARRIED_US = 20_000_000  # a process that has said nothing for so long is not there any more
MAKE_HEADS_ATTEMPTS_MAX = 5
JOINED = frozenset({"clear_timers", "advance_heads"})  # each turn of each saga: see batch.sql
COPY_INBOX_ROWS_MIN = 20  # below, one statement is cheaper than a savepoint


class PostgresBatch:
    """A transaction under way; see `contract.Batch`. Made by `PostgresStore.batch` alone."""

    def __init__(self, connection: Guarded) -> None:
        self.now = self.clock = 0
        self.left: Mapping[str, Head] = {}
        self.late_until = 0
        self._connection = connection
        self.numbers: dict[tuple[str, int], int] = {}  # seq by (saga, version) of the messages that it wrote
        self._number = 0
        self._heads: dict[str, Head] = {}
        self._unwritten: dict[str, Head] = {}  # heads at version 0: they must not outlive this transaction
        self._presumed: small.Presumed | None = None
        self._keys_locked = False
        self._written = self._alone = False

    async def active(self, *, alone: bool = False) -> dict[str, int]:
        """Locks which versions take new sagas, and gives them; see `contract.Batch`."""
        if self._keys_locked or self.now:
            raise StoreError("active comes before lock_keys and claim: otherwise two batches could wait for each other")
        await self._connection.begin()
        self._alone = alone
        return {row["name"]: row["version"] for row in await self._connection.fetch(ACTIVE["active"], alone)}

    async def lacking(self, sagas: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[str]]:
        """Which running processes have not got these versions."""
        wanted = {f"{name}/{version}": (name, version) for name, version in sagas}
        found: dict[tuple[str, int], list[str]] = {}
        for row in await self._connection.fetch(ACTIVE["lacking"], list(wanted), CARRIED_US):
            found.setdefault(wanted[row["saga"]], []).append(row["instance"])
        return found

    async def lock_keys(self, keys: Sequence[EventKey]) -> tuple[list[Waiting], list[EarlyEvent]]:
        """Locks event keys; gives who waits for them (longest first) and what is kept for them (earliest first)."""
        if self._keys_locked or self.now:
            raise StoreError("lock_keys comes once and before claim: otherwise two batches could wait for each other")
        self._keys_locked = True
        if not keys:
            return [], []
        if not self._connection.open:
            await self._connection.begin()
        await self._connection.fetch(SQL["lock_keys"], EVENT_KEY_LOCKS, lock_buckets(keys))
        columns = [texts(column) for column in zip(*sorted(set(keys)), strict=True)]
        # New statements, so that they see what the batches that held these locks have committed.
        waits = await self._connection.fetch(SQL["waits_for_keys"], *columns)
        early = await self._connection.fetch(SQL["early_for_keys"], *columns)
        return [Waiting(*row) for row in waits], [early_event(row) for row in early]

    async def claim(
        self, sagas: Sequence[str], starts: Sequence[SagaStart], messages: Sequence[MessageId]
    ) -> tuple[dict[str, Head], list[MessageFate]]:
        """Locks the heads, makes those of starts, takes the messages in, reads the clock. Once per batch."""
        if self.now:
            raise StoreError("claim comes once per batch: a second one would lock out of order")
        self._keys_locked = True
        if not self._connection.open:
            await self._connection.begin()
        if len(sagas) + len(starts) <= small.SAGAS_MAX and len(messages) <= small.SAGAS_MAX:
            fates = await self._claim_few(sagas, starts, messages)
        else:
            await self._lock_heads(sagas, starts)
            await self._take_runs(starts)
            fates = await self._take_in(messages)
        self.clock = self.now
        return dict(self._heads), fates

    def presume(
        self, heads: Sequence[Head], starts: Sequence[SagaStart], messages: Sequence[MessageId], now: int
    ) -> tuple[dict[str, Head], list[MessageFate]]:
        """Believes instead of asking; `write` verifies it in the call that writes."""
        if self.now or self._keys_locked:
            raise StoreError("presume comes instead of lock_keys and claim")
        self._keys_locked = True
        keys = [message_key(message.tenant, message.source, message.id) for message in messages]
        first = _firsts(keys, messages)
        self._presumed = small.Presumed(heads, starts, first, now)
        self.now, self.late_until, self._number = now, now + PRESUMED_US, 1
        self._heads = {head.saga_id: head for head in heads}
        for start in starts:
            tenant, name, key = storable(start.tenant), storable(start.name), storable(start.business_key)
            self._heads[start.saga_id] = Head(start.saga_id, tenant, name, 0, key, 0, b"", 0, False, start.saga_id)
        return dict(self._heads), _fates(keys, messages, first, set(first))

    async def _claim_few(
        self, sagas: Sequence[str], starts: Sequence[SagaStart], messages: Sequence[MessageId]
    ) -> list[MessageFate]:
        new = [start for _, start in sorted({start.saga_id: start for start in reversed(starts)}.items())]
        wanted = sorted({*sagas, *(start.saga_id for start in new)})
        keys = [message_key(message.tenant, message.source, message.id) for message in messages]
        first = _firsts(keys, messages)
        self._heads, seen, self.now, self._number = await small.claim(
            self._connection, wanted, new, sorted(first.items())
        )
        missing = [start.saga_id for start in new if start.saga_id not in self._heads]
        if missing:
            raise StoreError(f"the heads of {missing[:3]} appear and vanish again", ())
        self._unwritten = {s.saga_id: self._heads[s.saga_id] for s in new if self._heads[s.saga_id].version == 0}
        return _fates(keys, messages, first | seen, first.keys() - seen.keys())

    async def streams(self, saga_ids: Sequence[str]) -> dict[str, list[StoredRecord]]:
        """The whole streams, in version order; an empty list where nothing is written."""
        streams: dict[str, list[StoredRecord]] = {saga_id: [] for saga_id in saga_ids}
        if streams:
            for row in await self._connection.fetch(SQL["streams"], list(streams)):
                streams[row[0]].append(stored_record(row))
        return streams

    async def write(self, write: BatchWrite) -> None:
        """Writes everything, once. Before that, raises ConflictError or InvalidAppendError, naming sagas."""
        if not self.now:
            raise StoreError("write before claim: nothing is locked yet")
        if self._written:
            raise StoreError("write comes once per batch: a second one would use the numbers of the first again")
        rows = Rows(write, self._heads, self.now, self._number)
        if self._presumed is not None:
            _refuse_unpresumed(self._presumed, write)
        else:
            await self._refuse_consumed(write)
        if write.switches and not self._alone:
            raise StoreError("a switch without having asked for `active` alone: others may have begun sagas meanwhile")
        self._written, self.left = True, rows.left
        if self._presumed is not None:
            await self._write_presumed(rows, self._presumed)
        elif rows.records <= small.RECORDS_MAX:
            await self._write_few(rows)
        else:
            await self._write_many(rows)
        for append in write.appends:
            if append.records:
                self._unwritten.pop(append.saga_id, None)
        self.numbers = self.numbers or rows.numbers
        for switch in write.switches:
            await self._switch(switch)
        await self.finish()

    async def _write_presumed(self, rows: Rows, presumed: small.Presumed) -> None:
        self.clock, number, advanced, rest = await small.write_presumed(self._connection, presumed, rows.statements())
        _refuse_moved(advanced, rows.sagas)
        shift = (number - 1) << SEQ_BITS
        self.numbers = {message: seq + shift for message, seq in rows.numbers.items()}
        for statement in rest:
            await self._run(statement, rows.sagas)

    async def _write_few(self, rows: Rows) -> None:
        advanced, rest = await small.write(self._connection, rows.statements(), self.now)
        _refuse_moved(advanced, rows.sagas)
        for statement in rest:
            await self._run(statement, rows.sagas)

    async def _write_many(self, rows: Rows) -> None:
        statements = rows.statements()
        statement = next(statements, None)
        while statement:
            running = asyncio.ensure_future(self._run(statement, rows.sagas))
            try:
                await asyncio.sleep(0)  # lets it start
                statement = next(statements, None)  # built here while the server works
            finally:
                await running

    async def _run(self, statement: Statement, sagas: int) -> None:
        name, columns = statement
        if name in COPIED:
            await self._connection.copy(name, COPIED[name], zip(*columns, strict=True))
            return
        if name in JOINED:
            columns = [joined(column) if isinstance(column, list) else column for column in columns]
        changed = await self._connection.execute(SQL[name], *columns)
        if name == "advance_heads":
            _refuse_moved(changed, sagas)

    async def _switch(self, s: Switch) -> None:
        given = (s.name, s.version, s.replaces, s.hash, s.saga_id, self._number, self.now)
        if await self._connection.execute(ACTIVE["switch"], *given) != 1:
            raise StoreError(f"{s.name} v{s.version} cannot replace v{s.replaces}: something else is active or stored")

    async def finish(self) -> None:
        """Removes the heads of starts that were not written, and their claim to a live run."""
        if not self._unwritten:
            return
        heads, self._unwritten = list(self._unwritten.values()), {}
        runs = zip(*((h.tenant, h.name, h.business_key, h.saga_id) for h in heads), strict=True)
        await self._connection.execute(SQL["free_runs"], *map(texts, map(list, runs)))
        await self._connection.execute(SQL["forget_heads"], [head.saga_id for head in heads])

    async def _lock_heads(self, sagas: Sequence[str], starts: Sequence[SagaStart]) -> None:
        wanted = sorted({*sagas, *(start.saga_id for start in starts)})
        new = {start.saga_id: start for start in reversed(starts)}
        columns = [
            texts(list(column))
            for column in zip(
                *((s.saga_id, s.tenant, s.name, s.business_key) for _, s in sorted(new.items())), strict=True
            )
        ]
        for _ in range(MAKE_HEADS_ATTEMPTS_MAX):
            if new:
                await self._connection.execute(SQL["make_heads"], *columns)
            if wanted:
                rows = await self._connection.fetch(SQL["lock_heads"], joined(wanted))
                self._heads = {row[0]: Head(*row) for row in rows}
            # Missing only where another batch held the same start and gave it up between our two statements.
            if new.keys() <= self._heads.keys():
                break
        else:
            raise StoreError(f"the heads of {sorted(new.keys() - self._heads.keys())[:3]} appear and vanish again", ())
        self._unwritten = {saga_id: self._heads[saga_id] for saga_id in new if self._heads[saga_id].version == 0}

    async def _take_runs(self, starts: Sequence[SagaStart]) -> None:
        """Tries to take the live run of every start that is new, and notes who has it."""
        if not starts:
            return
        runs = {
            start.saga_id: (storable(start.tenant), storable(start.name), storable(start.business_key))
            for start in starts
        }
        new = sorted(
            ((key, saga_id) for saga_id, key in runs.items() if saga_id in self._unwritten), key=lambda run: run[0]
        )
        owners = dict(reversed(new))
        taken = 0
        if new:
            columns = [list(column) for column in zip(*((*key, saga_id) for key, saga_id in new), strict=True)]
            taken = await self._connection.execute(SQL["take_runs"], *columns)
        if taken < len(runs):
            columns = [list(column) for column in zip(*runs.values(), strict=True)]
            rows = await self._connection.fetch(SQL["run_owners"], *columns)
            owners = {(row[0], row[1], row[2]): row[3] for row in rows}
        for saga_id, key in runs.items():
            self._heads[saga_id] = replace(self._heads[saga_id], run_owner=owners.get(key))

    async def _take_in(self, messages: Sequence[MessageId]) -> list[MessageFate]:
        """Writes the inbox and reads the clock; says for every message whether it is new."""
        keys = [message_key(message.tenant, message.source, message.id) for message in messages]
        first = _firsts(keys, messages)
        if not first:
            await self._read_clock()
            return []
        rows = sorted(first.items())
        if len(rows) >= COPY_INBOX_ROWS_MIN and await self._copy_in(rows):
            await self._read_clock()
            return _fates(keys, messages, first, set(first))
        return _fates(keys, messages, *await self._take_in_one_by_one(rows))

    async def _copy_in(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """Takes in all messages at once: cheap, and works if none of them was here before. False if one was."""
        connection = self._connection
        await connection.execute("SAVEPOINT inbox")
        received_at = int(time() * 1_000_000)  # only for trimming by age, days later
        try:
            await connection.copy("inbox", COPIED["inbox"], [(*row, received_at) for row in rows])
        except SeenError:
            await connection.execute("ROLLBACK TO SAVEPOINT inbox")
            return False
        await connection.execute("RELEASE SAVEPOINT inbox")
        return True

    async def _take_in_one_by_one(self, rows: Sequence[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], set[bytes]]:
        """Takes in what is new; gives the stored hash of every message, and which are new."""
        keys = [key for key, _ in rows]
        row = await self._connection.fetchrow(SQL["take_in"], keys, [body_hash for _, body_hash in rows])
        self.now, self._number = row["now"], row["batch"]
        if row["taken"] == len(rows):
            return dict(rows), set(keys)
        found = await self._connection.fetch(SQL["taken_before"], keys)
        return {stored[0]: stored[1] for stored in found}, set(row["keys"] or ())

    async def _read_clock(self) -> None:
        row = await self._connection.fetchrow(SQL["clock"])
        self.now, self._number = row["now"], row["batch"]

    async def _refuse_consumed(self, write: BatchWrite) -> None:
        """Raises ConflictError for events that a run of the same saga and business key has already taken."""
        wanted = [
            (append.tenant, event_id, append.name, append.business_key)
            for append in write.appends
            for event_id in append.effects.consumed
        ]
        if not wanted:
            return
        columns = [texts(list(column)) for column in zip(*wanted, strict=True)]
        rows = await self._connection.fetch(SQL["consumers"], *columns)
        if rows:
            taken = {(row[1], row[2], row[0]): row[3] for row in rows}
            blamed = {
                append.saga_id: (event_id, owner)
                for append in write.appends
                for event_id in append.effects.consumed
                if (owner := taken.get((storable(append.name), storable(append.business_key), storable(event_id))))
            }
            saga_id, (event_id, owner) = next(iter(blamed.items()))
            raise ConflictError(
                f"saga {saga_id} takes event {event_id.replace(chr(10), ' ')}, which saga {owner} of its business key "
                f"has already taken ({len(blamed)} sagas). Cause: an event offered twice. Reload and decide again",
                tuple(blamed),
            )


def _refuse_unpresumed(presumed: small.Presumed, write: BatchWrite) -> None:
    """What a presumed batch cannot verify: starts that come to nothing, events that were taken."""
    written = {append.saga_id for append in write.appends if append.records}
    if any(start.saga_id not in written for start in presumed.starts):
        raise PresumedWrongError("a start that was presumed to be new is not written")
    if any(append.effects.consumed for append in write.appends):
        raise PresumedWrongError("an event that was kept is taken")


def _refuse_moved(changed: int, sagas: int) -> None:
    if changed != sagas:
        raise StoreError(
            f"{changed} of {sagas} heads stood where this batch had locked them. Locked heads cannot move: "
            "somebody changes the tables by hand, or the lock was lost"
        )


def _firsts(keys: Sequence[bytes], messages: Sequence[MessageId]) -> dict[bytes, bytes]:
    """The body hash under each key: of the first message, where a batch has several."""
    first: dict[bytes, bytes] = {}
    for key, message in zip(keys, messages, strict=True):
        first.setdefault(key, message.body_hash)
    return first


def _fates(
    keys: Sequence[bytes], messages: Sequence[MessageId], stored: Mapping[bytes, bytes], new: set[bytes]
) -> list[MessageFate]:
    fates: list[MessageFate] = []
    for key, message in zip(keys, messages, strict=True):
        if key in new:
            new.discard(key)  # a second one in this batch is not new any more
            fates.append("new")
        else:
            fates.append("seen" if stored[key] == message.body_hash else "other_body")
    return fates
