"""Sagas by ids that come from elsewhere: their trace, and the message that began them.

Rules of this file
- Filled behind the records, in their global order, some batches at a time: the hot path writes nothing of it. Only
  first records are read, so it costs a saga some ten microseconds, wherever there is time.
- Whoever searches lets it catch up first, up to a limit; so what began a moment ago is found.
- Ids are kept as digests: a trace id of one tenant finds nothing of another one.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import orjson

from orchestrator.store.columns import texts
from orchestrator.store.connections import Guarded, Pools
from orchestrator.store.queries import as_tenant
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "finding.sql")

BATCHES_MAX = 50  # of the coordinator, in one pass: some hundred thousand records at most, well below time limits
ADDED_SAGAS = 500  # in one statement; between two of them others have their turn
FOUND_MAX = 100
PASSES_MAX = 40  # before a search: what is further behind is said to be

TraceOf = Callable[[str, str], str]  # (traceparent, saga id) to trace id


class Finding:
    """Fills and asks. `trace_of`: the product's own rule for which trace a saga belongs to."""

    def __init__(self, pools: Pools, trace_of: TraceOf) -> None:
        self._pools, self._trace_of = pools, trace_of

    async def fill(self) -> bool:
        """One pass; whether there may be more. Raises StoreError."""
        async with self._pools.connection("work") as connection:
            await connection.begin()
            try:
                taken = await connection.fetch(SQL["take"])
                more = bool(taken)
                if taken:
                    rows = await connection.fetch(SQL["begun"], taken[0]["position"], BATCHES_MAX)
                    until = rows[0]["until"]
                    more = until is not None
                    if more:
                        begun = [(row[0], row[1], row[2]) for row in rows[1:]]
                        for first in range(0, len(begun), ADDED_SAGAS):
                            await self._add(connection, begun[first : first + ADDED_SAGAS])
                        await connection.execute(SQL["move"], until)
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit_repeatable()
        return more

    async def catch_up(self) -> bool:
        """Up to PASSES_MAX passes; whether everything that is sealed is in."""
        for _ in range(PASSES_MAX):
            if not await self.fill():
                return True
        return False

    async def by_trace(self, tenant: str, trace_id: str) -> list[str]:
        """Ids of the sagas of a trace (32 hex digits), at most FOUND_MAX."""
        return await self._by("trace", tenant, trace_id.lower())

    async def by_message(self, tenant: str, message_id: str) -> list[str]:
        """Ids of the sagas that a message with this id has begun, at most FOUND_MAX."""
        return await self._by("message", tenant, message_id)

    async def _by(self, kind: str, tenant: str, text: str) -> list[str]:
        async with self._pools.connection("read") as connection, as_tenant(connection, tenant):
            rows = await connection.fetch(SQL["by_key"], tenant, _key(kind, tenant, text), FOUND_MAX)
        return [row["saga_id"] for row in rows]

    async def _add(self, connection: Guarded, rows: list[tuple[str, str, bytes]]) -> None:
        keys: list[bytes] = []
        tenants: list[str] = []
        sagas: list[str] = []
        for saga_id, tenant, body in rows:
            first = orjson.loads(body)
            found = [_key("trace", tenant, self._trace_of(str(first["traceparent"]), saga_id).lower())]
            cause = str(first["causation"])
            if cause and not cause.startswith("/api/"):  # a request's id is its sender's, and found in the records
                found.append(_key("message", tenant, cause))
            keys += found
            tenants += [tenant] * len(found)
            sagas += [saga_id] * len(found)
        if keys:
            await connection.execute(SQL["add"], keys, texts(tenants), texts(sagas))


def _key(kind: str, tenant: str, text: str) -> bytes:
    joined = f"{kind} {len(tenant)} {tenant}{text}"
    return blake2b(joined.encode("utf-8", "surrogatepass"), digest_size=16).digest()
