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
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import structlog

from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries, SagaFilter
from projections.answers import AuditFilter
from projections.contract import Projection
from projections.feed import Feed
from projections.models import Models
from projections.rebuild import BATCH_RECORDS, LIMITS, rebuild
from projections.registry import customers, projections
from projections.runner import Runner
from tests.databases import Database, running_server
from tests.projections.conftest import VIEW, story
from tests.proof.filling import fill, templates

MILLISECONDS_MAX = 100.0
RECORDS_PER_SECOND_MIN = 20_000
PERIOD = timedelta(days=30)
WHOSE = customers({VIEW.saga: VIEW})

Question = Callable[[random.Random], Awaitable[object]]


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
    async with running_server() as server, server.database() as database:
        keys = await _filled(database, sagas)
        rates = {}
        for made in projections():
            began, taken = time.perf_counter(), await _caught_up(database, made)
            rates[made.name] = round(taken / (time.perf_counter() - began))
            say(f"{made.name}: {taken} records in {time.perf_counter() - began:.0f} s, {rates[made.name]}/s")
        differing = {}
        for made in projections():
            built = await rebuild(database.url, made.name, customer_of=WHOSE)
            differing[made.name] = sum(d.only_live + d.only_rebuilt for d in built.differences)
            say(f"{made.name}: rebuilt and compared in {built.seconds:.0f} s, {differing[made.name]} rows differ")
        await _settled(database)
        async with PostgresStore(database.url) as store:
            asked = await _asked(store, keys, questions)
        return {**keys["filled"], "records_per_second": rates, "rows_that_differ": differing, "p99_ms": asked}


async def _caught_up(database: Database, made: Projection) -> int:
    """Takes in everything that is stored; how many records."""
    taken = 0
    async with PostgresStore(database.url, LIMITS) as store:
        runner = Runner(store, Feed(store, WHOSE), made, batch_records=BATCH_RECORDS, poll_ms=0)
        while step := await runner.step():
            taken += step
    return taken


async def _filled(database: Database, sagas: int) -> dict[str, Any]:
    async with story(database) as told:
        ids = dict(told.sagas)
    began = time.perf_counter()
    connection = await asyncpg.connect(database.admin_url)
    try:
        names = ("approved", "rejected", "refused", "expired", "open", "by hand")
        made_of = dict(zip(names, await templates(connection, [ids[name] for name in names]), strict=True))
        weights = {"approved": 76, "rejected": 8, "refused": 3, "expired": 2, "open": 10, "by hand": 1}
        filled = await fill(database.admin_url, [(made_of[name], weights[name]) for name in names], sagas)
        say(f"{filled} in {time.perf_counter() - began:.0f} s")
        rows = await connection.fetch("SELECT saga_id, business_key FROM saga_heads ORDER BY saga_id LIMIT 500")
        return {"filled": asdict(filled), "ids": [r[0] for r in rows], "keys": [r[1] for r in rows]}
    finally:
        await connection.close()


async def _settled(database: Database) -> None:
    """What autovacuum has done by the time that people ask."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("VACUUM (ANALYZE)")
    finally:
        await connection.close()


async def _asked(store: PostgresStore, keys: dict[str, Any], questions: int) -> dict[str, float]:
    chance = random.Random(1)
    figures = {}
    for name, question in _questions(store, keys["ids"], keys["keys"]).items():
        took = []
        for _ in range(questions):
            began = time.perf_counter()
            await question(chance)
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        figures[name] = round(took[int(len(took) * 0.99) - 1], 1)
        say(f"{name}: p50 {took[len(took) // 2]:.1f} ms, p99 {figures[name]} ms")
    return figures


def _questions(store: PostgresStore, ids: Sequence[str], keys: Sequence[str]) -> dict[str, Question]:
    models, lists = Models(store), ReadQueries(store.pools)
    audit, journeys = models.audit.search, models.timelines.search

    def moment(chance: random.Random) -> datetime:
        return datetime.now(UTC) - PERIOD * chance.random()

    def hour(chance: random.Random) -> dict[str, Any]:
        since = moment(chance)
        return {"since": since, "until": since + timedelta(hours=1)}

    return {
        "inbox": lambda _: lists.tasks_for("main", "maria", ["manager", "clerk"]),
        "sagas, newest": lambda _: lists.sagas("main"),
        "sagas by key": lambda c: lists.sagas("main", SagaFilter(business_key=c.choice(keys))),
        "sagas that are stuck": lambda _: lists.sagas("main", SagaFilter(stuck=True)),
        "journeys by outcome": lambda _: journeys("main", outcome="refused"),
        "journeys by phase": lambda _: journeys("main", phase="compensating"),
        "journeys by place": lambda _: journeys("main", name="payout", place="approve"),
        "journeys by customer": lambda _: journeys("main", customer="customer-approved"),
        "journeys of a time": lambda c: journeys("main", outcome="failed", **hour(c)),
        "journeys, risky": lambda _: models.timelines.risky("main"),
        "pending now": lambda _: models.approvals.as_of("main", candidates=["role:manager"]),
        "decided by": lambda _: models.approvals.decided_by("main", "maria"),
        "audit, newest": lambda _: audit("main"),
        "audit of a saga": lambda c: audit("main", AuditFilter(saga=c.choice(ids))),
        "audit by key": lambda c: audit("main", AuditFilter(business_key=c.choice(keys))),
        "audit by actor": lambda c: audit("main", AuditFilter(actor="person:maria", **hour(c))),
        "audit by customer": lambda _: audit("main", AuditFilter(customer="customer-rejected")),
        "audit by customer and action": lambda _: audit(
            "main", AuditFilter(customer="customer-refused", action="step.refused")
        ),
        "audit by actor and action": lambda c: audit(
            "main", AuditFilter(actor="person:maria", action="task.voted", **hour(c))
        ),
        "audit of tasks": lambda c: audit("main", AuditFilter(action="task.", **hour(c))),
        "audit by outcome": lambda c: audit("main", AuditFilter(outcome="reject", **hour(c))),
        "audit of a time": lambda c: audit("main", AuditFilter(**hour(c))),
        "audit, counted": lambda c: audit("main", AuditFilter(action="step.succeeded", **hour(c)), count=True),
        "timeline": lambda c: models.timelines.of("main", c.choice(ids)),
        "levels": lambda _: models.levels.tiles("main"),
    }


def say(text: str) -> None:
    """To the person who waits."""
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
