"""Random schedules of random flows, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from orchestrator.testing.exploring import ScheduleError, root_id, run_schedule
from tests.kernel.flows import scenario

SEEDS_PER_FLOW = 1_000


@dataclass(slots=True)
class Tally:
    """What some schedules came to. `broken`: the seeds (flow, schedule) that broke an invariant."""

    schedules: int = 0
    records: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    broken: list[tuple[int, int]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Takes another one in."""
        self.schedules += other.schedules
        self.records += other.records
        self.ended += other.ended
        self.broken += other.broken


def run_range(first: int, flows: int, per_flow: int) -> Tally:
    """`flows` random flows from `first` on, `per_flow` schedules of each."""
    tally = Tally()
    for number in range(first, first + flows):
        found = scenario(Random(number))
        if found is None:
            continue  # no legal flow: the compiler refused it
        for seed in range(number * SEEDS_PER_FLOW, number * SEEDS_PER_FLOW + per_flow):
            tally.schedules += 1
            try:
                world = run_schedule(found, seed)
            except ScheduleError:
                tally.broken.append((number, seed))
                continue
            tally.records += sum(state.version for state in world.states.values())
            tally.ended[world.states[root_id(found)].phase] += 1
    return tally
