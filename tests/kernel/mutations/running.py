"""Runs the bank: one process per planted bug, schedules until the checker notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from tests.kernel.mutations.doing import BUGS as DOING
from tests.kernel.mutations.going_back import BUGS as GOING_BACK
from tests.kernel.mutations.mutation import ROOT, Mutation, plant
from tests.kernel.mutations.scopes import BUGS as SCOPES

BANK: tuple[Mutation, ...] = (*DOING, *GOING_BACK, *SCOPES)
PER_FLOW = 6  # schedules of one random flow: making a flow costs as much as three schedules
SCHEDULES_MAX = 6000


@dataclass(frozen=True)
class Verdict:
    """What became of one planted bug: after how many schedules it was noticed (0: never), and how."""

    name: str
    schedules: int
    cause: str
    seconds: float

    @property
    def killed(self) -> bool:
        """The checker has noticed it."""
        return self.schedules > 0


def hunt(planted: Mutation, first: int, most: int) -> tuple[int, str]:
    """Plants the bug into this process and runs schedules. How many it took (0: not found), and what was noticed."""
    plant(planted)
    from orchestrator.testing.exploring import ScheduleError, run_schedule
    from tests.kernel.flows import scenario

    done, flow = 0, first
    while done < most:
        flow += 1
        drawn = scenario(Random(flow), planted.theme)
        for number in range(PER_FLOW if drawn is not None else 0):
            done += 1
            try:
                run_schedule(drawn, flow * 100 + number)  # type: ignore[arg-type]
            except ScheduleError as error:
                return done, str(error).partition("\n")[0]
    return 0, ""


def judge(planted: Mutation, first: int = 0, most: int = SCHEDULES_MAX) -> Verdict:
    """One planted bug, in a process of its own."""
    command = [sys.executable, "-m", "tests.kernel.mutations", "--one", planted.name, str(first), str(most)]
    start = time.monotonic()
    environment = dict(os.environ, PYTHONHASHSEED="0")
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"{planted.name}: {made.stderr[-2000:]}")
    schedules, cause = json.loads(made.stdout)
    return Verdict(planted.name, schedules, cause, time.monotonic() - start)


def judge_all(bugs: Iterable[Mutation], first: int = 0, most: int = SCHEDULES_MAX, jobs: int = 2) -> Iterator[Verdict]:
    """All of them, side by side, in order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda bug: judge(bug, first, most), bugs)
