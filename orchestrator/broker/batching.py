"""Many sends, one append: shares an append among the callers that wait for it, and protects it from cancellation.

Rules:
- At most one append is under way per batcher, so what was sent first is appended first.
- What arrives meanwhile waits and goes together with the next append: load makes batches larger, not queues slower.
- The append runs in a task of its own. A caller that is cancelled gives up its answer, never the append: a driver that
  is cancelled inside a statement leaves a connection in an unknown state.
- The number of waiting messages is bounded; further senders wait for room.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from orchestrator.broker.contract import BrokerError, OutgoingMessage, SendError

Results = list[SendError | None]
Append = Callable[[Sequence[OutgoingMessage]], Awaitable[Results]]


class Batcher:
    """Hands waiting messages to ``append``, which must answer for each message in order."""

    def __init__(self, append: Append, *, linger_ms: int, append_messages_max: int, waiting_messages_max: int) -> None:
        """linger_ms: how long the first of a batch waits for company, milliseconds, 0 for none.

        append_messages_max: a batch takes callers until it has this many messages; one caller's are never split.
        waiting_messages_max: with more waiting, ``send`` waits before it takes a place.
        """
        self._append = append
        self._linger_s = linger_ms / 1000
        self._append_max = append_messages_max
        self._waiting_max = waiting_messages_max
        self._waiting: list[tuple[Sequence[OutgoingMessage], asyncio.Future[Results]]] = []
        self._waiting_count = 0
        self._room = asyncio.Event()
        self._room.set()
        self._worker: asyncio.Task[None] | None = None
        self._closed = False

    async def send(self, messages: Sequence[OutgoingMessage]) -> Results:
        """Queue the messages, wait for their append, return one result per message in order."""
        if not messages:
            return []
        while self._waiting_count >= self._waiting_max and not self._closed:
            self._room.clear()
            await self._room.wait()
        if self._closed:
            raise BrokerError("this producer was stopped; make a new one")
        answer: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        self._waiting.append((messages, answer))
        self._waiting_count += len(messages)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="broker-append")
        return await answer

    async def close(self, timeout_ms: int) -> None:
        """Refuse further sends and wait at most ``timeout_ms`` for those under way. Idempotent."""
        self._closed = True
        self._room.set()
        if self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker}, timeout=timeout_ms / 1000)
        for _, answer in self._waiting:
            if not answer.done():
                answer.set_exception(BrokerError("the producer was stopped before these messages were sent"))
        self._waiting.clear()
        if self._worker is not None and not self._worker.done():
            self._worker.cancel()
            await asyncio.wait({self._worker})

    async def _work(self) -> None:
        if self._linger_s:
            await asyncio.sleep(self._linger_s)
        while self._waiting:
            batch = self._take()
            messages: list[OutgoingMessage] = []
            for part, _ in batch:
                messages.extend(part)
            try:
                results = await self._append(messages)
                assert len(results) == len(messages), "append must answer for every message"
            except BaseException as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(_for_callers(error))
                if not isinstance(error, Exception):
                    raise
                continue
            start = 0
            for part, answer in batch:
                if not answer.done():  # the caller may have been cancelled
                    answer.set_result(results[start : start + len(part)])
                start += len(part)

    def _take(self) -> list[tuple[Sequence[OutgoingMessage], asyncio.Future[Results]]]:
        count = taken = 0
        for messages, _ in self._waiting:
            if taken and count + len(messages) > self._append_max:
                break
            taken += 1
            count += len(messages)
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        self._waiting_count -= count
        self._room.set()
        return batch


def _for_callers(error: BaseException) -> Exception:
    """Each caller gets the error, but a cancelled worker must not look like a cancelled caller."""
    return error if isinstance(error, Exception) else BrokerError(f"the append was given up: {type(error).__name__}")
