"""Whole-runtime schedules: production intake, coordinator, relay, timers and reconciler through a hostile world."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import shrink
from tests.simulation.plan import Plan
from tests.simulation.schedule import ScheduleError, run_seed

ROOT = Path(__file__).parents[2]
REGRESSIONS = Path(__file__).with_name("regressions.txt")
SCHEDULES = 300


def regressions() -> list[int]:
    """Seeds that once broke something: they run first."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def test_seeds_that_once_broke_something_hold() -> None:
    for seed in regressions():
        run_seed(seed)


def test_a_calm_world_ends_everything() -> None:
    """Without any fault every saga ends, and nothing is doubled or lost."""
    for seed in range(0, 80, 8):
        assert run_seed(seed, Plan.calm(seed)).records


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_random_schedules_break_no_invariant() -> None:
    """Crashes, unknown commits, lost answers, duplicates, zombies, days of downtime, wrong people; then it heals."""
    commits = sum(run_seed(seed).commits for seed in range(SCHEDULES))
    assert commits > SCHEDULES * 10, "a world in which little happens proves little"


def test_a_failing_schedule_is_made_smaller_until_nothing_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is what it takes to fail: here one fault, and at least three steps."""

    def fails(seed: int, plan: Plan) -> None:
        if plan.crashes and plan.steps >= 3:
            raise ScheduleError(plan, AssertionError("simulated"), [])

    monkeypatch.setattr(shrink, "run_seed", fails)
    seed = next(n for n in range(100) if Plan.of(n).crashes and Plan.of(n).steps > 5)
    text = shrink.shrink(seed)
    assert text.startswith(f"seed {seed}: AssertionError: simulated")
    assert "steps=3, processes=1, lanes=1" in text
    assert "weather=Weather(before=0.0, after=0.0, hang=0.0" in text
    assert "jumps=0.0, duplicates=0.0, garbage=0.0" in text


def test_one_seed_is_one_trace_in_every_process() -> None:
    """Bit for bit, whatever the hash seed: otherwise a failure could not be looked at."""
    made = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seeds", "6", "--first", "3", "--traces"]
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        made.append([line for line in done.stdout.splitlines() if line.startswith("trace")])
    assert len(made[0]) == 6
    assert made[0] == made[1]
