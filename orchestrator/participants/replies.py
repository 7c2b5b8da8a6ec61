"""Sending answers: in order, in batches, again and again until the broker has them.

An answer is in memory alone between its commit and here. That is safe, since its message counts as finished only when
the broker has the answer: after a crash the command is read again, and the stored outcome answers with the same bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.broker.contract import BrokerError, BrokerUnavailableError, OutgoingMessage, Producer
from orchestrator.participants.progress import Part
from orchestrator.participants.settings import ParticipantSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An answer and the part that it finishes."""

    message: OutgoingMessage
    part: Part


class Replies:
    """The one place of a participant that sends. `put` waits while too much is queued; `run` sends until cancelled."""

    def __init__(self, producer: Producer, settings: ParticipantSettings) -> None:
        self._producer = producer
        self._settings = settings
        self._queue: asyncio.Queue[list[Outgoing]] = asyncio.Queue(maxsize=64)
        self.waiting = 0

    async def put(self, outgoing: Sequence[Outgoing]) -> None:
        """Hands answers over, in order."""
        if outgoing:
            self.waiting += len(outgoing)
            await self._queue.put(list(outgoing))

    async def run(self) -> None:
        """Sends what was handed over. Raises BrokerError when the broker refuses an answer for good."""
        while True:
            batch = await self._queue.get()
            while len(batch) < self._settings.batch_messages * 4 and not self._queue.empty():
                batch += self._queue.get_nowait()
            await self._send(batch)

    async def _send(self, batch: list[Outgoing]) -> None:
        wait_ms = self._settings.retry_ms
        while batch:
            failed: list[Outgoing] = []
            try:
                results = await self._producer.send([item.message for item in batch])
            except BrokerUnavailableError as error:
                logger.warning("answers cannot be sent now: %s", error)
                failed = batch
            else:
                for item, refusal in zip(batch, results, strict=True):
                    if refusal is None:
                        item.part.finish()
                        self.waiting -= 1
                    elif refusal.retriable:
                        failed.append(item)
                    else:
                        raise BrokerError(f"the answer for {item.message.topic} was refused for good: {refusal}")
            batch = failed
            if batch:
                await asyncio.sleep(wait_ms / 1000)
                wait_ms = min(wait_ms * 2, self._settings.retry_ms_max)
