"""How much is under way in the whole product, whichever process it is in: one small statement, asked now and then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "load.sql")


@dataclass(frozen=True, slots=True)
class Load:
    """unsent_rows: committed messages that are not on the broker. open_commands: asked and not answered. live_sagas:
    begun and not ended. intake_behind_ms: how far intake is behind the database's clock, milliseconds. Sizes are exact
    up to the limit they were asked for with. counting_ms: how long the database counted."""

    unsent_rows: int = 0
    open_commands: int = 0
    live_sagas: int = 0
    intake_behind_ms: int = 0
    counting_ms: int = 0


class LoadQueries:
    """Asks on a connection of the relay's pool: readers' may all be busy when it matters."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def load(
        self, group: str, topics: Sequence[str], *, unsent_max: int, commands_max: int, live_max: int
    ) -> Load:
        """The load now, counted up to these limits. Raises StoreError."""
        async with self._pools.connection("work") as connection:
            row = await connection.fetchrow(SQL["load"], unsent_max, commands_max, live_max, group, list(topics))
        return Load(*(int(value) for value in row))
