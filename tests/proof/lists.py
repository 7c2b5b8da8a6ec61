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
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from typing import Any

import asyncpg
import structlog

from orchestrator.store.memory import collect_rarely
from orchestrator.store.postgres import PostgresStore
from projections.contract import Projection
from projections.feed import Feed
from projections.rebuild import BATCH_RECORDS, LIMITS, rebuild
from projections.registry import customers, projections
from projections.runner import Runner
from tests.databases import Database, running_server
from tests.projections.conftest import VIEW, story
from tests.proof.asking import asking
from tests.proof.filling import Template, fill, templates

MILLISECONDS_MAX = 100.0
RECORDS_PER_SECOND_MIN = 20_000
REBUILT_SAGAS = 90_000  # a million records
BYTES_OF_SAGA = 40_000  # with its read models, one of them twice, and what sorting takes
WHOSE = customers({VIEW.saga: VIEW})


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=1_000_000, help="how many are stored; ten records each")
    parser.add_argument("--questions", type=int, default=300, help="of each kind")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    figures = asyncio.run(measured(given.sagas, given.questions))
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    slow = [name for name, ms in figures["p99_ms"].items() if ms > MILLISECONDS_MAX]
    late = [name for name, rate in figures["records_per_second"].items() if rate < RECORDS_PER_SECOND_MIN]
    return 1 if slow or late or any(figures["rows_that_differ"].values()) else 0


async def measured(sagas: int, questions: int) -> dict[str, Any]:
    """Fills a database, builds the read models in it, and asks."""
    async with running_server(on_disk=True) as server, server.database() as database:
        await room_for(sagas)
        made_of = await _told(database)
        collect_rarely()
        began = time.perf_counter()
        first = await fill(database.admin_url, made_of, min(sagas, REBUILT_SAGAS))
        seconds = time.perf_counter() - began
        taken, rebuilt, differing = await _rebuilt(database)
        began = time.perf_counter()
        second = await fill(database.admin_url, made_of, sagas - first.sagas)
        seconds += time.perf_counter() - began
        say(f"{sagas} sagas in {seconds:.0f} s")
        built = await _built(database)
        await _settled(database)
        async with PostgresStore(database.url) as store:
            asked = await _asked(store, await _names(database), questions)
        stored = {name: n + asdict(second)[name] for name, n in asdict(first).items()}
        return {
            **stored,
            "seconds_to_fill": round(seconds),
            "taken_in_per_second": taken,
            "records_per_second": rebuilt,
            "rows_that_differ": differing,
            "built_at_full_size_per_second": built,
            "p50_ms": {name: p50 for name, (p50, _) in asked.items()},
            "p99_ms": {name: p99 for name, (_, p99) in asked.items()},
        }


async def room_for(sagas: int) -> None:
    """Raises OSError where the disk is too small: better now than in an hour."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < sagas * BYTES_OF_SAGA:
        raise OSError(f"{free >> 30} GiB are free in {tempfile.gettempdir()}, this takes {sagas * BYTES_OF_SAGA >> 30}")


async def _rebuilt(database: Database) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Records a second that are followed, and rebuilt with indexes, comparison and swap; rows that differ then."""
    taken, rates, differing = {}, {}, {}
    for made in projections():
        began = time.perf_counter()
        records = await _caught_up(database, made)
        taken[made.name] = round(records / (time.perf_counter() - began))
        cpu = time.process_time()
        built = await rebuild(database.url, made.name, customer_of=WHOSE)
        rates[made.name] = round(built.records / built.seconds)
        differing[made.name] = sum(d.only_live + d.only_rebuilt for d in built.differences) + (not built.compared)
        spent = (time.process_time() - cpu) / built.records * 1e6
        say(
            f"{made.name}: {taken[made.name]}/s followed, {rates[made.name]}/s rebuilt, {spent:.1f} us of this process "
            f"a record; of {built.records} records {differing[made.name]} rows differ"
        )
    return taken, rates, differing


async def _built(database: Database) -> dict[str, int]:
    """The read models of everything, as those of an old store are made: nothing is there, and all is built."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("DELETE FROM projection_slots")
        for made in projections():
            for table in made.tables:
                await connection.execute(f"TRUNCATE {table}_a, {table}_b")
    finally:
        await connection.close()
    rates = {}
    for made in projections():
        built = await rebuild(database.url, made.name, customer_of=WHOSE)
        rates[made.name] = round(built.records / built.seconds)
        say(f"{made.name}: {built.records} records at {rates[made.name]}/s")
    return rates


async def _caught_up(database: Database, made: Projection) -> int:
    """Takes in everything that is stored; how many records."""
    taken = 0
    async with PostgresStore(database.url, LIMITS) as store:
        runner = Runner(store, Feed(store, WHOSE), made, batch_records=BATCH_RECORDS, poll_ms=0)
        while step := await runner.step():
            taken += step
    return taken


async def _told(database: Database) -> list[tuple[Template, int]]:
    """Sagas of a running product, each with how many of a hundred go like it."""
    async with story(database) as told:
        ids = dict(told.sagas)
    connection = await asyncpg.connect(database.admin_url)
    try:
        names = ("approved", "rejected", "refused", "expired", "open", "by hand")
        made_of = dict(zip(names, await templates(connection, [ids[name] for name in names]), strict=True))
    finally:
        await connection.close()
    return [(made_of[name], weight) for name, weight in zip(names, (76, 8, 3, 2, 10, 1), strict=True)]


async def _names(database: Database) -> dict[str, list[str]]:
    """Some ids and business keys to ask for."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        rows = await connection.fetch("SELECT saga_id, business_key FROM saga_heads ORDER BY saga_id LIMIT 500")
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


async def _asked(store: PostgresStore, names: dict[str, list[str]], questions: int) -> dict[str, tuple[float, float]]:
    """The median and the 99th percentile of each question, milliseconds."""
    chance = random.Random(1)
    figures = {}
    for name, question in asking(store, names["ids"], names["keys"]).items():
        took = []
        for _ in range(questions):
            began = time.perf_counter()
            await question(chance)
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        figures[name] = round(took[len(took) // 2], 1), round(took[int(len(took) * 0.99) - 1], 1)
        say("{}: p50 {} ms, p99 {} ms".format(name, *figures[name]))
    return figures


def say(text: str) -> None:
    """To the person who waits."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
