"""What one seed draws: the shape of a schedule."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any

from orchestrator.config import FOUR_EYES
from orchestrator.kernel.turn import Limits
from orchestrator.testing.exploring.faults import Rates
from orchestrator.testing.exploring.planning import AIMED_ACTS, AIMED_AT
from orchestrator.testing.exploring.world import Aim
from tests.simulation.faults import Weather

STEPS_MAX = 40
FLOWS_PER_SEED = 8  # seeds that share a flow: making one costs as much as several schedules
AIMED = (*AIMED_ACTS, "crash", "crash", "freeze", "pause", "settle", "take_over")


def of_the_desk(seed: int) -> bool:
    """Every eighth flow is one of little else than tasks, with people who work on them; others stay what they were."""
    return seed // FLOWS_PER_SEED % 8 == 6


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule: who runs, how often things go wrong, how long it is hostile."""

    seed: int
    rates: Rates
    weather: Weather
    aim: Aim
    steps: int
    processes: int
    lanes: int
    partitions: int
    sagas: int
    cache: int
    turn_records: int
    batch: int
    memory_rows: int
    events: float = 0.25
    crashes: float = 0.0
    jumps: float = 0.1
    duplicates: float = 0.0
    garbage: float = 0.0
    freezes: float = 0.0
    two_people: bool = False  # for dangerous acts of operators
    desk: float = 0.0  # people claim, stand in for others, reassign, comment

    @classmethod
    def of(cls, seed: int) -> Plan:
        """What this seed draws."""
        random = Random(f"runtime {seed}")

        def some(most: float) -> float:
            return random.random() * most if random.random() < 0.5 else 0.0

        return cls(
            seed=seed,
            rates=Rates.swarm(random),
            weather=Weather.swarm(random),
            aim=Aim(random.choice(AIMED_AT), random.choice(AIMED)),
            steps=random.randrange(STEPS_MAX),
            processes=random.choice([1, 2, 2]),
            lanes=random.choice([1, 2]),
            partitions=random.choice([1, 2, 3]),
            sagas=random.choice([1, 1, 2, 3]),
            cache=random.choice([0, 1, 100, 100]),
            turn_records=random.choice([1, 2, 3, 10, 200, 200]),
            batch=random.choice([1, 3, 50]),
            memory_rows=100,
            crashes=some(0.15),
            jumps=some(0.3),
            duplicates=some(0.2),
            garbage=some(0.1),
            freezes=some(0.1),
            two_people=random.random() < 0.4,
            desk=1.0 if of_the_desk(seed) else 0.0,
        )

    @classmethod
    def calm(cls, seed: int) -> Plan:
        """The same without anything going wrong."""
        drawn = cls.of(seed)
        names = {"events", "crashes", "jumps", "duplicates", "garbage", "freezes"}
        quiet: dict[str, Any] = dict.fromkeys(names, 0.0)
        return replace(drawn, rates=Rates(), weather=Weather(), aim=Aim(), turn_records=200, **quiet)

    def limits(self) -> Limits:
        """The kernel's limits."""
        return Limits(turn_records_max=self.turn_records, two_people=FOUR_EYES if self.two_people else frozenset())

    def smaller(self) -> list[Plan]:
        """The same with one thing less: fewer faults first, then fewer inputs."""
        found = []
        for name in ("rates", "weather"):
            part = getattr(self, name)
            for one in fields(part):
                if getattr(part, one.name):
                    found.append(replace(self, **{name: replace(part, **{one.name: 0.0})}))
        for name in ("crashes", "jumps", "duplicates", "garbage", "freezes", "events", "desk"):
            if getattr(self, name):
                found.append(replace(self, **{name: 0.0}))  # type: ignore[arg-type]
        if self.aim.record:
            found.append(replace(self, aim=Aim()))
        for name in ("processes", "lanes", "partitions", "sagas"):
            if getattr(self, name) > 1:
                found.append(replace(self, **{name: 1}))  # type: ignore[arg-type]
        shorter = (self.steps // 2, self.steps - 1)
        found += [replace(self, steps=steps) for steps in shorter if 0 <= steps < self.steps]
        return found
