"""Wake-up hints: who has appended tells who might wait. Polling is what counts; a hint only makes it sooner.

Within the process a hint is an event. Between processes it is a NOTIFY in a transaction of its own, never in the
append's (it takes a lock on the whole database at commit), at most one per process in a short interval, and not waiting
for the disk. A listener's connection that dies is silent, so it is asked now and then; where LISTEN does not work (a
pooler of transactions), nothing is lost but some milliseconds.
"""

import asyncio
import logging
import uuid
from collections.abc import Iterable
from typing import Any

from orchestrator.broker.contract import BrokerError
from orchestrator.broker.postgres_database import SQL, Database
from orchestrator.broker.settings import BrokerSettings

logger = logging.getLogger(__name__)

CHANNEL = "broker_hint"
_EVERYTHING = "*"
_PAYLOAD_BYTES_MAX = 7_900  # PostgreSQL refuses 8,000
_CHECK_INTERVAL_S = 15.0
_RETRY_S = 5.0


class Hints:
    """The hints of one process. Keys are topic ids as text, or ``g:`` and a group's name."""

    def __init__(self, database: Database, settings: BrokerSettings) -> None:
        """Nothing is sent before the first ``poke``, nothing listened to before the first ``event``."""
        self._database = database
        self._interval_s = settings.postgres_hint_interval_ms / 1000
        self._process = uuid.uuid4().hex[:12]
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._pending: set[str] = set()
        self._sender: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._closed = False

    def subscribe(self, event: asyncio.Event, keys: Iterable[str]) -> None:
        """Set ``event`` whenever somebody hints at one of the keys, until ``unsubscribe``."""
        for key in keys:
            self._waiting.setdefault(key, set()).add(event)
        if self._listener is None and not self._closed:
            self._listener = asyncio.create_task(self._listen(), name="broker-hints-listen")

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Forget the event."""
        for events in self._waiting.values():
            events.discard(event)

    def poke(self, keys: Iterable[str]) -> None:
        """Wake whoever waits for one of the keys, here at once and elsewhere soon."""
        keys = set(keys)
        self._wake(keys)
        self._pending |= keys
        if (self._sender is None or self._sender.done()) and not self._closed:
            self._sender = asyncio.create_task(self._send(), name="broker-hints-send")

    async def close(self) -> None:
        """Send what is pending, then end. Idempotent."""
        self._closed = True
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=1.0)
        for task in (self._sender, self._listener):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _wake(self, keys: Iterable[str]) -> None:
        for key in keys:
            for event in self._waiting.get(key, ()):
                event.set()

    async def _send(self) -> None:
        while self._pending:
            keys, self._pending = self._pending, set()
            text = ",".join(sorted(keys))
            if len(text.encode()) > _PAYLOAD_BYTES_MAX:
                text = _EVERYTHING
            try:
                await self._database.rows("hint", CHANNEL, f"{self._process} {text}")
            except BrokerError as error:
                logger.debug("a wake-up hint was not sent: %s", error)
            await asyncio.sleep(self._interval_s)

    async def _listen(self) -> None:
        while not self._closed:
            try:
                connection = await self._database.connect_alone()
            except BrokerError as error:
                logger.debug("no connection for wake-up hints, polling goes on: %s", error)
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                await connection.add_listener(CHANNEL, self._heard)
                self._wake(list(self._waiting))  # what was said before we listened
                while True:
                    await asyncio.sleep(_CHECK_INTERVAL_S)
                    await connection.fetchval(SQL["alive"], timeout=5)
            except Exception as error:
                logger.info("the connection for wake-up hints was lost, polling goes on: %s", error)
                await asyncio.sleep(_RETRY_S)
            finally:
                connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        process, _, text = str(payload).partition(" ")
        if process != self._process:
            self._wake(list(self._waiting) if text == _EVERYTHING else text.split(","))
