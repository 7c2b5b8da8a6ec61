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
from typing import Any

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


def hunt(planted: Mutation, first: int, most: int) -> tuple[int, str, int]:
    """Plants the bug into this process and runs schedules: how many (0: never), what was noticed, the seed."""
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
                return done, str(error).partition("\n")[0], error.seed
    return 0, "", 0


def replay(theme: str, seed: int) -> str:
    """The same schedule on the kernel as it is: what is wrong with it, or ""."""
    from orchestrator.testing.exploring import ScheduleError, run_schedule
    from tests.kernel.flows import scenario

    drawn = scenario(Random(seed // 100), theme)
    try:
        if drawn is not None:
            run_schedule(drawn, seed)
    except ScheduleError as error:
        return str(error).partition("\n")[0]
    return ""


def judge(planted: Mutation, first: int = 0, most: int = SCHEDULES_MAX) -> Verdict:
    """One planted bug, in a process of its own. Raises RuntimeError where the kernel itself fails that schedule."""
    start = time.monotonic()
    schedules, cause, seed = _apart("--one", planted.name, str(first), str(most))
    wrong = _apart("--replay", planted.theme, str(seed)) if schedules else ""
    if wrong:
        raise RuntimeError(f"{planted.name}: the kernel without it fails, too: {wrong}")
    return Verdict(planted.name, schedules, cause, time.monotonic() - start)


def _apart(*arguments: str) -> Any:
    """What this program prints, as JSON, in a process that has imported nothing yet."""
    command = [sys.executable, "-m", "tests.kernel.mutations", *arguments]
    environment = dict(os.environ, PYTHONHASHSEED="0")
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {made.stderr[-2000:]}")
    return json.loads(made.stdout)


def judge_all(bugs: Iterable[Mutation], first: int = 0, most: int = SCHEDULES_MAX, jobs: int = 2) -> Iterator[Verdict]:
    """All of them, side by side, in order."""
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(lambda bug: judge(bug, first, most), bugs)
