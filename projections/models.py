"""The read models of a running product, for pages, HTTP and the command line: `engine.models`.

Rules of this file
- One object per process; only reading connections are used. Every question names its tenant.
- `wait_for` gives read-your-writes: an act's answer names its saga and record, and a page that follows waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.messages.customers import CustomerView
from orchestrator.store.postgres import PostgresStore
from projections.answers import Complete, ProjectionState
from projections.approval_queries import ApprovalQueries
from projections.audit_queries import AuditQueries
from projections.customer_queries import CustomerQueries
from projections.feed import SQL as FEED
from projections.level_queries import LevelQueries
from projections.reading import Reader, instant
from projections.registry import projections
from projections.runner import SQL as SLOTS
from projections.timeline_queries import TimelineQueries

WAIT_SECONDS_FIRST, WAIT_SECONDS_NEXT_MAX = 0.01, 0.1
BEHIND_SECONDS = 10.0


class Models:
    """All read models. `views`: what customers may see, by saga."""

    def __init__(self, store: PostgresStore, views: Mapping[str, CustomerView] | None = None) -> None:
        self._store = store
        reader = Reader(store)
        self.approvals = ApprovalQueries(reader)
        self.audit = AuditQueries(reader)
        self.timelines = TimelineQueries(reader)
        self.customers = CustomerQueries(reader, views or {})
        self.levels = LevelQueries(reader)

    async def states(self) -> Sequence[ProjectionState]:
        """How every projection is; one that is being rebuilt has two rows."""
        async with self._store.pools.connection("read") as connection:
            rows = await connection.fetch(SLOTS["all"])
            head = (await connection.fetch(FEED["head"]))[0]
        versions = {made.name: made.version for made in projections()}
        found = [_state(row, versions[row["projection"]], head) for row in rows if row["projection"] in versions]
        known = {state.name for state in found}
        absent = Complete(0, head["head"], None)
        found += [
            ProjectionState(name, "behind", "a", 0, version, absent, 0, "", "it has not run yet", 0, None)
            for name, version in versions.items()
            if name not in known
        ]
        return sorted(found, key=lambda state: (state.name, state.state == "rebuilding", state.slot))

    async def wait_for(
        self, token: str, *, projections: Sequence[str] = (), seconds_max: float = 2.0, tenant: str = "main"
    ) -> bool:
        """Waits until the projections (none named: all) hold what a token stands for; False when the time is over.

        A token is `<saga id>@<record version>`, of any act's answer, or a global position. Raises ValueError for one
        that is neither. A record of another tenant is never waited for.
        """
        loop = asyncio.get_running_loop()
        over, pause = loop.time() + seconds_max, WAIT_SECONDS_FIRST
        wanted = int(token) if token.isascii() and token.isdigit() else None
        while True:
            if wanted is None:
                wanted = await self._position(token, tenant) or None
            if wanted is not None and await self._reached(projections) >= wanted:
                return True
            if loop.time() >= over:
                return False
            await asyncio.sleep(min(pause, max(0.0, over - loop.time())))
            pause = min(pause * 1.5, WAIT_SECONDS_NEXT_MAX)

    async def _reached(self, names: Sequence[str]) -> int:
        """The position that all of them have reached."""
        async with self._store.pools.connection("read") as connection:
            rows = await connection.fetch(SLOTS["all"])
        live = {row["projection"]: row["position"] for row in rows if row["live"]}
        return min((live.get(name, 0) for name in names or [made.name for made in projections()]), default=0)

    async def _position(self, token: str, tenant: str) -> int:
        """The global position of a token's record; 0 where it has none yet."""
        saga_id, sign, version = token.rpartition("@")
        if not sign or not (version.isascii() and version.isdigit()) or len(version) > 9 or "\0" in saga_id:
            raise ValueError(f"token {token[:80]!r}: write <saga id>@<record>, or a position")
        await self._store.seal()
        async with self._store.pools.connection("read") as connection:
            await connection.begin("READ ONLY")
            try:
                await connection.fetch(SLOTS["read_as"], tenant)
                rows = await connection.fetch(FEED["position_of"], saga_id, int(version))
            finally:
                await connection.roll_back()
        return rows[0]["position"] if rows else 0


def token_of(saga_id: str, record: int) -> str:
    """The token of an act: what its answer names is what a following page waits for."""
    return f"{saga_id}@{record}"


def _state(row: Any, code_version: int, head: Any) -> ProjectionState:
    until = row["read_until"]
    age = max(0, head["now"] - until) / 1_000_000 if head["head"] > row["position"] and until else 0.0
    if not row["live"]:
        state = "rebuilding"
    elif row["stopped"]:
        state = "stopped"
    elif row["version"] != code_version:
        state = "outdated"
    else:
        state = "behind" if age > BEHIND_SECONDS or (head["head"] and not row["position"]) else "running"
    return ProjectionState(
        name=row["projection"],
        state=state,
        slot=row["slot"],
        version=row["version"],
        code_version=code_version,
        complete=Complete(row["position"], max(head["head"], row["position"]), instant(until) if until else None, age),
        records=row["records"],
        checksum=row["checksum"].hex(),
        reason=row["stopped"],
        stopped_position=row["stopped_position"],
        updated_at=instant(row["updated_at"]) if row["updated_at"] else None,
    )
