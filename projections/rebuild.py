"""Building a projection anew beside the live one, comparing the two row by row, and swapping.

Rules of this file
- The slot that is not live is emptied and filled while the live one goes on; nobody reads it. It is filled without the
  indexes that only readers need, and gets them before anything is compared (docs/adr/0063-rebuilt-bare.md).
- It is compared when both stand at the same position, with both checkpoints held: the live one waits so long, the write
  path does not. Rows that differ stop the swap, unless the code has a new version or somebody says that they may.
- The swap changes two rows. Readers ask again when the slot has changed under them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from orchestrator.store.connections import ConnectionLimits, Guarded
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sql import load_queries
from projections.contract import ProjectionError
from projections.feed import SQL as FEED
from projections.feed import CustomerOf, Feed, usual_customer
from projections.registry import projection
from projections.runner import SQL as SLOTS
from projections.runner import Checkpoint, Runner, checkpoint

SQL = load_queries("projections", "rebuild.sql")
BATCH_RECORDS = 5_000
SAMPLES = 3
CATCH_UP_RECORDS_MAX = 20_000  # the live projection waits while these are taken in

# A rebuild reads and compares whole tables: what takes minutes is no fault here.
LIMITS = ConnectionLimits(
    statement_timeout_ms=3_600_000, answer_timeout_ms=3_700_000, idle_in_transaction_timeout_ms=60_000
)


class BusyError(ProjectionError):
    """Another process rebuilds this projection right now."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of one table that are not in both. `samples`: some of them, as JSON."""

    table: str
    only_live: int
    only_rebuilt: int
    samples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did. `same_records`: both slots were made from exactly the same records.

    `compared` False: the live slot held nothing when this began, so there was nothing to compare with.
    """

    projection: str
    position: int
    records: int
    seconds: float
    same_records: bool
    compared: bool
    differences: tuple[Difference, ...]
    swapped: bool

    @property
    def same_rows(self) -> bool:
        """Every row of every table is in both."""
        return self.compared and not self.differences


async def rebuild(
    url: str,
    name: str,
    *,
    swap: bool = True,
    accept_differences: bool = False,
    customer_of: CustomerOf = usual_customer,
    on_progress: Callable[[int, int], None] = lambda _position, _target: None,
) -> Rebuilt:
    """Builds one projection anew. `swap` False: only compares. Raises KeyError, ProjectionError, StoreError."""
    made = projection(name)
    began = perf_counter()
    async with PostgresStore(url, LIMITS, application="orchestrator rebuild") as store:
        feed = Feed(store, customer_of, ahead=True)
        runner = Runner(store, feed, made, batch_records=BATCH_RECORDS, poll_ms=0, live=False)
        try:
            slot = await _begin(store, name, made.version)
            while True:
                await _fill(store, runner, name, on_progress)
                await _index(store, name, slot)
                result = await _finish(store, feed, runner, swap=swap, accept=accept_differences, began=began)
                if result is not None:
                    return result
        finally:
            await feed.close()


async def _begin(store: PostgresStore, name: str, version: int) -> str:
    """Empties the slot that is not live; which one it is."""
    async with store.pools.connection("projection") as connection:
        await connection.execute(SLOTS["ensure"], name, version)
        await connection.execute(SLOTS["ensure_spare"], name, version)
        await connection.begin()
        try:
            held = await connection.fetch(SLOTS["hold"], name, False)
            if not held:
                raise BusyError(f"projection {name} is being rebuilt by another process: wait for it")
            slot: str = held[0]["slot"]
            await connection.fetch(SLOTS["clear"], name, slot)
            await connection.fetch(SLOTS["begin_spare"], name, version)
        except BaseException:
            await connection.roll_back()
            raise
        await connection.commit_repeatable()
    return slot


async def _index(store: PostgresStore, name: str, slot: str) -> None:
    """Gives the slot the indexes that the live one has; nothing where it has them."""
    async with store.pools.connection("report") as connection:
        await connection.begin()
        try:
            held = await connection.fetch(SLOTS["hold"], name, False)
            if not held or held[0]["slot"] != slot:
                raise BusyError(f"projection {name} was rebuilt by another process meanwhile")
            await connection.fetch(SLOTS["index"], name, slot)
        except BaseException:
            await connection.roll_back()
            raise
        await connection.commit_repeatable()


async def _fill(store: PostgresStore, runner: Runner, name: str, on_progress: Callable[[int, int], None]) -> None:
    """Up to where the live one stands; where that does not move (it is stopped, or of another version), too.

    Where the live one holds nothing, up to the last record there is: a new read model of an old store begins like this.
    """
    last = 0
    while True:
        live, spare, head = await _positions(store, name)
        last = last or (live or head)
        target = max(live, last)
        on_progress(spare, target)
        if spare >= target:
            return
        taken = await runner.step(up_to=target)
        if taken is None:
            raise BusyError(f"projection {name} is being rebuilt by another process as well")


async def _positions(store: PostgresStore, name: str) -> tuple[int, int, int]:
    """Where the live slot stands, the other one, and the store."""
    async with store.pools.connection("projection") as connection:
        rows = await connection.fetch(SLOTS["all"])
        head = (await connection.fetch(FEED["head"]))[0]["head"]
    found = {row["live"]: row["position"] for row in rows if row["projection"] == name}
    return found[True], found[False], head


async def _finish(
    store: PostgresStore, feed: Feed, runner: Runner, *, swap: bool, accept: bool, began: float
) -> Rebuilt | None:
    """Compares and swaps, with both checkpoints held. None where the live one has run away meanwhile."""
    made = runner.projection
    async with store.pools.connection("report") as connection:
        await connection.begin()
        try:
            rows = await connection.fetch(SLOTS["hold_both"], made.name)
            live, spare = (checkpoint(next(row for row in rows if row["live"] is wanted)) for wanted in (True, False))
            if not runner.is_at(spare) or spare.version != made.version:
                raise BusyError(f"projection {made.name} was rebuilt by another process meanwhile")
            if live.position - spare.position > CATCH_UP_RECORDS_MAX:
                await connection.roll_back()
                return None
            while spare.position < live.position:
                records = await feed.after(spare.position, min(BATCH_RECORDS, live.position - spare.position))
                spare = await runner.take_in(connection, spare, records)
            await connection.fetch(SLOTS["index"], made.name, spare.slot)  # whoever emptied it took them off
            compared = spare.position == live.position  # not where the live one held nothing when this began
            differences = await _compare(connection, made.tables, live, spare) if compared else ()
            may = accept or not differences or live.version != spare.version
            if swap and may:
                await connection.execute(SLOTS["retire"], made.name)
                await connection.execute(SLOTS["promote"], made.name, spare.slot)
        except BaseException:
            await connection.roll_back()
            raise
        await connection.commit_repeatable()
    return Rebuilt(
        projection=made.name,
        position=spare.position,
        records=spare.records,
        seconds=perf_counter() - began,
        same_records=(live.records, live.checksum) == (spare.records, spare.checksum),
        compared=compared,
        differences=differences,
        swapped=swap and may,
    )


async def _compare(
    connection: Guarded, tables: Sequence[str], live: Checkpoint, spare: Checkpoint
) -> tuple[Difference, ...]:
    found = []
    for table in tables:
        query = SQL["compare"].replace("{table}", table)
        one = await connection.fetch(query.replace("{slot}", live.slot).replace("{other}", spare.slot), SAMPLES)
        two = await connection.fetch(query.replace("{slot}", spare.slot).replace("{other}", live.slot), SAMPLES)
        if one[0]["n"] or two[0]["n"]:
            samples = [f"live: {text}" for text in one[0]["samples"]] + [
                f"rebuilt: {text}" for text in two[0]["samples"]
            ]
            found.append(Difference(table, one[0]["n"], two[0]["n"], tuple(samples)))
    return tuple(found)
