"""Everything goes wrong at once, under load, and afterwards the books are opened.

    python -m tests.crash.nemesis --broker kafka --kills 500 --minutes 5 --seed 1

Orders, transfers with approvals, payments that two people approve, disputes on all their ways and reminders are offered
while processes are killed and frozen, the database crashes, the broker is killed, sessions and COMMITs are cut,
coordinators join and leave, and the disk of the write-ahead log fills up. Afterwards the audit trail is verified, every
read model is built anew and compared. Prints one JSON line with every fault counted, and ends with 1 where something
was lost, doubled or undone in another order, or where the run is void: a planned fault did not happen, or less than
half of what was offered succeeded
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from tests import forking
from tests.crash.cluster import RICH, Cluster, running_cluster
from tests.crash.history import SQL, History
from tests.crash.load import Load
from tests.crash.menu import VICTIMS, Menu
from tests.databases import fast_directory

KILLS_EACH_CYCLE = 10
BACKLOG_SAGAS = 150  # after each cycle the product may catch up to this, for a while
CALM_REMINDERS = 40
BREATH_SECONDS_MAX = 20.0
HEAL_SECONDS_MAX = 300.0
AUDIT_SECONDS_MAX = 600.0
SUCCEEDED_SHARE_MIN = 0.5
SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall go wrong. `cycle`: the faults of each cycle, shuffled; `rare`: further ones, every so many cycles."""

    broker: str
    kills: int
    seconds: float
    seed: int
    cycle: tuple[str, ...]
    rare: tuple[tuple[str, int], ...] = ()
    rate: float = 12.0
    full_disk: bool = False
    pause_seconds: float = 0.9  # between two faults, on average
    forked: bool = False  # processes are forked from one that has everything imported
    share_min: float = SUCCEEDED_SHARE_MIN  # of what was offered must succeed, or the run says nothing


def long_plan(broker: str, kills: int, minutes: float, seed: int, *, forked: bool = False) -> Plan:
    """The whole menu. In each cycle ten kills, a crash of the database, on Kafka two kills of the broker, and cuts."""
    cycle = ("kill",) * KILLS_EACH_CYCLE + ("postgres crash", "sessions cut", "commit cut", "commit cut", "freeze")
    if broker == "kafka":
        cycle += ("broker kill", "broker kill")
    rare = (("rebalance storm", 3), ("disk full", 4), ("long freeze", 6))
    return Plan(broker, kills, minutes * 60, seed, cycle, rare, full_disk=True, forked=forked)


async def run(plan: Plan, directory: Path) -> dict[str, Any]:
    """One run; its figures. `ok` says how it ended."""
    began, chance = time.monotonic(), random.Random(plan.seed)
    kafka = plan.broker == "kafka"
    async with running_cluster(directory, kafka=kafka, full_disk=plan.full_disk, forked=plan.forked) as cluster:
        owner = await asyncpg.connect(cluster.postgres.url_for("orchestrator", "postgres"))
        await owner.execute(SQL["rich_accounts"], RICH)
        await owner.close()
        menu = Menu(cluster, chance)
        up = time.monotonic()
        load = Load(cluster.broker, cluster.api, uuid4().hex[:6], plan.rate, chance)
        await load.start()
        try:
            cycles = await _storm(plan, cluster, menu, chance)
            stormed = time.monotonic()
            await load.stop_offering()
            flaws = await _heal(cluster, load)
            healed = time.monotonic()
            calm = await load.calm(CALM_REMINDERS) if not flaws else []
            flaws += await _heal(cluster, load)
        finally:
            await load.close()
        by_itself = [words for process in cluster.processes.values() for words in process.ends_by_itself]
        for name in ("coordinator", "timers", "relay", "participants", "api"):
            code = await cluster.processes[name].stop()
            if code:
                flaws.append(f"{name} ended with {code} when it was asked to stop: {cluster.processes[name].tail(300)}")
        reader = await asyncpg.connect(cluster.postgres.url_for("orchestrator", "postgres"))
        found, seen = await History(reader).flaws(load.promises, cluster.broker, directory / "world")
        await reader.close()
        flaws += found + await _audited(cluster)
    offered = sum(load.promises.offered.values())
    succeeded = sum(seen.ended.values()) - len(load.promises.unknown) + load.promises.votes_answered
    void = list(_void(plan, menu, offered, succeeded))
    return {
        "ok": not flaws and not void,
        "broker": plan.broker,
        "seed": plan.seed,
        "cycles": cycles,
        "seconds": round(time.monotonic() - began),
        "seconds_of_storm": round(stormed - up),
        "seconds_to_heal": round(healed - stormed),
        "offered": dict(load.promises.offered),
        "succeeded": succeeded,
        "unanswered": len(load.promises.unknown),
        "told_to_wait": load.promises.told_to_wait,
        "ended": dict(seen.ended),
        "records": seen.records,
        "faults": dict(menu.fired),
        "planned": dict(menu.planned),
        "kills": dict(menu.kills),
        "not_possible_here": {"disk full": cluster.no_full_disk} if cluster.no_full_disk else {},
        "timers_in_the_storm": _lateness([late for key, late in seen.lateness_us.items() if key not in calm]),
        "timers_afterwards": _lateness([seen.lateness_us[key] for key in calm if key in seen.lateness_us]),
        "ended_by_itself": len(by_itself),
        "ended_by_itself_first": by_itself[:5],
        "void": void,
        "violations": len(flaws),
        "violations_first": flaws[:SHOWN_MAX],
    }


async def _storm(plan: Plan, cluster: Cluster, menu: Menu, chance: random.Random) -> int:
    """Cycle after cycle until enough was killed for long enough; how many."""
    began, cycles = time.monotonic(), 0
    while sum(menu.kills.values()) < plan.kills or time.monotonic() - began < plan.seconds:
        faults = list(plan.cycle) + [name for name, every in plan.rare if cycles % every == 0]
        chance.shuffle(faults)
        for name in faults:
            if name in menu.faults:
                await asyncio.sleep(chance.uniform(0, 2 * plan.pause_seconds))
                await menu.strike(name)
        cycles += 1
        sys.stderr.write(f"cycle {cycles}: {dict(menu.fired)}\n")
        await _breathe(cluster)
    await menu.over()
    return cycles


async def _breathe(cluster: Cluster) -> None:
    """Lets the product catch up, for a bounded time: a storm in which nothing gets done would prove nothing."""
    connection = await asyncpg.connect(cluster.postgres.url_for("orchestrator", "postgres"))
    for _ in range(int(BREATH_SECONDS_MAX * 2)):
        if await History(connection).live() <= BACKLOG_SAGAS:
            break
        await asyncio.sleep(0.5)
    await connection.close()


async def _heal(cluster: Cluster, load: Load) -> list[str]:
    """No more faults: everything ends by itself within a bounded time. What did not."""
    over = time.monotonic() + HEAL_SECONDS_MAX
    connection = await asyncpg.connect(cluster.postgres.url_for("orchestrator", "postgres"))
    try:
        history = History(connection)
        calm = 0
        while time.monotonic() < over:
            answered = await load.answered(1)
            keys = load.promises.acknowledged
            rests = answered and await history.live() == 0 and await history.started(keys) >= len(keys)
            calm = calm + 1 if rests and not await connection.fetch(SQL["left_over"]) else 0
            if calm == 3:  # also nothing that somebody still had in hand
                return []
            await asyncio.sleep(0.5)
        tails = "\n".join(f"{process.name}: {process.tail(600)}" for process in cluster.processes.values())
        return [f"not ended after {HEAL_SECONDS_MAX:.0f} s:\n{await history.unfinished()}\n{tails}"]
    finally:
        await connection.close()


async def _audited(cluster: Cluster) -> list[str]:
    """Chains, order, tree, signed checkpoints and those outside hold, and every read model is what a rebuild makes of
    the records: as an auditor asks."""
    command = ("orchestrator", "audit", "verify", "--read-models", "--json")
    environment = {**os.environ, **cluster.environment}
    asked = await asyncio.to_thread(forking.run, *command, env=environment, timeout=AUDIT_SECONDS_MAX)
    report = json.loads(asked.stdout) if asked.returncode in (0, 6) else {}
    if asked.returncode or not report["checkpoints"]:
        return [f"the audit found ({asked.returncode}): {asked.stdout[:2_000]} {asked.stderr[-1_000:]}"]
    return []


def _void(plan: Plan, menu: Menu, offered: int, succeeded: int) -> Iterator[str]:
    """Why this run proves nothing, if it does not."""
    yield from (f"{name} was planned {count} times and never happened" for name, count in menu.planned.items()
                if not menu.fired[name])  # fmt: skip
    if sum(menu.kills.values()) < plan.kills:
        yield f"{sum(menu.kills.values())} kills, {plan.kills} were wanted"
    if plan.kills >= 2 * len(VICTIMS):
        yield from (f"{name} was never killed" for name in VICTIMS if not menu.kills[name])
    if succeeded < offered * plan.share_min:
        yield f"{succeeded} of {offered} operations succeeded"


def _lateness(found: Sequence[int]) -> dict[str, int]:
    late = sorted(found)
    if not late:
        return {"fired": 0}
    places = {"median_ms": len(late) // 2, "p99_ms": len(late) * 99 // 100, "max_ms": len(late) - 1}
    return {"fired": len(late)} | {name: late[place] // 1000 for name, place in places.items()}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", choices=("kafka", "postgres"), default="postgres")
    parser.add_argument("--kills", type=int, default=100, help="of processes, at least")
    parser.add_argument("--minutes", type=float, default=0, help="of storm, at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--forked", action="store_true", help="starts cost less; all processes share one hash seed")
    given = parser.parse_args()
    plan = long_plan(given.broker, given.kills, given.minutes, given.seed, forked=given.forked)
    with tempfile.TemporaryDirectory(prefix="nemesis-", dir=fast_directory(), ignore_cleanup_errors=True) as directory:
        figures = asyncio.run(run(plan, Path(directory)))
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
