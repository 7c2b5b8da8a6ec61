"""How quickly read models are built, and lists answer where very much is stored: `python -m tests.proof.lists`.

Rules of this file
- The streams are those of real payouts of the test product, copied (`filling.py`); every list is asked as the product
  asks it, through the same queries and pools, with other words each time.
- A figure is the 99th percentile of many questions; the command ends with 1 where one is beyond its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import structlog

from orchestrator.store.memory import collect_rarely
from orchestrator.store.postgres import PostgresStore
from projections.contract import Projection
from projections.feed import Feed
from projections.models import Models
from projections.rebuild import BATCH_RECORDS, LIMITS, rebuild
from projections.registry import customers, projections
from projections.runner import Runner
from tests.databases import Database
from tests.projections.conftest import VIEW
from tests.proof.asking import asking
from tests.proof.kept import filled, kept_database

MILLISECONDS_MAX = 100.0
RECORDS_PER_SECOND_MIN = 20_000
REBUILT_SAGAS = 90_000  # a million records
BYTES_OF_SAGA = 40_000  # with its read models, one of them twice, and what sorting takes
WHOSE = customers({VIEW.saga: VIEW})


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=1_000_000, help="how many are stored; ten records each")
    parser.add_argument("--rebuilt", type=int, default=REBUILT_SAGAS, help="how many in the store that is rebuilt")
    parser.add_argument("--questions", type=int, default=300, help="of each kind")
    parser.add_argument("--only", default="", help="only questions whose names begin so")
    parser.add_argument("--part", choices=["lists", "rebuild", "both"], default="both")
    parser.add_argument("--as-it-is", action="store_true", help="ask even where read models hold less than everything")
    parser.add_argument("--data", type=Path, help="a directory to keep what was filled, and to use it again")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(prefix="orchestrator-lists-") as thrown_away:
        figures = asyncio.run(measured(given.data or Path(thrown_away), given))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    slow = [name for name, ms in figures.get("p99_ms", {}).items() if ms > MILLISECONDS_MAX]
    late = [name for name, rate in figures.get("records_per_second", {}).items() if rate < RECORDS_PER_SECOND_MIN]
    return 1 if slow or late or any(figures.get("rows_that_differ", {}).values()) else 0


async def measured(directory: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Rebuilds the read models of one store, asks in another; what is not there yet is filled."""
    collect_rarely()
    figures: dict[str, Any] = {}
    if given.part != "lists":
        async with kept_database(directory, f"sagas_{given.rebuilt}") as database:
            stored = await filled(database, given.rebuilt, room=BYTES_OF_SAGA)
            taken, rates, differing = await _rebuilt(database)
            figures |= {"rebuilt": stored, "taken_in_per_second": taken, "records_per_second": rates}
            figures |= {"rows_that_differ": differing}
    if given.part != "rebuild":
        async with kept_database(directory, f"sagas_{given.sagas}") as database:
            stored = await filled(database, given.sagas, room=BYTES_OF_SAGA)
            built = {} if given.as_it_is else await _built(database)
            figures |= {"lists": stored, "built_at_full_size_per_second": built}
            async with PostgresStore(database.url) as store:
                asked = await _asked(store, await _names(database), given.questions, given.only)
            for place, what in enumerate(("first_ms", "p50_ms", "p99_ms")):
                figures[what] = {name: found[place] for name, found in asked.items()}
    return figures


async def _rebuilt(database: Database) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Records a second that are followed, and rebuilt with indexes, comparison and swap; rows that differ then."""
    taken, rates, differing = {}, {}, {}
    for made in projections():
        began = time.perf_counter()
        records = await _caught_up(database, made)
        if records:  # a store that was kept is caught up already
            taken[made.name] = round(records / (time.perf_counter() - began))
        cpu = time.process_time()
        built = await rebuild(database.url, made.name, customer_of=WHOSE)
        rates[made.name] = round(built.records / built.seconds)
        differing[made.name] = sum(d.only_live + d.only_rebuilt for d in built.differences) + (not built.compared)
        spent = (time.process_time() - cpu) / built.records * 1e6
        say(
            f"{made.name}: {taken.get(made.name, 0)}/s followed, {rates[made.name]}/s rebuilt, {spent:.1f} us of this "
            f"process a record; of {built.records} records {differing[made.name]} rows differ"
        )
    return taken, rates, differing


async def _built(database: Database) -> dict[str, int]:
    """The read models of everything, as those of an old store are made: nothing is there, and all is built.

    One that holds everything already is left as it is.
    """
    rates = {}
    for made in projections():
        if await _is_empty(database, made):
            built = await rebuild(database.url, made.name, customer_of=WHOSE)
            rates[made.name] = round(built.records / built.seconds)
            say(f"{made.name}: {built.records} records at {rates[made.name]}/s")
    if rates:
        await _settled(database)
    return rates


async def _is_empty(database: Database, made: Projection) -> bool:
    """Holds it less than everything? Then it is emptied."""
    async with PostgresStore(database.url) as store:
        state = next(one for one in await Models(store).states() if one.name == made.name)
    if state.complete.lag == 0 and state.state == "running":
        return False
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("DELETE FROM projection_slots WHERE projection = $1", made.name)
        for table in made.tables:
            await connection.execute(f"TRUNCATE {table}_a, {table}_b")
    finally:
        await connection.close()
    return True


async def _caught_up(database: Database, made: Projection) -> int:
    """Takes in everything that is stored; how many records."""
    taken = 0
    async with PostgresStore(database.url, LIMITS) as store:
        runner = Runner(store, Feed(store, WHOSE), made, batch_records=BATCH_RECORDS, poll_ms=0)
        while step := await runner.step():
            taken += step
    return taken


async def _names(database: Database) -> dict[str, list[str]]:
    """Some ids and business keys to ask for."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        rows = await connection.fetch(
            "SELECT saga_id, business_key FROM saga_heads ORDER BY hashtext(saga_id) LIMIT 500"
        )
    finally:
        await connection.close()
    return {"ids": [row[0] for row in rows], "keys": [row[1] for row in rows]}


async def _settled(database: Database) -> None:
    """What autovacuum has done by the time that people ask."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()


async def _asked(
    store: PostgresStore, names: dict[str, list[str]], questions: int, only: str
) -> dict[str, tuple[float, float, float]]:
    """How long the first question of each kind took, the median and the 99th percentile, milliseconds."""
    chance = random.Random(1)
    figures = {}
    for name, question in (await asking(store, names["ids"], names["keys"], only)).items():
        took = []
        for _ in range(questions):
            began = time.perf_counter()
            await question(chance)
            took.append((time.perf_counter() - began) * 1000)
        first = took[0]
        took.sort()
        figures[name] = (round(first, 1), round(took[len(took) // 2], 1), round(took[int(len(took) * 0.99) - 1], 1))
        say("{}: first {} ms, p50 {} ms, p99 {} ms".format(name, *figures[name]))
    return figures


def say(text: str) -> None:
    """To the person who waits."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
