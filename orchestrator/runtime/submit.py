"""Acts of people and services over HTTP: those that come together share one transaction.

Rules of this file
- An act is decided and committed when `submit` returns. Nothing is queued behind a crash: what was not answered was not
  promised.
- The queue is bounded; a full one is refused at once (BusyError), so that a caller can answer 503 and be asked again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from orchestrator.runtime.supervisor import Stopping
from orchestrator.runtime.work import Item, Outcome

Process = Callable[[Sequence[Item]], Awaitable[list[Outcome]]]


class BusyError(Exception):
    """Too many acts wait already, or the process is stopping; asking again later may help."""

    retriable = True


class Submitter:
    """Processes acts in batches: the first one at once, those that come meanwhile after some `wait_ms` milliseconds."""

    def __init__(self, process: Process, *, wait_ms: int, acts_max: int, waiting_max: int) -> None:
        self._process = process
        self._wait_seconds = wait_ms / 1000
        self._acts_max = acts_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome]]] = deque()
        self._flushing: set[asyncio.Task[None]] = set()
        self._collecting = False
        self._stopping = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def submit(self, item: Item) -> Outcome:
        """Decides one act. Raises BusyError when too many wait, StoreError when the database cannot do it now."""
        if self._stopping or len(self._waiting) >= self._waiting_max:
            raise BusyError("too many acts wait to be decided; try again in a moment")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not self._collecting:
            self._collecting = True
            self._collect()
        # A request that gives up cancels its own future alone: the act is decided with the others of its batch.
        return await future

    async def run(self, stopping: Stopping) -> None:
        """Waits to be stopped; then takes no more acts and finishes those that wait."""
        await stopping.wait()
        self._stopping = True
        while self._flushing:
            await asyncio.wait(self._flushing)

    def _collect(self) -> None:
        # In a context of its own: what is decided is not of one request's trace alone, whoever came first.
        task = asyncio.create_task(self._flush(), name="submit", context=Context())
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    async def _flush(self) -> None:
        # Alone, an act goes at once, with what came in the same moment. Only while others are being committed does it
        # pay to wait for company: their transaction and this one would queue for the same disk.
        await asyncio.sleep(self._wait_seconds if len(self._flushing) > 1 else 0)
        self._collecting = False
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._acts_max))]
        if self._waiting:
            self._collecting = True
            self._collect()
        try:
            outcomes = await self._process([item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # the caller may be gone; nobody else will look
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)
