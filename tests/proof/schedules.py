"""Random schedules of random flows, counted. By hand: python -m tests.proof.schedules 30000

Rules of this file
- Flow number n has the n-th theme, in turn: chance alone and every aimed theme get their share.
- What breaks an invariant is told with the command that repeats it; the others go on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from random import Random

from orchestrator.testing.exploring import ScheduleError, root_id, run_schedule
from tests.kernel.flows import AIMED, THEMES, scenario

SEEDS_PER_FLOW = 1_000
PER_FLOW = 10  # schedules: making a flow costs as much as three of them
SLICE_FLOWS = 100  # of one task of a process
ALL_THEMES = (*THEMES, *AIMED)


@dataclass(slots=True)
class Tally:
    """What some schedules came to. `broken`: (theme, flow, seed, what was broken)."""

    schedules: int = 0
    records: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[str, int, int, str]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Takes another one in."""
        self.schedules += other.schedules
        self.records += other.records
        self.ended += other.ended
        self.faults += other.faults
        self.broken += other.broken

    def words(self) -> str:
        """For the report."""
        ended = ", ".join(f"{count:,} {phase}" for phase, count in self.ended.most_common())
        rate = self.schedules / max(self.seconds, 0.001)
        lines = [
            f"{self.schedules:,} schedules in {self.seconds:,.0f} s ({rate:,.0f}/s), {self.records:,} records",
            f"ended: {ended}; faults that happened: {self.faults.total():,} of {len(self.faults)} kinds",
        ]
        lines += [
            f"BROKEN {what}\n  python -m tests.proof.schedules --theme {theme!r} --flow {flow} --seed {seed}"
            for theme, flow, seed, what in self.broken
        ]
        return "\n".join(lines if self.broken else [*lines, "broken: none"])


def theme_of(flow: int) -> str:
    """The theme of a flow, by its number."""
    return ALL_THEMES[flow % len(ALL_THEMES)]


def run_range(first: int, flows: int, per_flow: int = PER_FLOW) -> Tally:
    """`flows` random flows from `first` on, `per_flow` schedules of each."""
    tally = Tally()
    for number in range(first, first + flows):
        theme = theme_of(number)
        found = scenario(Random(number), theme)
        if found is None:
            continue  # no legal flow: the compiler refused it
        for seed in range(number * SEEDS_PER_FLOW, number * SEEDS_PER_FLOW + per_flow):
            tally.schedules += 1
            try:
                world = run_schedule(found, seed)
            except ScheduleError as error:
                tally.broken.append((theme, number, seed, str(error).partition("\n")[0]))
                continue
            tally.records += sum(state.version for state in world.states.values())
            tally.ended[world.states[root_id(found)].phase] += 1
            tally.faults += world.faults.fired
    return tally


def run_all(count: int, first: int = 0, jobs: int = 2, say: Callable[[str], object] = lambda text: None) -> Tally:
    """At least `count` schedules, from flow `first` on."""
    began, total, at = time.monotonic(), Tally(), first
    with ProcessPoolExecutor(jobs) as pool:
        while total.schedules < count:  # flows that are not legal give none
            slices = -(-(count - total.schedules) // (SLICE_FLOWS * PER_FLOW))
            firsts = range(at, at + slices * SLICE_FLOWS, SLICE_FLOWS)
            at += slices * SLICE_FLOWS
            for tally in pool.map(run_range, firsts, [SLICE_FLOWS] * slices):
                total.add(tally)
                total.seconds = time.monotonic() - began
                rate = total.schedules / total.seconds
                say(f"{total.schedules:,} schedules, {rate:,.0f}/s, {len(total.broken)} broken")
    return total


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=500_000)
    parser.add_argument("--first", type=int, default=0, help="the first flow")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--theme", default="", help="with --flow and --seed: one schedule, shown in words")
    parser.add_argument("--flow", type=int)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    if given.flow is not None and given.seed is not None:
        return _show(given.theme, given.flow, given.seed)
    total = run_all(given.count, given.first, given.jobs, lambda text: sys.stderr.write(f"{text}\n"))
    sys.stdout.write(total.words() + "\n")
    return 1 if total.broken else 0


def _show(theme: str, flow: int, seed: int) -> int:
    found = scenario(Random(flow), theme)
    if found is None:
        sys.stdout.write("no legal flow\n")
        return 2
    try:
        lines = run_schedule(found, seed).lines()
    except ScheduleError as error:
        sys.stdout.write("\n".join([*error.log, str(error).partition("\n")[0]]) + "\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
