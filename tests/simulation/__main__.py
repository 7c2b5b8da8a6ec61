"""python -m tests.simulation --seeds N [--first K] [--processes P]: many whole-runtime schedules.

Ends with 1 where a schedule breaks an invariant: it is then made smaller, and printed with its trace.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.schedule import ScheduleError, run_seed
from tests.simulation.shrink import shrink

SLICE = 50


@dataclass(slots=True)
class Tally:
    """What some schedules came to."""

    schedules: int = 0
    records: int = 0
    commits: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    broken: list[int] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Takes another one in."""
        self.schedules += other.schedules
        self.records += other.records
        self.commits += other.commits
        self.ended += other.ended
        self.broken += other.broken
        self.traces += other.traces


def run_slice(first: int, count: int) -> Tally:
    """Some seeds, one after the other."""
    tally = Tally()
    for seed in range(first, first + count):
        tally.schedules += 1
        try:
            result = run_seed(seed)
        except ScheduleError:
            tally.broken.append(seed)
            continue
        tally.records += result.records
        tally.commits += result.commits
        tally.ended += Counter(result.ended)
        tally.traces.append(f"trace {seed} {result.digest}")
    return tally


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--traces", action="store_true", help="print the hash of every trace")
    given = parser.parse_args()
    began, total = time.monotonic(), Tally()
    last = given.first + given.seeds
    firsts = range(given.first, last, SLICE)
    counts = [min(SLICE, last - first) for first in firsts]
    with ProcessPoolExecutor(given.processes) as pool:
        for tally in pool.map(run_slice, firsts, counts):
            total.add(tally)
            sys.stderr.write(f"{total.schedules} schedules, {total.records} records, broken {total.broken}\n")
    if given.traces:
        sys.stdout.write("".join(f"{line}\n" for line in total.traces))
    if total.broken:
        sys.stdout.write(f"{shrink(total.broken[0])}\n")
    rate = total.schedules / max(time.monotonic() - began, 0.001)
    sys.stdout.write(
        f"{total.schedules} whole-runtime schedules, {total.records} records, {total.commits} commits, {rate:.1f}/s; "
        f"sagas ended {dict(sorted(total.ended.items()))}; broken: {total.broken or 'none'}\n"
    )
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main())
