"""What pages keep for people: profiles and saved views. And the few questions that only the inbox asks.

Every question names its tenant. Methods raise StoreError where the database cannot answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import orjson

from orchestrator.pages.profile import Profile, profile_of
from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries

VIEWS_OF_ONE_MAX = 100
VIEWS_LISTED_MAX = 100
COUNTED_MAX = 100  # a tab says "99+" beyond


@dataclass(frozen=True, slots=True)
class SavedView:
    """A view of a list: path and query. A shared one opens for everybody of the tenant who may see the list."""

    id: str
    owner: str
    name: str
    path: str
    query: str
    shared: bool


class Keeping:
    """The tables of the pages. `pools`: those of the process's store."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._sql = load_queries("orchestrator.pages", "pages.sql")

    async def profile(self, tenant: str, person: str) -> Profile:
        """A person's settings, the usual ones where they have chosen none."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(self._sql["profile"], tenant, person)
        return profile_of(orjson.loads(rows[0]["data"])) if rows else Profile()

    async def save_profile(self, tenant: str, person: str, profile: Profile) -> None:
        """Keeps a person's settings."""
        async with self._pools.connection("read") as connection:
            await connection.execute(self._sql["save_profile"], tenant, person, orjson.dumps(asdict(profile)))

    async def views(self, tenant: str, person: str, path: str) -> Sequence[SavedView]:
        """The saved views of a list that this person may open, by name."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(self._sql["views"], tenant, person, path, VIEWS_LISTED_MAX)
        return [SavedView(*row) for row in rows]

    async def view(self, tenant: str, person: str, view_id: str) -> SavedView | None:
        """One saved view that this person may open."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(self._sql["view"], tenant, person, view_id)
        return SavedView(*rows[0]) if rows else None

    async def save_view(self, tenant: str, person: str, name: str, path: str, query: str, shared: bool) -> str:
        """Keeps a view; gives its id, "" where this person has VIEWS_OF_ONE_MAX already."""
        view_id = secrets.token_urlsafe(9)
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(
                self._sql["save_view"], tenant, person, view_id, name, path, query, VIEWS_OF_ONE_MAX, shared
            )
        return view_id if rows else ""

    async def drop_view(self, tenant: str, person: str, view_id: str) -> bool:
        """Forgets a view of one's own. False where there is none."""
        async with self._pools.connection("read") as connection:
            return bool(await connection.execute(self._sql["drop_view"], tenant, person, view_id))

    async def count_for(self, tenant: str, person: str, candidates: Sequence[str]) -> int:
        """How many open tasks any of these candidates may decide, COUNTED_MAX at most."""
        async with self._pools.connection("read") as connection:
            row = await connection.fetchrow(self._sql["count_for"], tenant, person, list(candidates), COUNTED_MAX)
        return int(row["tasks"])

    async def waiting_for_others(
        self, tenant: str, person: str, after: tuple[int, str, str], limit: int
    ) -> Sequence[tuple[str, str, int]]:
        """(saga id, activity, due) of open tasks that others have to decide, because this person asked or has voted."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(self._sql["waiting_for_others"], tenant, person, *after, limit)
        return [(row["saga_id"], row["activity"], row["due"]) for row in rows]
