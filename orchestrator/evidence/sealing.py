"""Sealing: new records become leaves of the tree, full tiles are stored, and a checkpoint is signed over all of it.

Rules of this file
- One process seals at a time, under a transaction's advisory lock that is only tried for; any number may try.
- A round is one transaction: tiles and checkpoint are there together or not at all. Bodies do not travel: the database
  computes leaf hashes.
- What one has seen signed is remembered. A database that later knows less, or something else, was rewound or rewritten
  beneath the running product: that is an error which ends the process, and the next start says what is missing.
"""

from __future__ import annotations

import structlog

from orchestrator.evidence import nodes, tree
from orchestrator.evidence.errors import LogBehindError, LogContradictsError
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.nodes import SQL, Growing, MissingNodesError, Nodes, Tile
from orchestrator.evidence.notes import Checkpoint, NoteError, Signer, open_checkpoint
from orchestrator.evidence.reading import SIGN_LOCK, StoredCheckpoint, stored_checkpoint
from orchestrator.store.connections import Guarded
from orchestrator.store.contract import StoreError
from orchestrator.store.postgres import PostgresStore

SECOND = 1_000_000

log = structlog.get_logger("orchestrator.evidence")


class Sealer:
    """Signs checkpoints of one store. `records_max`: leaves that one checkpoint adds at most."""

    def __init__(self, store: PostgresStore, ring: KeyRing, *, records_max: int) -> None:
        if ring.signer is None:
            raise ValueError("a key ring without a signing key cannot seal")
        self.latest: StoredCheckpoint | None = None  # the last one that this process has signed or seen
        self.signed = 0  # checkpoints that this process has signed
        self._store = store
        self._ring = ring
        self._signer: Signer = ring.signer
        self._records_max = records_max
        self._growing: Growing | None = None

    async def seal(self) -> StoredCheckpoint | None:
        """Signs what is new; None where nothing is, or another process is at it.

        Raises StoreError (try again), LogBehindError and LogContradictsError (never again by itself).
        """
        await self._store.seal()
        async with self._store.pools.connection("work") as connection:
            await connection.begin()
            try:
                row = await connection.fetchrow(SQL["sign_lock"], SIGN_LOCK)
                signed = await self._grow(connection, row["now"]) if row["got"] else None
            except BaseException:
                await connection.roll_back()
                raise
            try:
                await connection.commit_repeatable()
            except StoreError:
                self._growing = None  # nobody knows whether it is stored: look again
                raise
        if signed is None:
            return None
        made, self._growing = signed
        self.latest, self.signed = made, self.signed + 1
        return made

    async def _grow(self, connection: Guarded, now: int) -> tuple[StoredCheckpoint, Growing] | None:
        growing = await self._current(connection)
        latest = self.latest
        breaks = await connection.fetch(SQL["new_breaks"], latest.number if latest else 0)
        row = await connection.fetchrow(SQL["leaves"], growing.size, self._records_max)
        if row["last"] - growing.size != row["found"]:
            raise LogContradictsError(
                f"behind position {growing.size} there are {row['found']} records up to position {row['last']}: some "
                "are gone. Nothing is signed. Do: orchestrator audit verify"
            )
        if not row["found"] and not (breaks and growing.size):
            return None
        after = growing.copy()
        tiles = after.add(row["leaves"])
        known = max([0, *(Checkpoint.of(one["note"].rpartition("\n\n")[0] + "\n").number for one in breaks)])
        number = max(latest.number if latest else 0, known) + 1
        broken = tuple((one["size"], one["root"]) for one in breaks)
        checkpoint = Checkpoint(
            self._signer.name,
            after.size,
            after.root(),
            number,
            max(now // SECOND * SECOND, latest.signed_at if latest else 0),
            broken,
        )
        note = self._signer.sign(checkpoint.text)
        try:
            await _store_tiles(connection, tiles)
            await connection.execute(
                SQL["add_checkpoint"], number, checkpoint.size, checkpoint.signed_at, checkpoint.root, note
            )
        except StoreError as error:
            if error.retriable:
                raise
            raise LogContradictsError(
                f"behind checkpoint {number - 1} there are tiles or checkpoints already ({error}): checkpoints were "
                "removed. Nothing is signed. Do: orchestrator audit verify"
            ) from error
        return StoredCheckpoint(number, checkpoint.size, checkpoint.root, checkpoint.signed_at, note), after

    async def _current(self, connection: Guarded) -> Growing:
        """The edge of the tree at the last stored checkpoint, which must go on from what was seen before."""
        rows = await connection.fetch(SQL["latest_checkpoint"])
        stored = stored_checkpoint(rows[0]) if rows else None
        seen = self.latest
        if seen is not None and (stored is None or stored.number < seen.number):
            raise LogBehindError(
                f"checkpoint {seen.number} over {seen.size} records was in this database a moment ago; now its last "
                f"one is {stored.number if stored else 0}. It was rewound: a standby that lagged took over, or a "
                "backup was put in its place"
            )
        if stored is None:
            return Growing()
        if self._growing is not None and seen == stored:
            return self._growing
        growing = await self._checked(connection, stored)
        if seen is not None:
            await _check_continues(connection, seen, stored)
        self.latest, self._growing = stored, growing
        return growing

    async def _checked(self, connection: Guarded, stored: StoredCheckpoint) -> Growing:
        """The tree that this checkpoint signed, from tiles and records. Raises LogContradictsError."""
        where = f"checkpoint {stored.number}"
        try:
            opened = open_checkpoint(stored.note, self._ring.verifiers).checkpoint
        except NoteError as error:
            raise LogContradictsError(f"{where} in this database: {error}") from error
        if (opened.number, opened.size, opened.root) != (stored.number, stored.size, stored.root):
            raise LogContradictsError(f"{where}: its row was changed, its note says {opened.size} records")
        try:
            growing = await Nodes(connection).growing(stored.size)
        except MissingNodesError as error:
            raise LogContradictsError(f"{where} covers {stored.size} records, but {error}") from error
        if growing.root() != stored.root:
            raise LogContradictsError(
                f"{where} signed the root {stored.root.hex()} over {stored.size} records; what is stored has "
                f"{growing.root().hex()}. Nothing is signed on top of that. Do: orchestrator audit verify"
            )
        return growing


async def _check_continues(connection: Guarded, seen: StoredCheckpoint, stored: StoredCheckpoint) -> None:
    try:
        path = await nodes.consistency(Nodes(connection), seen.size, stored.size)
        continues = tree.consistent(seen.size, stored.size, seen.root, stored.root, path)
    except ValueError:
        continues = False
    if not continues and (seen.size, seen.root) not in Checkpoint.of(stored.note.rpartition("\n\n")[0] + "\n").broken:
        raise LogContradictsError(
            f"checkpoint {stored.number} over {stored.size} records does not continue checkpoint {seen.number} over "
            f"{seen.size}, which was in this database before"
        )


async def _store_tiles(connection: Guarded, tiles: list[Tile]) -> None:
    if tiles:
        await connection.execute(
            SQL["add_tiles"],
            [tile.level for tile in tiles],
            [tile.number for tile in tiles],
            [tile.root for tile in tiles],
            [tile.hashes for tile in tiles],
        )
