"""The line sweep in full: every line that a unit executes, each in a process of its own that dies there.

    python -m tests.crash.every_line                               # all units, the log in PostgreSQL; an hour or so
    python -m tests.crash.every_line --units relay,timer --sample 50 --broker kafka

Prints one JSON line: per unit how many lines there are, how many kills happened and how many lines were not reached,
and every violation. Ends with 1 where there is one, or where fewer than nine tenths of the wanted kills happened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.crash import case_units, line_units
from tests.crash.sweep import Tally, spread, sweeping
from tests.databases import running_server
from tests.kafka_server import running_kafka

KILLED_SHARE_MIN = 0.9
UNITS = (*line_units.UNITS, *case_units.UNITS)


async def sweep_all(units: list[str], sample: int, kafka: bool) -> dict[str, Any]:
    """All of it; the figures."""
    began = time.monotonic()
    lines: dict[str, int] = {}
    kills: dict[str, int] = {}
    wanted = 0
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server())
        database = await stack.enter_async_context(server.database())
        broker_url = f"kafka://{stack.enter_context(running_kafka())}" if kafka else database.url
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lines-")))
        sweep = await stack.enter_async_context(sweeping(database, broker_url, directory))
        for unit in units:
            places = await sweep.places(unit)
            chosen = spread(places, sample)
            lines[unit], before = len(places), sweep.tally.kills
            wanted += len(chosen)
            for number, (place, nth) in enumerate(chosen):
                if not await sweep.kill(unit, place, nth):
                    sys.stderr.write(f"VIOLATION {sweep.tally.violations[-1]}\n")
                if number % 50 == 0:
                    sys.stderr.write(f"{unit}: {number} of {len(chosen)}\n")
            kills[unit] = sweep.tally.kills - before
        return _figures(sweep.tally, lines, kills, wanted, time.monotonic() - began)


def _figures(tally: Tally, lines: dict[str, int], kills: dict[str, int], wanted: int, seconds: float) -> dict[str, Any]:
    return {
        "ok": not tally.violations and tally.kills >= wanted * KILLED_SHARE_MIN,
        "seconds": round(seconds),
        "lines": sum(lines.values()),
        "kills": tally.kills,
        "not_reached": tally.missed,
        "distinct_lines_killed": len(tally.places),
        "lines_by_unit": lines,
        "kills_by_unit": kills,
        "violations": tally.violations,
    }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", default=",".join(UNITS), help=f"of {', '.join(UNITS)}")
    parser.add_argument(
        "--sample", type=int, default=0, help="so many lines of each unit, evenly spread; 0: every line"
    )
    parser.add_argument("--broker", choices=("postgres", "kafka"), default="postgres")
    given = parser.parse_args()
    figures = asyncio.run(sweep_all(given.units.split(","), given.sample, given.broker == "kafka"))
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
