"""Reading the evidence of a store: its checkpoints, and proofs against them.

Rules of this file
- What is read is not believed: a checkpoint here is a row with a note; `notes.open_checkpoint` says who signed it, and
  `tree` whether a proof fits.
- Proofs are made against a checkpoint that is stored, whose size is known to be covered by tiles and records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.evidence import nodes
from orchestrator.evidence.nodes import SQL, MissingNodesError, Nodes
from orchestrator.evidence.notes import SignedCheckpoint
from orchestrator.evidence.tree import EMPTY_ROOT
from orchestrator.store.columns import EVENT_KEY_LOCKS
from orchestrator.store.connections import Pools

CHECKPOINTS_PER_PAGE = 500
SIGN_LOCK = EVENT_KEY_LOCKS + 2  # whoever has it signs checkpoints, or says what the next one must declare


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A row of the table of checkpoints. signed_at: microseconds since 1970."""

    number: int
    size: int
    root: bytes
    signed_at: int
    note: str


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The last record that has a global position; position 0 where there is none. recorded_at: microseconds."""

    position: int
    saga_id: str = ""
    version: int = 0
    recorded_at: int = 0

    @property
    def time(self) -> str:
        """When it was written, UTC."""
        return f"{datetime.fromtimestamp(self.recorded_at / 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class PlaceState:
    """How publishing to a place stands. Instants: microseconds since 1970, 0 for never."""

    place: str
    number: int
    size: int
    published_at: int
    trouble: str
    trouble_at: int


@dataclass(frozen=True, slots=True)
class Break:
    """A published tree that this log does not continue, by a named act."""

    accepted_at: int
    size: int
    root: bytes
    own_size: int
    own_root: bytes
    accepted_by: str
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """Processes may start until then although no place answers: by a named act of somebody who had seen `note`."""

    allowed_at: int
    until: int
    seen_number: int
    seen_size: int
    seen_at: int
    allowed_by: str
    reason: str
    note: str


class Evidence:
    """Questions about checkpoints and the tree. `role`: of which pool the connections are."""

    def __init__(self, pools: Pools, role: str = "read") -> None:
        self._pools = pools
        self._role = role

    async def latest(self) -> StoredCheckpoint | None:
        """The newest checkpoint, or None before the first."""
        return await self._one("latest_checkpoint")

    async def checkpoint(self, number: int) -> StoredCheckpoint | None:
        """The checkpoint with this number."""
        return await self._one("checkpoint_at", number)

    async def covering(self, position: int) -> StoredCheckpoint | None:
        """The first checkpoint whose tree holds this global position; None while there is none."""
        return await self._one("covering_checkpoint", position)

    async def checkpoints(self, after: int = 0) -> AsyncIterator[StoredCheckpoint]:
        """All checkpoints with greater numbers, in order, read in pages."""
        while True:
            async with self._pools.connection(self._role) as connection:
                rows = await connection.fetch(SQL["checkpoints_after"], after, CHECKPOINTS_PER_PAGE)
            for row in rows:
                yield stored_checkpoint(row)
            if len(rows) < CHECKPOINTS_PER_PAGE:
                return
            after = rows[-1]["number"]

    async def positions(self, saga_id: str) -> dict[int, int]:
        """Global positions of a saga's records by version, as far as they have one."""
        async with self._pools.connection(self._role) as connection:
            rows = await connection.fetch(SQL["positions_of"], saga_id)
        return {row["version"]: row["position"] for row in rows}

    async def inclusion(self, positions: Iterable[int], size: int) -> dict[int, list[bytes]]:
        """Proofs that the records at these positions are in the tree of `size`, nearest node first.

        Raises ValueError for a position outside the tree, MissingNodesError where records or tiles are gone.
        """
        async with self._pools.connection(self._role) as connection:
            return await nodes.inclusion(Nodes(connection), positions, size)

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the tree of `old` is the beginning of that of `new`. Raises as `inclusion`."""
        async with self._pools.connection(self._role) as connection:
            return await nodes.consistency(Nodes(connection), old, new)

    async def root(self, size: int) -> bytes:
        """The root of the tree of this size, from tiles and records. Raises MissingNodesError."""
        async with self._pools.connection(self._role) as connection:
            return await nodes.root(Nodes(connection), size)

    async def end(self) -> LogEnd:
        """The last record that has a position."""
        async with self._pools.connection(self._role) as connection:
            rows = await connection.fetch(SQL["last_record"])
            if not rows:  # no record at all, or one that is gone
                return LogEnd((await connection.fetchrow(SQL["sealed_end"]))["last"])
        row = rows[0]
        return LogEnd(row["position"], row["saga_id"], row["version"], row["recorded_at"])

    async def sealed(self) -> int:
        """The last position that the order table gives, whether or not there is a record."""
        async with self._pools.connection(self._role) as connection:
            return int((await connection.fetchrow(SQL["sealed_end"]))["last"])

    async def check_leaf(self, position: int) -> None:
        """Raises MissingNodesError where the record at a position is gone, or is not the one in the tree."""
        async with self._pools.connection(self._role) as connection:
            found = Nodes(connection)
            leaf = await found.leaves(position - 1, 1)
            if leaf != (await found.hashes([(0, position - 1)]))[0, position - 1]:
                raise MissingNodesError(f"the record at position {position} is not the one that was sealed")

    async def is_accepted(self, size: int, root: bytes) -> bool:
        """Did somebody accept that this log does not continue that published tree?"""
        return any((one.size, one.root) == (size, root) for one in await self.breaks())

    async def breaks(self) -> list[Break]:
        """All accepted breaks, oldest first."""
        async with self._pools.connection(self._role) as connection:
            return [Break(**dict(row)) for row in await connection.fetch(SQL["breaks"])]

    async def accept(self, published: SignedCheckpoint, *, by: str, reason: str) -> None:
        """Notes that this log goes on although a published checkpoint says otherwise: by whom, and why."""
        one = published.checkpoint
        async with self._pools.connection(self._role) as connection:
            await connection.begin()
            try:
                await connection.fetch(SQL["sign_wait"], SIGN_LOCK)
                await connection.execute(SQL["add_break"], one.size, one.root, by, reason, published.note, EMPTY_ROOT)
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit_repeatable()

    async def allow_start(self, seen: SignedCheckpoint, *, by: str, reason: str, micros: int) -> None:
        """Notes that processes may start for so long without any place: by whom, why, and what they had seen."""
        one = seen.checkpoint
        async with self._pools.connection(self._role) as connection:
            await connection.execute(
                SQL["add_allowance"], one.number, one.size, one.signed_at, by, reason, seen.note, micros
            )

    async def allowance(self) -> Allowance | None:
        """The last allowance that holds now, or None."""
        found = await self.allowances(after=await self.now())
        return found[-1] if found else None

    async def allowances(self, after: int = 0) -> list[Allowance]:
        """All that ended after an instant, or have not ended yet; oldest first."""
        async with self._pools.connection(self._role) as connection:
            return [Allowance(**dict(row)) for row in await connection.fetch(SQL["allowances"], after)]

    async def now(self) -> int:
        """The database's clock, microseconds since 1970."""
        async with self._pools.connection(self._role) as connection:
            return int((await connection.fetchrow(SQL["now"]))["now"])

    async def places(self) -> list[PlaceState]:
        """How publishing stands, by place."""
        async with self._pools.connection(self._role) as connection:
            return [PlaceState(**dict(row)) for row in await connection.fetch(SQL["places"])]

    async def _one(self, query: str, *args: object) -> StoredCheckpoint | None:
        async with self._pools.connection(self._role) as connection:
            rows = await connection.fetch(SQL[query], *args)
        return stored_checkpoint(rows[0]) if rows else None


def stored_checkpoint(row: Any) -> StoredCheckpoint:
    """The checkpoint in a row."""
    return StoredCheckpoint(row["number"], row["size"], row["root"], row["signed_at"], row["note"])
