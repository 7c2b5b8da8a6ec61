"""Runs the bank: one process per planted bug, schedules until the checker notices.

Rules of this file
- Nothing of the kernel is imported here but the shapes of graphs: a bug is planted into a process that was forked
  before the kernel was loaded. What all of them need, flows and their contracts, is made before.
- A schedule that shows a bug is run once more on the kernel as it is; where that fails too, nothing was proved.
"""

from __future__ import annotations

import json
import os
import select
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from tests.kernel.flow_drawing import Drawn, draw
from tests.kernel.mutations.around import BUGS as AROUND
from tests.kernel.mutations.desk import BUGS as DESK
from tests.kernel.mutations.doing import BUGS as DOING
from tests.kernel.mutations.flowing import BUGS as FLOWING
from tests.kernel.mutations.going_back import BUGS as GOING_BACK
from tests.kernel.mutations.mutation import Mutation, StaleMutationError, plant
from tests.kernel.mutations.people import BUGS as PEOPLE
from tests.kernel.mutations.scopes import BUGS as SCOPES
from tests.kernel.mutations.sending import BUGS as SENDING

BANK: tuple[Mutation, ...] = (*DOING, *SENDING, *FLOWING, *GOING_BACK, *SCOPES, *PEOPLE, *DESK, *AROUND)
PER_FLOW = 6  # schedules of one random flow: making a flow costs as much as three schedules
SCHEDULES_MAX = 6000
FLOWS_KEPT = 25  # of each theme

_kept: dict[tuple[int, str], Drawn | None] = {}


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
    if plant(planted):
        _kept.clear()
    from orchestrator.testing.exploring import ScheduleError, run_schedule
    from tests.kernel.flows import staged

    done, flow = 0, first
    while done < most and flow < first + most:  # where hardly any flow is legal
        flow += 1
        drawn = _drawn(flow, planted.theme)
        if drawn is None:
            continue
        scenario = staged(drawn, planted.theme)
        for number in range(PER_FLOW):
            done += 1
            try:
                run_schedule(scenario, flow * 100 + number)
            except ScheduleError as error:
                return done, str(error).partition("\n")[0], error.seed
    return 0, "", 0


def replay(theme: str, seed: int) -> str:
    """The same schedule on the kernel as it is: what is wrong with it, or ""."""
    from orchestrator.testing.exploring import ScheduleError, run_schedule
    from tests.kernel.flows import staged

    drawn = _drawn(seed // 100, theme)
    try:
        if drawn is not None:
            run_schedule(staged(drawn, theme), seed)
    except ScheduleError as error:
        return str(error).partition("\n")[0]
    return ""


def warm(themes: Iterable[str], first: int = 0) -> None:
    """Makes the flows that most bugs are found with, before anything is forked."""
    for theme in dict.fromkeys(themes):
        for flow in range(first + 1, first + 1 + FLOWS_KEPT):
            if (flow, theme) not in _kept:
                _kept[flow, theme] = draw(Random(flow), theme)


def applied(bugs: Iterable[Mutation]) -> None:
    """Raises StaleMutationError that names every bug whose text is not in the code any more."""
    stale = []
    for planted in bugs:
        try:
            planted.sources()
        except StaleMutationError as error:
            stale.append(str(error))
    if stale:
        raise StaleMutationError("\n\n".join(stale))


def _drawn(flow: int, theme: str) -> Drawn | None:
    if (flow, theme) in _kept:
        return _kept[flow, theme]
    from tests.kernel import flow_drawing  # perhaps not the one of above: a bug may be planted into the compiler

    return flow_drawing.draw(Random(flow), theme)


def judge(planted: Mutation, first: int = 0, most: int = SCHEDULES_MAX) -> Verdict:
    """One planted bug, in a process of its own. Not noticed is also what the kernel as it is shows in that schedule."""
    start = time.monotonic()
    schedules, cause, seed = _result(*_fork(lambda: hunt(planted, first, most)))
    wrong = _result(*_fork(lambda: replay(planted.theme, seed))) if schedules else ""
    if wrong:
        schedules, cause = 0, f"the kernel without it fails, too: {wrong}"
    return Verdict(planted.name, schedules, cause, time.monotonic() - start)


def judge_all(bugs: Iterable[Mutation], first: int = 0, most: int = SCHEDULES_MAX, jobs: int = 2) -> Iterator[Verdict]:
    """All of them, `jobs` at a time, as they are done. Call it where nothing of the kernel is imported.

    Raises StaleMutationError, before any is tried, where one does not fit the code.
    """
    bugs = list(bugs)
    applied(bugs)
    warm((bug.theme for bug in bugs), first)
    waiting, running = bugs[::-1], dict[int, int]()  # pipe -> process
    while waiting or running:
        while waiting and len(running) < jobs:
            planted = waiting.pop()
            pipe, pid = _fork(lambda planted=planted: asdict(judge(planted, first, most)))  # type: ignore[misc]
            running[pipe] = pid
        for pipe in select.select(list(running), [], [])[0]:
            yield Verdict(**_result(pipe, running.pop(pipe)))


def _fork(call: Callable[[], Any]) -> tuple[int, int]:
    """Starts a process that makes this call: the end of its pipe to read from, and its id."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return read, pid
    try:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            json.dump(_said(call), pipe)
    finally:
        os._exit(0)  # nothing of the parent's goes on here, whatever happens


def _said(call: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"made": call()}
    except BaseException:
        return {"raised": traceback.format_exc()[-3000:]}


def _result(pipe: int, pid: int) -> Any:
    """What the call gave. Raises RuntimeError with what it raised."""
    with os.fdopen(pipe) as reader:
        text = reader.read()
    os.waitpid(pid, 0)
    said = json.loads(text or '{"raised": "it died without a word"}')
    if "raised" in said:
        raise RuntimeError(said["raised"])
    return said["made"]
