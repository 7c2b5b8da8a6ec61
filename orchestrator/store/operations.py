"""What operators ask the store beyond single sagas and lists: numbers, and many streams at once. Nothing here writes.

Rules of this file
- Every question names its tenant, as those of `queries.py` do, and is answered on a reading connection.
- Whatever is counted is counted up to a limit, so that asking stays cheap when it matters most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.store.columns import message_key
from orchestrator.store.connections import Pools
from orchestrator.store.contract import StoredRecord
from orchestrator.store.headers import Headers, unpack
from orchestrator.store.queries import as_tenant
from orchestrator.store.reading import stored_record
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "operations.sql")

COUNTED_MAX = 10_000
STREAMS_MAX = 500


@dataclass(frozen=True, slots=True)
class Facet:
    """How many of the newest sagas are alike in this."""

    name: str
    version: int
    phase: str
    ended: bool
    is_stuck: bool
    sagas: int


@dataclass(frozen=True, slots=True)
class LivePlace:
    """How many live sagas of one version wait for the same."""

    version: int
    waiting_for: str
    sagas: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much work there is for operators. A number of COUNTED_MAX means: at least so many."""

    stuck: int
    letters: int
    early: int


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message as the outbox holds it. `unsent`: not yet known to be on the broker."""

    topic: str
    key: str
    headers: Headers
    value: bytes
    unsent: bool


@dataclass(frozen=True, slots=True)
class TakenIn:
    """That a message was taken in: when (microseconds), and the SHA-256 of its bytes."""

    received_at: int
    body_hash: bytes


class OperationQueries:
    """Questions of operators' pages. `pools`: those of the process's store."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def streams(self, tenant: str, saga_ids: Sequence[str]) -> dict[str, list[StoredRecord]]:
        """The streams of these sagas, STREAMS_MAX of them at most. Raises ChainError for one that was altered."""
        found: dict[str, list[StoredRecord]] = {}
        for row in await self._fetch(tenant, "streams", list(saga_ids)[:STREAMS_MAX]):
            found.setdefault(row["saga_id"], []).append(stored_record(row))
        return found

    async def facets(self, tenant: str) -> list[Facet]:
        """How the newest COUNTED_MAX sagas divide."""
        return [Facet(*row) for row in await self._fetch(tenant, "facets", COUNTED_MAX)]

    async def live_by_place(self, tenant: str, name: str) -> list[LivePlace]:
        """Where the live sagas of a definition stand; of COUNTED_MAX of them."""
        return [LivePlace(*row) for row in await self._fetch(tenant, "live_by_place", name, COUNTED_MAX)]

    async def waiting(self, tenant: str) -> Waiting:
        """How much work there is."""
        counts = [await self._fetch(tenant, f"count_{what}", COUNTED_MAX) for what in ("stuck", "letters", "early")]
        return Waiting(*(int(rows[0][0]) for rows in counts))

    async def sent_message(self, tenant: str, saga_id: str, version: int) -> SentMessage | None:
        """The message that followed from a record, while the outbox keeps it."""
        rows = await self._fetch(tenant, "sent_message", saga_id, version)
        if not rows:
            return None
        topic, key, headers, value, unsent = rows[0]
        return SentMessage(topic, key, unpack(headers), value, unsent)

    async def taken_in(self, tenant: str, source: str, id_: str) -> TakenIn | None:
        """When a message was taken in, while the inbox remembers it."""
        rows = await self._fetch(tenant, "taken_in", message_key(tenant, source, id_))
        return TakenIn(*rows[0]) if rows else None

    async def _fetch(self, tenant: str, name: str, *args: object) -> list[Any]:
        async with self._pools.connection("read") as connection, as_tenant(connection, tenant):
            return await connection.fetch(SQL[name], tenant, *args)
