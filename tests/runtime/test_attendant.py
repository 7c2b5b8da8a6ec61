"""Participants inside a process: begun anew after errors that pass, loud after errors that a person must mend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.participants import ParticipantError
from orchestrator.runtime.attendant import Attendant
from orchestrator.runtime.supervisor import Stopping


class FakeWorker:
    """A worker that ends as it is told."""

    def __init__(self, end: Callable[[], Exception | None]) -> None:
        self.progressed_at = time.monotonic()
        self._end = end

    async def run(self) -> None:
        error = self._end()
        if error is not None:
            raise error
        await asyncio.sleep(60)


def attendant_of(*ends: Exception | None) -> tuple[Attendant, list[Any]]:
    made: list[Any] = []
    waiting = list(ends)

    def make() -> Any:
        made.append(FakeWorker(lambda: waiting.pop(0) if waiting else None))
        return made[-1]

    return Attendant("till", make, 1_000), made


async def test_a_worker_whose_connection_broke_is_begun_anew() -> None:
    attendant, made = attendant_of(OSError("reset"), ExceptionGroup("two", [OSError("reset")]))
    stopping = Stopping()
    running = asyncio.create_task(attendant.run(stopping))
    async with asyncio.timeout(60):
        while len(made) < 3:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert len(made) == 3
    assert not running.done()
    stopping.ask()
    await asyncio.wait_for(running, 60)


async def test_what_a_person_must_mend_ends_the_process() -> None:
    attendant, _ = attendant_of(ExceptionGroup("one", [ParticipantError("two handlers for one command")]))
    with pytest.raises(ExceptionGroup):
        await attendant.run(Stopping())
