"""The supervisor: every loop of a process in one group, watched, and stopped in order.

Rules of this file
- A loop that ends while nobody asked it to, by exception or by returning, ends the process, with its name and reason.
  Nothing runs on half dead.
- Ready means that every loop has made progress lately, not that a port is open. A loop says so itself (`Pulse.beat`) at
  the end of each round, also of one that found nothing to do; a round that hangs says nothing, and turns red. A loop
  that has not come round once is red: a process that has just started has shown nothing yet.
- Stopping is asked first (`stopping`), in the order in which loops were added; what has not ended in time is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

WATCH_MS = 500

log = structlog.get_logger("orchestrator.supervisor")


class LoopDiedError(Exception):
    """A loop ended although nobody had asked it to. The process must end; whoever started it starts it again."""

    retriable = False

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"loop {name} ended: {reason}")
        self.name, self.reason = name, reason


class Pulse:
    """When a loop last made progress. `stall_ms`: without progress for so long it counts as not ready.

    A loop that knows why it does not get on (the database is away) says so: it is not ready, but alive, and a restart
    would not help it. A loop that says nothing at all hangs.
    """

    def __init__(self, name: str, stall_ms: int) -> None:
        self.name = name
        self.stall_ms = stall_ms
        self.detail = "has not come round yet"  # why it does not get on, where the loop knows: "database away"
        self.begun = False
        self._beat_at = self._heard_at = time.monotonic()

    def beat(self) -> None:
        """A round is over, and nothing is wrong."""
        self.beat_at(time.monotonic())

    def beat_at(self, moment: float) -> None:
        """Progress was made at this reading of the monotonic clock, seconds."""
        self._beat_at = self._heard_at = max(self._beat_at, moment)
        self.begun, self.detail = True, ""

    def trouble(self, detail: str) -> None:
        """The loop lives, but cannot do its work: without a beat for `stall_ms` it is not ready."""
        self.detail = detail
        self._heard_at = time.monotonic()

    @property
    def silent_ms(self) -> int:
        """Milliseconds since the loop was last heard of."""
        return int((time.monotonic() - self._heard_at) * 1000)

    @property
    def age_ms(self) -> int:
        """Milliseconds since the last progress, or since the start where there was none."""
        return int((time.monotonic() - self._beat_at) * 1000)

    @property
    def ready(self) -> bool:
        """Progress was made, and lately."""
        return self.begun and self.age_ms <= self.stall_ms


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """One loop as health pages show it. `age_ms`: since its last progress; `stall_ms`: from when on it is not ready."""

    name: str
    ready: bool
    age_ms: int
    stall_ms: int
    detail: str


class Stopping:
    """A request to stop that loops can wait for while they sleep."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def ask(self) -> None:
        """Asks the loop to end after what it has under way."""
        self._event.set()

    async def sleep(self, ms: float) -> None:
        """Waits for so many milliseconds, or until asked to stop."""
        try:
            async with asyncio.timeout(ms / 1000):
                await self._event.wait()
        except TimeoutError:
            return

    async def wait(self) -> None:
        """Waits until asked to stop."""
        await self._event.wait()


@dataclass(slots=True)
class _Loop:
    name: str
    run: Callable[[Stopping], Awaitable[None]]
    stopping: Stopping
    pulse: Pulse | None


class Supervisor:
    """Runs loops until one dies or `stop` is called. `stop_ms_max`: for the whole stop; `stall_exit_ms` 0: never."""

    def __init__(self, *, stop_ms_max: int, stall_exit_ms: int = 0) -> None:
        self._stop_seconds_max = stop_ms_max / 1000
        self._stall_exit_ms = stall_exit_ms
        self._loops: list[_Loop] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = Stopping()
        self.lag_ms_max = 0  # how late the event loop was at worst
        self.on_lag: Callable[[float], None] | None = None  # told how late it was, seconds, at each look

    def add(
        self, name: str, run: Callable[[Stopping], Awaitable[None]], pulse: Pulse | None = None, *, first: bool = False
    ) -> None:
        """Adds a loop. Loops are asked to stop in the order in which they were added, one after the other."""
        self._loops.insert(0 if first else len(self._loops), _Loop(name, run, Stopping(), pulse))

    def health(self) -> list[LoopHealth]:
        """How every loop with a pulse is."""
        found = []
        for loop in self._loops:
            pulse = loop.pulse
            if pulse is not None:
                alive = loop.name not in self._tasks or not self._tasks[loop.name].done()
                ready = pulse.ready and alive and not self._stopping
                found.append(LoopHealth(loop.name, ready, pulse.age_ms, pulse.stall_ms, pulse.detail))
        return found

    @property
    def ready(self) -> bool:
        """Every loop has made progress lately, and nobody has asked to stop."""
        return not self._stopping and all(item.ready for item in self.health())

    def stop(self) -> None:
        """Asks all loops to end; `run` returns when they have."""
        self._stopping.ask()

    async def run(self) -> None:
        """Runs until stopped. Raises LoopDiedError for the first loop that ended by itself."""
        try:
            async with asyncio.TaskGroup() as group:
                for loop in self._loops:
                    self._tasks[loop.name] = group.create_task(self._guard(loop), name=f"loop:{loop.name}")
                watch = group.create_task(self._watch(), name="loop:watch")
                await self._stopping.wait()
                watch.cancel()
                await self._stop_all()
        except* LoopDiedError as died:
            # Cancelled siblings are silent; of several that died together the first says why.
            raise _flat(died)[0] from None

    async def _guard(self, loop: _Loop) -> None:
        try:
            await loop.run(loop.stopping)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if loop.stopping:
                log.warning("loop failed while stopping", loop=loop.name, error=repr(error))
                return
            log.exception("loop died", loop=loop.name)
            raise LoopDiedError(loop.name, f"{type(error).__name__}: {error}") from error
        if not loop.stopping:
            raise LoopDiedError(loop.name, "it returned although nobody had asked it to stop")

    async def _stop_all(self) -> None:
        deadline = time.monotonic() + self._stop_seconds_max
        for loop in self._loops:
            loop.stopping.ask()
            task = self._tasks[loop.name]
            _, late = await asyncio.wait({task}, timeout=max(0.0, deadline - time.monotonic()))
            if late:
                log.warning("loop did not stop in time and is cut", loop=loop.name)
                task.cancel()

    async def _watch(self) -> None:
        """Ends the process when a loop has stalled for so long that only a fresh start can help."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(WATCH_MS / 1000)
            # A loop that runs long without awaiting holds up heartbeats of broker and database: pitfall of all asyncio.
            lag = max(0.0, time.monotonic() - began - WATCH_MS / 1000)
            self.lag_ms_max = max(self.lag_ms_max, int(lag * 1000))
            if self.on_lag is not None:
                self.on_lag(lag)
            for loop in self._loops:
                if loop.pulse is not None and self._stall_exit_ms and loop.pulse.silent_ms > self._stall_exit_ms:
                    raise LoopDiedError(loop.name, f"nothing heard of it for {loop.pulse.silent_ms} ms")


def _flat(group: BaseExceptionGroup[LoopDiedError]) -> list[LoopDiedError]:
    found: list[LoopDiedError] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
