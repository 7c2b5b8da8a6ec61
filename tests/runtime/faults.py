"""A store whose calls fail before, after, or never return, at a chosen moment: what a network does to a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from orchestrator.store.contract import CommitUnknownError, ConflictError, StoreError, StoreUnavailableError
from orchestrator.store.postgres import PostgresStore


class FaultyStore:
    """Passes everything on to a real store, except where told otherwise. Each fault happens once."""

    def __init__(self, real: PostgresStore) -> None:
        self._real = real
        self.faults: dict[str, str] = {}  # method, or "commit": before | after | conflict
        self.conflicts = 0  # how many writes still meet a conflict
        self.batches = 0
        self.asked = 0
        self.poisoned = ""  # a saga whose records the database refuses, whatever they are

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in self.faults:
            return found

        async def faulty(*args: Any, **kwargs: Any) -> Any:
            when = self.faults.pop(name, "")
            if when == "before":
                raise StoreUnavailableError(f"{name}: no connection")
            result = await found(*args, **kwargs)
            if when == "after":
                raise StoreUnavailableError(f"{name}: the answer was lost")
            return result

        return faulty

    async def committed(self, *args: Any) -> bool:
        """Counts how often it is asked."""
        self.asked += 1
        return await self._real.committed(*args)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Any]:
        """A real batch, whose commit may be lost on the way there or on the way back."""
        self.batches += 1
        when = self.faults.pop("commit", "")
        try:
            async with self._real.batch() as batch:
                yield _Batch(batch, self, lost=when == "before")
                if when == "before":
                    raise _NeverCommittedError
        except _NeverCommittedError:
            raise CommitUnknownError("the connection died before COMMIT arrived") from None
        if when == "after":
            raise CommitUnknownError("the connection died after COMMIT")


class _NeverCommittedError(Exception):
    pass


class _Batch:
    def __init__(self, real: Any, store: FaultyStore, *, lost: bool) -> None:
        self._real, self._store, self._lost = real, store, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def write(self, write: Any) -> None:
        if self._store.conflicts and write.appends:
            self._store.conflicts -= 1
            raise ConflictError("somebody was first", [append.saga_id for append in write.appends])
        if any(append.saga_id == self._store.poisoned for append in write.appends):
            raise StoreError("insert_records: a check constraint is violated")
        if self._lost and self._real.late_until:
            raise _NeverCommittedError  # a presumed batch: its write would commit
        await self._real.write(write)
