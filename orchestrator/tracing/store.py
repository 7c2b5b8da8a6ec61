"""What the loop that sends spans reads from the store, and marks there. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from orchestrator.store.columns import SEQ_BITS
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sql import load_queries
from orchestrator.tracing.fold import Fields, Wire

SQL = load_queries("orchestrator.tracing", "traces.sql")

Row = tuple[str, Fields]
Due = Sequence[tuple[int, Sequence[int]]]
"""Batches with the places of their sampled records: pairs of first and last."""


@dataclass(frozen=True, slots=True)
class Told:
    """As what spans of records are sent: the same from every process of one product, or they would be other spans."""

    resource: Mapping[str, str]
    wire: Wire = field(default_factory=Wire)


class TraceStore:
    """Batches whose sampled records are to become spans."""

    def __init__(self, store: PostgresStore) -> None:
        self._pools = store.pools

    async def hold(self, who: str, hold_ms: int, told: Told) -> bool:
        """True where this process may send for `hold_ms` from now on; `told`: as what."""
        return bool(await self._fetch("hold", who, hold_ms * 1000, orjson.dumps(told).decode()))

    async def told_as(self) -> Told | None:
        """As what spans of records were sent last; None before the first."""
        rows = await self._fetch("told_as")
        if not rows or not rows[0][0]:
            return None
        found = orjson.loads(rows[0][0])
        return Told(found["resource"], Wire(**found["wire"]))

    async def let_go(self, who: str) -> None:
        """Another process may go on at once."""
        await self._fetch("let_go", who)

    async def due(self, batches_max: int) -> Due:
        """The oldest batches that were not sent."""
        return [(row[0], row[1]) for row in await self._fetch("due", batches_max)]

    async def records(self, due: Due) -> list[Row]:
        """The records of these batches, in order."""
        firsts, lasts = [], []
        for batch, places in due:
            base = batch << SEQ_BITS
            firsts += [base + place for place in places[::2]]
            lasts += [base + place for place in places[1::2]]
        return _parsed(await self._fetch("records_at", firsts, lasts))

    async def before(self, versions: Mapping[str, int]) -> dict[str, list[Fields]]:
        """The records of each saga below a version, in order."""
        found: dict[str, list[Fields]] = {saga_id: [] for saga_id in versions}
        for saga_id, fields in _parsed(await self._fetch("streams_before", list(versions), list(versions.values()))):
            found[saga_id].append(fields)
        return found

    async def stream(self, tenant: str, saga_id: str) -> list[Fields]:
        """All records of one saga, in order; none where there is no such saga."""
        return [fields for _, fields in _parsed(await self._fetch("stream", tenant, saga_id))]

    async def sagas_between(self, tenant: str, since: int, until: int, limit: int, after: str) -> list[str]:
        """Sagas that lived between two instants (microseconds), in order of their ids."""
        return [row[0] for row in await self._fetch("sagas_between", tenant, since, until, limit, after)]

    async def sent(self, due: Due) -> None:
        """These batches need not be sent any more."""
        await self._fetch("sent", [batch for batch, _ in due])

    async def give_up(self, keep_batches: int) -> int:
        """Forgets all but the newest batches; how many."""
        return len(await self._fetch("give_up", keep_batches))

    async def _fetch(self, name: str, *arguments: Any) -> Sequence[Any]:
        async with self._pools.connection("work") as connection:
            return await connection.fetch(SQL[name], *arguments)


def _parsed(rows: Iterable[Any]) -> list[Row]:
    return [(row[0], _fields(row[1], row[2])) for row in rows]


def _fields(version: int, body: bytes) -> Fields:
    """What a record says; nothing of one that is damaged, which costs its own span and holds up nobody else's."""
    try:
        return Fields.of(orjson.loads(body))
    except (ValueError, LookupError, TypeError):
        return Fields(version, "", "", {}, "", "", "", 0)
