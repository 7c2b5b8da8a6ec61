"""What people keep beside the streams: drafts of decisions, and substitutions while somebody is away.

Rules of this file
- Drafts are their person's alone and no evidence. Substitutions are never changed: taking one back is a row of its own.
- Methods raise StoreError. Instants are microseconds since the epoch (UTC), by the database's clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.messages.canonical import canonical_bytes
from orchestrator.store.connections import Guarded, Pools
from orchestrator.store.sql import load_queries

SUBSTITUTIONS_MAX = 500  # that a list shows


@dataclass(frozen=True, slots=True)
class StoredDraft:
    """A form that was filled in and not sent."""

    subject_hash: str
    form: Mapping[str, Any]
    saved_at: int


@dataclass(frozen=True, slots=True)
class StoredSubstitution:
    """Who stands in for whom."""

    id: int
    person: str
    substitute: str
    since: int
    until: int
    reason: str
    made_at: int
    made_by: str
    ended_at: int | None = None
    ended_by: str | None = None


@dataclass(frozen=True, slots=True)
class StoredStandIn:
    """For whom somebody stands in now, and with which roles: those that were lent and are held still."""

    id: int
    person: str
    roles: tuple[str, ...]
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class StoredLender:
    """Somebody who lent a right. `roles`: None where that is not known. `out`: they may not decide any more."""

    person: str
    roles: tuple[str, ...] | None
    out: bool


class Desk:
    """Drafts and substitutions."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._sql = load_queries("orchestrator.store", "desk.sql")

    async def save_draft(
        self, tenant: str, task: tuple[str, str], person: str, subject_hash: str, form: Mapping[str, Any]
    ) -> bool:
        """Keeps it in place of the one before. False where the task is not open (any more)."""
        return bool(await self._fetch(tenant, "save_draft", *task, person, subject_hash, canonical_bytes(dict(form))))

    async def draft(self, tenant: str, task: tuple[str, str], person: str) -> StoredDraft | None:
        """What this person saved for this task."""
        rows = await self._fetch(tenant, "draft", *task, person)
        return StoredDraft(rows[0][0], orjson.loads(rows[0][1]), rows[0][2]) if rows else None

    async def drop_draft(self, tenant: str, task: tuple[str, str], person: str) -> None:
        """It was sent, or is not wanted any more. One statement: every vote waits for it."""
        async with self._pools.connection("read") as connection:
            await connection.execute(self._sql["drop_draft"], tenant, *task, person)

    async def substitute(
        self,
        tenant: str,
        person: str,
        substitute: str,
        roles: Sequence[str],
        *,
        since: int,
        until: int,
        reason: str,
        made_by: str,
    ) -> StoredSubstitution | None:
        """Arranges it. None where the person has another one in that time."""
        facts = person, substitute, list(roles), since, until, reason, made_by
        async with self._session(tenant) as connection:
            await connection.fetch(self._sql["lock_person"], tenant, person)
            rows = await connection.fetch(self._sql["substitute"], tenant, *facts)
        return StoredSubstitution(**rows[0]) if rows else None

    async def end_substitution(self, tenant: str, id: int, by: str) -> bool:
        """Takes it back. False where it is over already, or not there."""
        return bool(await self._fetch(tenant, "end_substitution", id, by))

    async def substitutions(self, tenant: str, person: str | None) -> list[StoredSubstitution]:
        """All in which this person takes part, or everybody's; newest first."""
        rows = await self._fetch(tenant, "substitutions", person, SUBSTITUTIONS_MAX)
        return [StoredSubstitution(**row) for row in rows]

    async def stands_in(self, tenant: str, substitute: str, now: int) -> list[StoredStandIn]:
        """For whom this person stands in now."""
        rows = await self._fetch(tenant, "stands_in", substitute, now)
        return [StoredStandIn(**{**row, "roles": tuple(row["roles"])}) for row in rows]

    async def lenders(self, tenant: str, people: Sequence[str]) -> list[StoredLender]:
        """What is known of these people, who lent somebody a right."""
        rows = await self._fetch(tenant, "lenders", list(dict.fromkeys(people))) if people else []
        return [
            StoredLender(row["person"], tuple(row["roles"]) if row["roles"] is not None else None, row["out"])
            for row in rows
        ]

    async def _fetch(self, tenant: str, name: str, *arguments: Any) -> list[Any]:
        async with self._session(tenant) as connection:
            return list(await connection.fetch(self._sql[name], tenant, *arguments))

    @asynccontextmanager
    async def _session(self, tenant: str) -> AsyncIterator[Guarded]:
        """A transaction of one tenant."""
        async with self._pools.connection("read") as connection:
            await connection.begin()
            try:
                await connection.fetch(self._sql["write_as"], tenant)
                yield connection
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit()
