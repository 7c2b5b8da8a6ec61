"""Looks after one participant's worker as one loop of the process.

Rules of this file
- A worker that ends by an error that a person must mend (an old schema, a refused answer, a lost position) ends the
  process. By any other error, for example of the database's driver, it is begun anew: nothing of it is in memory only.
- Begun anew again and again without progress in between, it ends the process after all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import structlog

from orchestrator.participants.worker import Worker
from orchestrator.runtime.supervisor import Pulse, Stopping

BEAT_MS = 200
PAUSE_MS_FIRST = 100
PAUSE_MS_MAX = 5_000
FAILURES_MAX = 100  # in a row; at the longest pause that is about eight minutes

log = structlog.get_logger("orchestrator.participants")


class Attendant:
    """Runs a participant until asked to stop. `make` gives a fresh worker."""

    def __init__(self, participant: str, make: Callable[[], Worker], stall_ms: int) -> None:
        self.name = f"participant-{participant}"
        self.pulse = Pulse(self.name, stall_ms)
        self._make = make

    async def run(self, stopping: Stopping) -> None:
        """Runs until asked to stop. Raises what only a person can mend."""
        failures, pause_ms = 0, PAUSE_MS_FIRST
        while not stopping:
            worker = self._make()
            began = worker.progressed_at
            try:
                await self._watch(worker, began, stopping)
            except Exception as error:
                # A worker that came round its loop for a while has shown that it can: the next failures count anew.
                if worker.progressed_at - began > PAUSE_MS_MAX / 1000:
                    failures, pause_ms = 0, PAUSE_MS_FIRST
                failures += 1
                if failures > FAILURES_MAX or any(getattr(part, "retriable", None) is False for part in _parts(error)):
                    raise
                self.pulse.trouble(f"{type(error).__name__}: {error}")
                log.warning("a participant is begun anew", loop=self.name, error=repr(error), failures=failures)
                await stopping.sleep(pause_ms)
                pause_ms = min(pause_ms * 2, PAUSE_MS_MAX)

    async def _watch(self, worker: Worker, began: float, stopping: Stopping) -> None:
        working = asyncio.create_task(worker.run(), name=self.name)
        asked = asyncio.create_task(stopping.wait(), name=f"{self.name}-stop")
        try:
            while not stopping and not working.done():
                await asyncio.wait({working, asked}, timeout=BEAT_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
                if worker.progressed_at > began:
                    self.pulse.beat_at(worker.progressed_at)
                else:
                    self.pulse.trouble("waits for its partitions")
        finally:
            asked.cancel()
            working.cancel()
            await asyncio.wait({working})
        if not working.cancelled():
            working.result()  # raises what ended it
            if not stopping:
                raise RuntimeError("the worker returned although nobody had asked it to stop")


def _parts(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _parts(part)
    else:
        yield error
