"""Operators' work on many stuck sagas: who owns a cause, and acts on a list that was frozen.

Rules of this file
- A list is frozen when it is previewed and never grows. What became of each saga is written as it happens, so a restart
  goes on where the last process stopped.
- A process leases an act for one round. One that dies gives it up by the lease's end; an item that it had acted on
  without saying so is acted on again under the same request, which counts once.
- Moves from state to state name the state that was seen: of two people who act at once, one is told.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.store.columns import storable, texts
from orchestrator.store.connections import Guarded, Pools
from orchestrator.store.queries import SQL as READ_SQL
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "bulk.sql")

ACTS_LISTED_MAX = 50
LEASE_US = 30_000_000
LOOKED_AT_US = 24 * 3_600_000_000  # how long after its last change it is still looked what became of the sagas
DRAFT_US = 24 * 3_600_000_000


@dataclass(frozen=True, slots=True)
class CauseNote:
    """Who took or released a cause. `number` counts the notes of one cause; `before`: whose it was. Microseconds."""

    cause: str
    number: int
    act: str
    by: str
    before: str
    reason: str
    at: int

    @property
    def owner(self) -> str:
        """Whose it is after this."""
        return self.by if self.act == "taken" else ""


@dataclass(frozen=True, slots=True)
class BulkAct:
    """An act on a list. `state`: draft, proposed, running, paused, stopped, done."""

    id: str
    tenant: str
    act: str
    state: str
    cause: str
    title: str
    made_by: str
    confirmed_by: str
    reason: str
    needs_two: bool
    made_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class BulkItem:
    """One saga of a list. `state`: open, taking, acted, refused, excluded; `verdict`: "", waiting, progressed, failed.

    `detail`: why it was refused or excluded.
    """

    number: int
    saga_id: str
    business_key: str
    place: str
    version: int
    state: str = "open"
    verdict: str = ""
    detail: str = ""
    acted_at: int | None = None


@dataclass(frozen=True, slots=True)
class BulkNote:
    """Who did what with an act."""

    what: str
    by: str
    reason: str
    at: int


class Bulk:
    """The tables. `pools`: those of the process's store."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    # --- causes -------------------------------------------------------------------------------------------------------

    async def owners(self, tenant: str, causes: Sequence[str]) -> Mapping[str, CauseNote]:
        """The last note of each of these causes that has one."""
        return {row["cause"]: CauseNote(*row) for row in await self._fetch(tenant, "owners", list(causes))}

    async def cause_notes(self, tenant: str, cause: str) -> list[CauseNote]:
        """What was noted of a cause, the newest first."""
        return [CauseNote(*row) for row in await self._fetch(tenant, "cause_notes", cause)]

    async def note_cause(self, tenant: str, cause: str, seen: int, act: str, by: str, before: str, reason: str) -> bool:
        """Takes or releases a cause whose last note was number `seen`. False where somebody was quicker."""
        return bool(await self._fetch(tenant, "note_cause", cause, seen, act, by, before, reason))

    # --- acts on lists ------------------------------------------------------------------------------------------------

    async def draft(
        self, tenant: str, act: str, cause: str, title: str, by: str, items: Sequence[BulkItem], *, needs_two: bool
    ) -> str:
        """Freezes a list; gives its id."""
        bulk_id = secrets.token_hex(5)
        async with self._transaction(tenant) as connection:
            await connection.execute(SQL["draft"], tenant, bulk_id, act, cause, title, by, needs_two)
            columns = [[getattr(item, name) for item in items] for name in _ITEM]
            safe = [texts(column) if column and isinstance(column[0], str) else column for column in columns]
            await connection.execute(SQL["items"], tenant, bulk_id, *safe)
        return bulk_id

    async def forget_drafts(self) -> None:
        """Removes previews that nobody went on with."""
        async with self._pools.connection("read") as connection:
            await connection.execute(SQL["forget_drafts"], DRAFT_US)

    async def act(self, tenant: str, bulk_id: str) -> BulkAct | None:
        """One act."""
        rows = await self._fetch(tenant, "act", bulk_id)
        return BulkAct(*rows[0]) if rows else None

    async def acts(self, tenant: str) -> list[BulkAct]:
        """The newest acts, without drafts."""
        return [BulkAct(*row) for row in await self._fetch(tenant, "acts", ACTS_LISTED_MAX)]

    async def counts(self, tenant: str, bulk_ids: Sequence[str]) -> Mapping[str, Counter[str]]:
        """How many items of each act are in which state; acted ones are counted by their verdict."""
        found = {bulk_id: Counter[str]() for bulk_id in bulk_ids}
        for row in await self._fetch(tenant, "counts", list(bulk_ids)):
            found[row["bulk"]][row["verdict"] or row["state"]] += row["items"]
        return found

    async def notes(self, tenant: str, bulk_id: str) -> list[BulkNote]:
        """Who did what with an act, in order."""
        return [BulkNote(*row) for row in await self._fetch(tenant, "notes", bulk_id)]

    async def move(
        self,
        act: BulkAct,
        to: str,
        what: str,
        by: str,
        *,
        seen: Sequence[str],
        reason: str = "",
        keep_reason: bool = False,
        confirms: bool = False,
    ) -> bool:
        """From one of the states `seen` to another, with a note. False where it was not in one of them any more.

        confirms: by another person than who made it. keep_reason: the reason is that of the act.
        """
        async with self._transaction(act.tenant) as connection:
            kept, other = reason if keep_reason else "", by if confirms else ""
            arguments = (act.tenant, act.id, list(seen), to, other, other, kept)
            moved = bool(await connection.fetch(SQL["move"], *arguments))
            if moved:
                await connection.execute(SQL["note"], act.tenant, act.id, what, by, reason)
        return moved

    async def items(
        self, act: BulkAct, after: int, limit: int, state: str | None = None, verdict: str | None = None
    ) -> list[BulkItem]:
        """Items after a number, in order."""
        rows = await self._fetch(act.tenant, "page_of_items", act.id, after, limit, state, verdict)
        return [BulkItem(*row) for row in rows]

    async def sagas(self, act: BulkAct) -> list[str]:
        """The sagas of an act, also those that are left out."""
        return [row["saga_id"] for row in await self._fetch(act.tenant, "sagas_of", act.id)]

    # --- the worker ---------------------------------------------------------------------------------------------------

    async def lease(self) -> tuple[BulkAct, bool] | None:
        """The next act with work to do, and whether one of its people was barred since."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["lease"], LEASE_US, LOOKED_AT_US)
        return (BulkAct(*tuple(rows[0])[:-1]), bool(rows[0]["barred"])) if rows else None

    async def free(self, act: BulkAct) -> None:
        """Gives a lease back before its time."""
        await self._execute(act.tenant, "free", act.id)

    async def due_items(self, act: BulkAct, limit: int) -> list[BulkItem]:
        """Items to act on (where it runs) or to look at again, those never acted on first."""
        rows = await self._fetch(act.tenant, "due_items", act.id, limit, act.state == "running")
        return [BulkItem(*row) for row in rows]

    async def settle(
        self, act: BulkAct, item: BulkItem, state: str, verdict: str = "", detail: str = "", *, again_us: int = 0
    ) -> None:
        """Writes what became of an item. `again_us`: when to look at it again, from now."""
        await self._execute(act.tenant, "settle", act.id, item.number, state, verdict, storable(detail), again_us)

    async def is_over(self, act: BulkAct) -> bool:
        """Nothing is left to act on."""
        return bool((await self._fetch(act.tenant, "is_over", act.id))[0]["over"])

    # --- helpers ------------------------------------------------------------------------------------------------------

    async def _fetch(self, tenant: str, name: str, *args: object) -> list[Any]:
        async with self._transaction(tenant) as connection:
            return await connection.fetch(SQL[name], tenant, *args)

    async def _execute(self, tenant: str, name: str, *args: object) -> None:
        async with self._transaction(tenant) as connection:
            await connection.execute(SQL[name], tenant, *args)

    @asynccontextmanager
    async def _transaction(self, tenant: str) -> AsyncIterator[Guarded]:
        async with self._pools.connection("read") as connection:
            await connection.begin()
            try:
                await connection.fetch(READ_SQL["read_as"], tenant)
                yield connection
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit()


_ITEM = ("number", "version", "saga_id", "business_key", "place", "state", "detail")
