"""The contracts of stored definitions as JSON Schemas: kept once, for whoever reads old messages without their code.

Rules of this file
- What was stored first stays. A definition's hash covers the names and versions of its contracts, so a later release
  cannot mean another contract by them, only describe it better.
- Plain bytes in and out; what a schema says is `orchestrator.messages.schemas`' matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "schemas.sql")


@dataclass(frozen=True, slots=True)
class StoredSchema:
    """One contract of a definition. `schema`: canonical JSON."""

    contract: str
    version: int
    schema: bytes


class ContractSchemas:
    """Keeps and gives schemas, by the definition that uses them."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def are_there(self, name: str, version: int) -> bool:
        """Were this definition's schemas kept before?"""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["schemas_there"], name, version)
        return bool(rows[0]["there"])

    async def keep(self, name: str, version: int, schemas: Sequence[StoredSchema]) -> None:
        """Keeps those that are new; the others stay as they are."""
        columns = [[each.contract for each in schemas], [each.version for each in schemas]]
        async with self._pools.connection("work") as connection:
            await connection.execute(SQL["keep_schemas"], name, version, *columns, [each.schema for each in schemas])

    async def of(self, name: str, version: int) -> list[StoredSchema]:
        """The schemas of a definition, by wire name; none for one that was stored before schemas were kept."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["schemas"], name, version)
        return [StoredSchema(row["contract"], row["contract_version"], bytes(row["schema"])) for row in rows]
