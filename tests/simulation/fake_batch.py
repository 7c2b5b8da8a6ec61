"""One transaction of the simulated store, with the locks that PostgreSQL would take, in its order.

Rules of this file
- Order: event keys (by bucket), heads (by id), live runs (by key), inbox (by key); then, while writing, timers, runs
  that end, consumed events, positions. A row that another transaction is inserting is waited for; one that is
  committed is not locked by an insert that only finds it there.
- Everything is checked before anything is written. Writes are a list of changes, carried out at COMMIT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.store.columns import lock_buckets, message_key
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
    StoreUnavailableError,
    Waiting,
)
from tests.simulation.fake_write import Writing, refuse
from tests.simulation.locks import Transaction
from tests.simulation.ports import Port
from tests.simulation.tables import Run, Tables

Change = Callable[[], None]


@dataclass(frozen=True)
class Presumed:
    """What a batch is decided on without asking. `messages`: body hash by key."""

    heads: Sequence[Head]
    starts: Sequence[SagaStart]
    messages: Mapping[bytes, bytes]

    def check(self, write: BatchWrite) -> None:
        """What cannot be verified is not presumed: starts that come to nothing, events that were kept."""
        written = {append.saga_id for append in write.appends if append.records}
        if {start.saga_id for start in self.starts} - written or any(a.effects.consumed for a in write.appends):
            raise PresumedWrongError("a start comes to nothing, or a kept event is taken")


class FakeBatch:
    """A `contract.Batch` over tables in memory."""

    def __init__(self, tables: Tables, port: Port) -> None:
        self.now = self.clock = 0
        self.left: Mapping[str, Head] = {}
        self.late_until = 0
        self.committing = False  # by `write`, which nobody may roll back then
        self.transaction = Transaction()
        self.changes: list[Change] = []
        self.write_given: BatchWrite | None = None
        self.taken: dict[bytes, bytes] = {}  # inbox rows of this transaction
        self.runs: dict[Run, str] = {}
        self.number = 0
        self.heads: dict[str, Head] = {}
        self._tables, self._port = tables, port
        self._keys_locked = self._alone = False
        self._presumed: Presumed | None = None

    async def active(self, *, alone: bool = False) -> dict[str, int]:
        """Which versions take new sagas. One lock for all: whoever shares it waits as well."""
        if self._keys_locked or self.now:
            raise StoreError("active comes before lock_keys and claim")
        self._alone = alone

        async def locked() -> dict[str, int]:
            await self._lock("active")
            return dict(self._tables.active)

        return await self._port.call("active", locked)

    async def lacking(self, sagas: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[str]]:
        """Nobody says here what they have."""
        return {}

    async def lock_keys(self, keys: Sequence[EventKey]) -> tuple[list[Waiting], list[EarlyEvent]]:
        """Locks event keys, then asks, so that it sees what those who held them have committed."""
        if self._keys_locked or self.now:
            raise StoreError("lock_keys comes once and before claim")
        self._keys_locked = True

        async def locked() -> None:
            for bucket in lock_buckets(keys):
                await self._lock("key", bucket)

        async def asked() -> tuple[list[Waiting], list[EarlyEvent]]:
            return self._tables.waiting(set(keys)), self._tables.kept(set(keys))

        if not keys:
            return [], []
        await self._port.call("lock keys", locked)
        return await self._port.call("read keys", asked)

    async def claim(
        self, sagas: Sequence[str], starts: Sequence[SagaStart], messages: Sequence[MessageId]
    ) -> tuple[dict[str, Head], list[MessageFate]]:
        """Locks heads, takes runs and messages, reads the clock."""
        if self.now:
            raise StoreError("claim comes once per batch")
        self._keys_locked = True

        async def heads() -> None:
            await self._lock_heads(sagas, starts)

        async def runs() -> None:
            await self._take_runs(starts)

        async def inbox() -> list[MessageFate]:
            fates = await self._take_in(messages)
            self.now = self.clock = self._tables.clock()
            self._take_number()
            return fates

        if sagas or starts:
            await self._port.call("lock heads", heads)
        if starts:
            await self._port.call("take runs", runs)
        fates = await self._port.call("take in", inbox)
        return dict(self.heads), fates

    def presume(
        self, heads: Sequence[Head], starts: Sequence[SagaStart], messages: Sequence[MessageId], now: int
    ) -> tuple[dict[str, Head], list[MessageFate]]:
        """Notes what is believed."""
        if self.now or self._keys_locked:
            raise StoreError("presume comes instead of lock_keys and claim")
        self._keys_locked, self.now, self.late_until = True, now, now + PRESUMED_US
        keys = [message_key(message.tenant, message.source, message.id) for message in messages]
        first = {key: message.body_hash for key, message in reversed(list(zip(keys, messages, strict=True)))}
        self._presumed = Presumed(heads, starts, first)
        self.heads = {head.saga_id: head for head in heads}
        for s in starts:
            self.heads[s.saga_id] = Head(s.saga_id, s.tenant, s.name, 0, s.business_key, 0, b"", 0, False, s.saga_id)
        return dict(self.heads), _fates(keys, messages, first, set(first))

    async def streams(self, saga_ids: Sequence[str]) -> dict[str, list[StoredRecord]]:
        """Whole streams."""

        async def read() -> dict[str, list[StoredRecord]]:
            return {saga_id: self._tables.stream(saga_id) for saga_id in saga_ids}

        return await self._port.call("read streams", read)

    async def write(self, write: BatchWrite) -> None:
        """Checks everything, waits for what others hold, and notes what COMMIT will do."""
        if not self.now:
            raise StoreError("write before claim: nothing is locked yet")
        if self.write_given is not None:
            raise StoreError("write comes once per batch")
        writing = Writing(self._tables, self.heads, self.now, self.number, write)
        self._refuse_consumed(write)
        if self._presumed is not None:
            self._presumed.check(write)
        if write.switches and not self._alone:
            raise StoreError("a switch without having asked for `active` alone")
        self.write_given = write
        if self._tables.watcher is not None:
            self._tables.watcher.writes(write)

        async def written() -> None:
            made = writing
            if self._presumed is not None:
                await self._verify(self._presumed)
                made = Writing(self._tables, self.heads, self.now, self.number, write)
            for name in made.locks():
                await self._lock(*name)
            self.changes, self.left = made.changes(), made.left

        if self._presumed is None:
            await self._port.call("write", written)
        else:
            self.committing = True
            await self._port.carry_out(written, self.apply, self.undo)

    async def _verify(self, presumed: Presumed) -> None:
        """Takes the locks of `claim` and raises PresumedWrongError where anything is not as it was believed."""
        tables = self._tables
        self.clock = tables.clock()
        if not self.clock - PRESUMED_US <= self.now <= self.clock:
            raise PresumedWrongError(f"it is {self.clock}, not {self.now}")
        believed, self.heads = {head.saga_id: head for head in presumed.heads}, {}
        await self._lock_heads(list(believed), presumed.starts)
        await self._take_runs(presumed.starts)
        fates = await self._take_rows(presumed.messages)
        for saga_id, head in believed.items():
            found = self.heads.get(saga_id)
            if found is None or (found.version, found.hash) != (head.version, head.hash):
                raise PresumedWrongError(f"{saga_id} is not at {head.version}")
        dues = [timer.due for (saga_id, _), timer in tables.timers.items() if saga_id in believed]
        if any(self.now < due <= tables.clock() for due in dues):
            raise PresumedWrongError("something has become due since")
        for start in presumed.starts:
            if self.heads[start.saga_id].version or self.heads[start.saga_id].run_owner != start.saga_id:
                raise PresumedWrongError(f"{start.saga_id} is not new")
        if len(fates) < len(presumed.messages):
            raise PresumedWrongError("a message was here before")
        if tables.clock() > self.late_until:
            raise StoreUnavailableError("this batch waited for its locks for more than a second")
        self._take_number()

    def _take_number(self) -> None:
        self._tables.batches += 1
        self.number = self._tables.batches

    def apply(self) -> None:
        """COMMIT."""
        if self.transaction.over:
            return
        tables = self._tables
        tables.inbox.update(self.taken)
        write = self.write_given or BatchWrite()
        begun = {append.saga_id for append in write.appends if append.records}
        tables.runs.update({run: saga_id for run, saga_id in self.runs.items() if saga_id in begun})
        for change in self.changes:
            change()
        tables.commits += 1
        if tables.watcher is not None:
            tables.watcher.committed(write, self.now)
        tables.locks.free(self.transaction)

    def undo(self) -> None:
        """ROLLBACK."""
        if not self.transaction.over:
            self._tables.locks.free(self.transaction)

    async def _lock(self, *name: object) -> None:
        await self._tables.locks.take(self.transaction, name)

    async def _lock_heads(self, sagas: Sequence[str], starts: Sequence[SagaStart]) -> None:
        tables, new = self._tables, {start.saga_id: start for start in reversed(starts)}
        inserted: dict[str, Head] = {}
        for saga_id, start in sorted(new.items()):
            if await self._insert(("head", saga_id), lambda s=saga_id: s in tables.heads):  # type: ignore[misc]
                inserted[saga_id] = Head(saga_id, start.tenant, start.name, 0, start.business_key, 0, b"", 0)
        seen = {saga_id for saga_id in {*sagas, *new} if saga_id in tables.heads or saga_id in inserted}
        for saga_id in sorted(seen):
            await self._lock("head", saga_id)
            row = tables.heads.get(saga_id)
            self.heads[saga_id] = row.head if row is not None else inserted[saga_id]

    async def _take_runs(self, starts: Sequence[SagaStart]) -> None:
        tables = self._tables
        wanted = [((s.tenant, s.name, s.business_key), s.saga_id) for s in starts]
        for run, saga_id in sorted(wanted):
            fresh = self.heads[saga_id].version == 0 and run not in self.runs
            if fresh and await self._insert(("run", *run), lambda r=run: r in tables.runs):  # type: ignore[misc]
                self.runs[run] = saga_id
        for run, saga_id in wanted:
            owner = self.runs.get(run) or tables.runs.get(run)
            self.heads[saga_id] = replace(self.heads[saga_id], run_owner=owner)

    async def _take_in(self, messages: Sequence[MessageId]) -> list[MessageFate]:
        keys = [message_key(message.tenant, message.source, message.id) for message in messages]
        first: dict[bytes, bytes] = {}
        for key, message in zip(keys, messages, strict=True):
            first.setdefault(key, message.body_hash)
        new = await self._take_rows(first)
        return _fates(keys, messages, self._tables.inbox | self.taken, new)

    async def _take_rows(self, rows: Mapping[bytes, bytes]) -> set[bytes]:
        """Writes inbox rows; the keys of those that are new."""
        tables = self._tables
        for key in sorted(rows):
            if await self._insert(("inbox", key), lambda k=key: k in tables.inbox):  # type: ignore[misc]
                self.taken[key] = rows[key]
        return set(self.taken)

    async def _insert(self, name: tuple[object, ...], there: Callable[[], bool]) -> bool:
        """INSERT ... ON CONFLICT DO NOTHING: waits for whoever inserts or deletes the same row. True where it did."""
        locks, transaction = self._tables.locks, self.transaction
        if name in transaction.held:
            return not there()
        if there() and not locks.foreign(transaction, name):
            return False
        if there() and name[0] in ("head", "inbox"):
            return False  # such rows are never deleted, so a lock on one is somebody's update
        await locks.take(transaction, name)
        if there():
            locks.let_go(transaction, name)
            return False
        return True

    def _refuse_consumed(self, write: BatchWrite) -> None:
        blamed = {}
        for append in write.appends:
            for event_id in append.effects.consumed:
                owner = self._tables.consumed.get((append.tenant, event_id, append.name, append.business_key))
                if owner is not None:
                    blamed[append.saga_id] = f"takes event {event_id.replace(chr(10), ' ')}, which saga {owner}"
        refuse(ConflictError, blamed, "of its business key has already taken")


def _fates(
    keys: Sequence[bytes], messages: Sequence[MessageId], stored: Mapping[bytes, bytes], new: set[bytes]
) -> list[MessageFate]:
    fates: list[MessageFate] = []
    new = set(new)
    for key, message in zip(keys, messages, strict=True):
        if key in new:
            new.discard(key)
            fates.append("new")
        else:
            fates.append("seen" if stored[key] == message.body_hash else "other_body")
    return fates
