"""Building a projection anew beside the live one, comparing the two row by row, and swapping.

Rules of this file
- The slot that is not live is emptied and filled while the live one goes on; nobody reads it.
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
    """What a rebuild did. `same_records`: both slots were made from exactly the same records."""

    projection: str
    position: int
    records: int
    seconds: float
    same_records: bool
    differences: tuple[Difference, ...]
    swapped: bool

    @property
    def same_rows(self) -> bool:
        """Every row of every table is in both."""
        return not self.differences


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
        feed = Feed(store, customer_of)
        runner = Runner(store, feed, made, batch_records=BATCH_RECORDS, poll_ms=0, live=False)
        await _begin(store, name, made.version)
        while True:
            await _fill(store, runner, name, on_progress)
            result = await _finish(store, feed, runner, swap=swap, accept=accept_differences, began=began)
            if result is not None:
                return result


async def _begin(store: PostgresStore, name: str, version: int) -> None:
    async with store.pools.connection("projection") as connection:
        await connection.execute(SLOTS["ensure"], name, version)
        await connection.execute(SLOTS["ensure_spare"], name, version)
        await connection.begin()
        try:
            held = await connection.fetch(SLOTS["hold"], name, False)
            if not held:
                raise BusyError(f"projection {name} is being rebuilt by another process: wait for it")
            slot = held[0]["slot"]
            await connection.fetch(SLOTS["clear"], name, slot)
            await connection.fetch(SLOTS["begin_spare"], name, version)
        except BaseException:
            await connection.roll_back()
            raise
        await connection.commit_repeatable()


async def _fill(store: PostgresStore, runner: Runner, name: str, on_progress: Callable[[int, int], None]) -> None:
    """Up to where the live one stands; where that does not move (it is stopped, or of another version), too."""
    while True:
        live, spare = await _positions(store, name)
        on_progress(spare, live)
        if spare >= live:
            return
        taken = await runner.step(up_to=live)
        if taken is None:
            raise BusyError(f"projection {name} is being rebuilt by another process as well")
        if not taken and (await _positions(store, name))[1] == spare:
            continue  # the slot was looked at anew


async def _positions(store: PostgresStore, name: str) -> tuple[int, int]:
    async with store.pools.connection("projection") as connection:
        rows = await connection.fetch(SLOTS["all"])
    found = {row["live"]: row["position"] for row in rows if row["projection"] == name}
    return found[True], found[False]


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
            differences = await _compare(connection, made.tables, live, spare)
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
