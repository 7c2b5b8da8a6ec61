"""The line sweep from outside: kill a unit at a place, let the next process finish, open the books.

Rules of this file
- A place is a source line of a unit and its n-th execution there, so the same line dies on every machine.
- Every run has keys of its own: what an earlier run left wrong stays visible and never mixes with the next.
- A kill that did not happen is counted, and never as a success. Which execution of a line comes when depends on how
  work fell into batches, so where the n-th one never comes, the first one is the place.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from orchestrator.broker.contract import TopicSpec, open_broker
from orchestrator.cli.serving import migrate_schema
from tests.crash import case_units, line_units
from tests.crash.case_checks import CaseChecks
from tests.crash.line_checks import TOPICS, Checks, Witness
from tests.crash.payouts import WORLD_VARIABLE, teller, vault
from tests.databases import Database

ANSWER_SECONDS_MAX = 3 * line_units.ALARM_SECONDS
KILLED = -9


@dataclass
class Tally:
    """What some runs came to. `missed`: places that the process never came to, so that it was not killed."""

    kills: int = 0
    missed: int = 0
    violations: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)


class Sweep:
    """Runs units and kills them. Use `sweeping`."""

    def __init__(self, server: asyncio.subprocess.Process, checks: Checks, case_checks: CaseChecks) -> None:
        self._server, self._line_checks, self._case_checks = server, checks, case_checks
        self._runs = 0
        self.tally = Tally()

    async def places(self, unit: str) -> list[tuple[str, int]]:
        """Every line that the unit executes, with how often, in the order of first execution. Also a whole run."""
        run = self._new_run()
        answer = await self._ask(do="sweep", unit=unit, run=run, place="", nth=0)
        assert answer["code"] == 0, f"{unit} does not work undisturbed: {answer['said']}"
        assert not await self._finish(unit, unit, run), f"{unit}: {self.tally.violations}"
        counts = json.loads(answer["said"][-1])
        return [(place, int(count)) for place, count in counts.items()]

    async def kill(self, unit: str, place: str, nth: int) -> bool:
        """One run that dies at this place; True where nothing was wrong afterwards."""
        missed = self.tally.missed
        right = await self._kill(unit, place, nth)
        if right and nth > 1 and self.tally.missed > missed:
            self.tally.missed = missed
            return await self._kill(unit, place, 1)
        return right

    async def _kill(self, unit: str, place: str, nth: int) -> bool:
        run = self._new_run()
        answer = await self._ask(do="sweep", unit=unit, run=run, place=place, nth=nth)
        where = f"{unit} at {place} ({nth})"
        if answer["code"] == KILLED:
            self.tally.kills += 1
            self.tally.places.add(place)
        elif answer["code"] == 0:
            self.tally.missed += 1
        else:
            self.tally.violations.append(f"{where}: it failed before: {answer['said']}")
        flaws = await self._checks(unit).after_the_kill(run)
        self.tally.violations += [f"{where}: {flaw}" for flaw in flaws]
        return not flaws and not await self._finish(unit, where, run)

    def _checks(self, unit: str) -> Checks:
        return self._case_checks if unit in case_units.UNITS else self._line_checks

    async def _finish(self, unit: str, where: str, run: str) -> list[str]:
        """The process that comes after; what is wrong when it is done."""
        checks = self._checks(unit)
        answer = await self._ask(do="finish", unit=unit, run=run)
        if answer["code"] != 0:
            flaws = [f"never finished: {await checks.unfinished(run)} {' | '.join(answer['said'])[-1500:]}"]
        else:
            flaws = [said for said in answer["said"] if "refused" in said]
            flaws += await checks.after_the_end(run)
        self.tally.violations += [f"{where}: {flaw}" for flaw in flaws]
        return flaws

    def _new_run(self) -> str:
        self._runs += 1
        return f"run{self._runs:05}"

    async def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        line = await asyncio.wait_for(self._server.stdout.readline(), ANSWER_SECONDS_MAX)
        answer: dict[str, Any] = json.loads(line)
        return answer


def spread(places: Sequence[tuple[str, int]], sample: int, turn: int = 0) -> list[tuple[str, int]]:
    """`sample` of these places, evenly over the unit's way (0: all), first and last executions in turn.

    turn: with each, the next place of every stretch.
    """
    count = min(sample, len(places))
    stretch = len(places) // count if count else 1
    chosen = [places[i * len(places) // count + turn % stretch] for i in range(count)] if sample else places
    return [(place, executed if number % 2 else 1) for number, (place, executed) in enumerate(chosen)]


@asynccontextmanager
async def sweeping(database: Database, broker_url: str, directory: Path) -> AsyncIterator[Sweep]:
    """A sweep over one database and one log; the server that forks is gone afterwards."""
    os.environ[WORLD_VARIABLE] = str(directory / "world")
    participants = (vault, teller, *case_units.PARTICIPANTS)
    await migrate_schema(database.migrate_url, [participant.own_schema for participant in participants])
    settings = line_units.settings(database.url, broker_url)
    broker = open_broker(settings.resolved_broker_url(database.url), settings=settings.broker_settings())
    await broker.ensure_topics([TopicSpec(name, partitions=1) for name in (*TOPICS, *case_units.TOPICS)])
    connection = await asyncpg.connect(database.admin_url)
    command = [sys.executable, "-m", "tests.crash.line_server", database.url, broker_url]
    server = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24
    )
    try:
        async with Witness(broker) as witness, Witness(broker, case_units.TOPICS, "witness of cases") as other:
            yield Sweep(server, Checks(connection, witness), CaseChecks(connection, other))
    finally:
        os.environ.pop(WORLD_VARIABLE, None)
        if server.stdin is not None:
            server.stdin.close()  # it ends when it reads no more requests
        try:
            await asyncio.wait_for(server.wait(), line_units.ALARM_SECONDS)
        except TimeoutError:
            server.kill()
            await server.wait()
        await broker.close()
        await connection.close()
