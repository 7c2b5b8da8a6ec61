"""Runs the bank: one process per planted bug, schedules until something is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.kernel.mutations.mutation import ROOT, Mutation, plant
from tests.simulation.mutations.deciding import BUGS as DECIDING
from tests.simulation.mutations.relaying import BUGS as RELAYING
from tests.simulation.mutations.taking_in import BUGS as TAKING_IN

BANK: tuple[Mutation, ...] = (*DECIDING, *RELAYING, *TAKING_IN)
SCHEDULES_MAX = 1_500


@dataclass(frozen=True)
class Verdict:
    """What became of one planted bug: after how many schedules it was noticed (0: never), and how."""

    name: str
    schedules: int
    cause: str
    seconds: float

    @property
    def killed(self) -> bool:
        """Something was noticed."""
        return self.schedules > 0


def hunt(planted: Mutation, first: int, most: int) -> tuple[int, str]:
    """Plants the bug into this process and runs schedules: how many until it was noticed (0: never), and how."""
    plant(planted)
    from tests.simulation.schedule import ScheduleError, run_seed

    for seed in range(first, first + most):
        try:
            run_seed(seed)
        except ScheduleError as error:
            return seed - first + 1, str(error).partition("\n")[0]
    return 0, ""


def judge(planted: Mutation, first: int = 0, most: int = SCHEDULES_MAX) -> Verdict:
    """One planted bug, in a process of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.simulation.mutations", "--one", planted.name, str(first), str(most)]
    environment = dict(os.environ, PYTHONHASHSEED="0")
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"{planted.name}: {made.stderr[-2000:]}")
    found: Any = json.loads(made.stdout)
    return Verdict(planted.name, found[0], found[1], time.monotonic() - began)


def judge_all(bugs: Iterable[Mutation], first: int = 0, most: int = SCHEDULES_MAX) -> Iterator[Verdict]:
    """All of them, one after the other."""
    for bug in bugs:
        yield judge(bug, first, most)
