"""Publishing: every checkpoint goes, in order, to every place; each place at its own speed.

Rules of this file
- Before a checkpoint is published it is proved that it continues the last one that this place has: what the place holds
  is read back first, and never taken from our own tables.
- A place that is away keeps nobody waiting and is caught up later. A place that holds a checkpoint which this database
  cannot continue ends the process: somebody rewound or rewrote one of the two.
- What a place holds is read again now and then: two databases that both believe to be the one (a standby and its old
  primary) would else publish two stories to it side by side.
- One process publishes to a place at a time, by a lease. Should two do it all the same, a checkpoint lies there twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.evidence import tree
from orchestrator.evidence.errors import EvidenceError, LogBehindError, LogContradictsError, PlaceAwayError
from orchestrator.evidence.nodes import SQL, MissingNodesError
from orchestrator.evidence.notes import Checkpoint, NoteError, SignedCheckpoint, Verifier, open_checkpoint
from orchestrator.evidence.places import Place
from orchestrator.evidence.reading import Evidence, StoredCheckpoint
from orchestrator.store.connections import Pools

CHECKPOINTS_AT_ONCE = 100
READ_AGAIN_SECONDS = 300.0

log = structlog.get_logger("orchestrator.evidence")


class Publisher:
    """Brings the checkpoints of one store to one place. `holder`: a name of this process; `attempt_ms`: one attempt."""

    def __init__(
        self, pools: Pools, place: Place, keys: Sequence[Verifier], *, holder: str, attempt_ms: int, lease_ms: int
    ) -> None:
        self.place = place
        self.trouble = ""  # why the place cannot be reached, as long as it cannot
        self.published = 0  # the number of the last checkpoint there, as far as this process knows
        self._pools = pools
        self._evidence = Evidence(pools, "work")
        self._keys = keys
        self._holder = holder
        self._attempt_seconds = attempt_ms / 1000
        self._lease_us = (lease_ms + attempt_ms) * 1000
        self._last: SignedCheckpoint | None = None
        self._is_known = False  # what the place holds was read since we have the lease
        self._read_at = 0.0

    async def publish(self) -> int:
        """Brings the place up to date, a bounded number at a time; how many went.

        Raises PlaceAwayError and StoreError (later again), EvidenceError (never again by itself).
        """
        reached = await self._lease()
        if reached is None:
            self._is_known, self.trouble = False, ""
            return 0
        try:
            return await self._publish(reached)
        except PlaceAwayError as error:
            self._is_known, self.trouble = False, str(error)
            await self._note("place_in_trouble", str(error)[:2_000])
            raise
        except EvidenceError as error:
            await self._note("place_in_trouble", str(error)[:2_000])
            raise

    async def close(self) -> None:
        """Lets another process publish at once."""
        await self._note("release_place", self._holder)

    async def _publish(self, reached: int) -> int:
        now = asyncio.get_running_loop().time()
        if not self._is_known or now - self._read_at > READ_AGAIN_SECONDS:
            async with self._in_time():
                self._last = await self.place.last(self._keys)
            self._read_at = now
            if lost := lost_by(self.place.name, self._last, reached):
                log.error("a place has lost checkpoints, and gets them again", place=self.place.name, reason=lost)
            if self._last is not None:
                await check_continued(self._evidence, self._last, self.place.name)
            self._is_known = True
        went = 0
        wanted = await self._wanted()
        if wanted:
            async with self._in_time():
                await self.place.publish([one.note for one in wanted])
            self._last, went = wanted[-1], len(wanted)
        if self._last is not None:
            last = self._last.checkpoint
            if went or self.trouble or self.published != last.number:
                await self._note("place_published", last.number, last.size)
            self.published = last.number
        self.trouble = ""
        return went

    async def _wanted(self) -> list[SignedCheckpoint]:
        """The next checkpoints, each proved to continue the one before."""
        before = self._last
        found: list[SignedCheckpoint] = []
        async for stored in self._evidence.checkpoints(before.checkpoint.number if before else 0):
            opened = _opened(stored, self._keys)
            if before is not None:
                await _check_step(self._evidence, before.checkpoint, opened.checkpoint, self.place.name)
            found.append(opened)
            before = opened
            if len(found) == CHECKPOINTS_AT_ONCE:
                break
        return found

    async def _lease(self) -> int | None:
        """The number of the last checkpoint that was published there; None where another process has the place."""
        async with self._pools.connection("work") as connection:
            rows = await connection.fetch(SQL["lease_place"], self.place.name, self._holder, self._lease_us)
        return int(rows[0]["number"]) if rows else None

    async def _note(self, query: str, *facts: object) -> None:
        async with self._pools.connection("work") as connection:
            await connection.execute(SQL[query], self.place.name, *facts)

    def _in_time(self) -> _Patience:
        return _Patience(self.place.name, self._attempt_seconds)


class _Patience:
    """A time limit whose end is a place that is away."""

    def __init__(self, name: str, seconds: float) -> None:
        self._name, self._seconds = name, seconds
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._timeout.__aexit__(*error)  # type: ignore[arg-type]
        except TimeoutError as late:
            raise PlaceAwayError(f"{self._name}: no answer within {self._seconds:.0f} s") from late


def lost_by(place: str, published: SignedCheckpoint | None, reached: int) -> str:
    """What a place no longer has of what was published there, or ""."""
    held = published.checkpoint.number if published is not None else 0
    if held >= reached:
        return ""
    holds = f"its last checkpoint is {held}" if held else "it holds no checkpoint"
    return (
        f"{place}: {holds}, and checkpoint {reached} was published there: it was moved, is not mounted, or was put back"
    )


async def check_continued(evidence: Evidence, published: SignedCheckpoint, place: str) -> None:
    """Does this database hold all that a published checkpoint signed? Or was it accepted that it does not?

    Raises LogBehindError and LogContradictsError, with the difference.
    """
    one = published.checkpoint
    if await evidence.is_accepted(one.size, one.root):
        return
    said = f"checkpoint {one.number}, signed {one.time} and published in {place}, covers {one.size} records"
    end = await evidence.end()
    own = f"This database ends at position {end.position}"
    if end.position:
        own += f" (saga {end.saga_id}, record {end.version}, written {end.time})"
    if (latest := await evidence.latest()) is not None:
        at = Checkpoint(one.origin, 0, b"", 0, latest.signed_at).time
        own += f"; its last checkpoint is {latest.number} over {latest.size} records, signed {at}"
    else:
        own += "; it has no checkpoint"
    if end.position < one.size:
        missing = one.size - end.position
        raise LogBehindError(
            f"{said}. {own}. Missing: {missing} record{'s' if missing > 1 else ''}, positions {end.position + 1} to "
            f"{one.size}. A backup was restored, or a standby that lagged took over: find the missing records first. "
            "To go on without them: orchestrator audit accept, with a name and a reason"
        )
    try:
        root = await evidence.root(one.size)
        await evidence.check_leaf(one.size)
    except MissingNodesError as error:
        raise LogContradictsError(f"{said}. {own}, but {error}. Do: orchestrator audit verify") from error
    if root != one.root:
        raise LogContradictsError(
            f"{said} with the root {one.root.hex()}. {own}; over its first {one.size} records it has the root "
            f"{root.hex()}: these are other records. Do: orchestrator audit verify"
        )


async def _check_step(evidence: Evidence, before: Checkpoint, after: Checkpoint, place: str) -> None:
    if (before.size, before.root) in after.broken:
        return
    try:
        path = await evidence.consistency(before.size, after.size)
    except ValueError as error:
        path, reason = None, f": {error}"
    else:
        reason = ""
    if path is None or not tree.consistent(before.size, after.size, before.root, after.root, path):
        raise LogContradictsError(
            f"checkpoint {after.number} over {after.size} records does not continue checkpoint {before.number} over "
            f"{before.size}, the last one in {place}{reason}. It is not published. Do: orchestrator audit verify"
        )


def _opened(stored: StoredCheckpoint, keys: Sequence[Verifier]) -> SignedCheckpoint:
    try:
        opened = open_checkpoint(stored.note, keys)
    except NoteError as error:
        raise LogContradictsError(
            f"checkpoint {stored.number} in this database: {error}. It is not published"
        ) from error
    one = opened.checkpoint
    if (one.number, one.size, one.root) != (stored.number, stored.size, stored.root):
        raise LogContradictsError(f"checkpoint {stored.number}: its row does not say what its note says")
    return opened
