"""An event loop whose clock is a number: nothing waits, and the same seed runs the same way, bit for bit.

Rules of this file
- When nothing is ready, the clock moves to the next thing that is due. `jump` is a machine that was suspended: all
  clocks stand later at once, and everything overdue happens then.
- Modules that read the clock of the machine read this one while a schedule runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf, nextafter
from typing import Any

from orchestrator.runtime import hints, relay, supervisor
from tests.simulation import fake_consumer

ROUNDS_MAX = 400_000  # of the loop in one schedule: beyond it something turns in circles
OWNER: ContextVar[list[asyncio.Task[Any]] | None] = ContextVar("OWNER", default=None)


class StandstillError(AssertionError):
    """Everything waits for something, and nothing is due; or something turns in circles."""


class _NoSelector:
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.rounds = 0

    def select(self, timeout: float | None) -> list[Any]:
        """Nothing comes from outside: the time simply passes."""
        self.rounds += 1
        if self.rounds > ROUNDS_MAX:
            raise StandstillError(f"{ROUNDS_MAX} rounds of the event loop: something turns in circles")
        if timeout is None:
            raise StandstillError("everything waits, and nothing is due")
        self._loop.reach()
        return []

    def close(self) -> None:
        """Nothing to close."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = 1_000.0
        self._clock_resolution = 0.0
        self._selector = self.selector = _NoSelector(self)
        self.set_task_factory(_owned)

    def time(self) -> float:
        """Virtual seconds."""
        return self._virtual

    def jump(self, seconds: float) -> None:
        """Lets time pass at once."""
        self._virtual += seconds

    def reach(self) -> None:
        """The next thing is due: just after its instant, so that whoever waited until then finds it over."""
        if self._scheduled and not self._ready:  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, nextafter(self._scheduled[0]._when, inf))  # type: ignore[attr-defined]

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No other thread wakes it."""


def _owned(loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> asyncio.Task[Any]:
    """Notes which simulated process a task belongs to, so that killing the process ends all its tasks."""
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    mine = OWNER.get()
    if mine is not None:
        mine.append(task)
    return task


class _Clock:
    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic: Callable[[], float] = loop.time
        self._loop = loop

    def monotonic_ns(self) -> int:
        return int(self._loop.time() * 1_000_000_000)


@contextmanager
def virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """While this lasts, the runtime's clocks are the loop's."""
    modules: list[Any] = [hints, relay, supervisor, fake_consumer]
    before = [module.time for module in modules]
    for module in modules:
        module.time = _Clock(loop)
    try:
        yield
    finally:
        for module, real in zip(modules, before, strict=True):
            module.time = real
