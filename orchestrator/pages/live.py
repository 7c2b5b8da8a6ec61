"""Hints that something changed, for open pages: topic and position, never data.

Rules of this file
- One poller for each process reads which sagas got records, whoever wrote them; the write path knows nothing of it.
- A stream keeps a set of topics that changed, not a queue: a slow reader loses nothing and holds nothing up.
- A hint tells only that a page should ask again, through its own authorised route; so it needs no rights of its own
  beyond the tenant's. A stream ends after STREAM_SECONDS_MAX, and whoever comes back is asked for their rights anew.
- Streams are limited for each person and for the process; pages work without one.
- A poll reads RECORDS_MAX records at most. Where there were more, every topic of every tenant has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog

from orchestrator.store.contract import StoreError
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sql import load_queries

POLL_SECONDS = 0.5
IDLE_POLL_SECONDS = 2.0
BEAT_SECONDS = 10.0  # a page that hears nothing for longer says that live updates are paused
COALESCE_SECONDS = 1.0  # between two hints of one stream
STREAM_SECONDS_MAX = 300.0
STREAMS_MAX = 400  # of the process; the server takes 1,000 connections
STREAMS_OF_ONE_MAX = 16
TOPICS_MAX = 8
RECORDS_MAX = 2_000

log = structlog.get_logger("orchestrator.pages")


@dataclass(eq=False, slots=True)
class Stream:
    """One open page's wish to know. `changed` maps a topic to the position at which it changed last."""

    tenant: str
    topics: frozenset[str]
    changed: dict[str, int] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """Watches the feed of records, once for each process. `async with` starts and stops the watching."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._sql = load_queries("orchestrator.pages", "live.sql")
        self._streams: set[Stream] = set()
        self._of_one: Counter[tuple[str, str]] = Counter()
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self.position = 0
        """The last record that readers may see, as last asked."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch(), name="pages-live")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self) -> int:
        """Seals what is committed and gives the last position, so that a page's own act is before it.

        Raises StoreError.
        """
        await self._store.seal()
        async with self._store.pools.connection("read") as connection:
            self.position = max(self.position, (await connection.fetchrow(self._sql["head"]))["position"])
        return self.position

    # --- streams ------------------------------------------------------------------------------------------------------

    def has_room(self, tenant: str, person: str) -> bool:
        """False where somebody has STREAMS_OF_ONE_MAX streams open, or the process STREAMS_MAX."""
        return len(self._streams) < STREAMS_MAX and self._of_one[tenant, person] < STREAMS_OF_ONE_MAX

    @contextmanager
    def stream(self, tenant: str, person: str, topics: frozenset[str]) -> Iterator[Stream]:
        """While inside, changes of these topics are noted."""
        who = (tenant, person)
        opened = Stream(tenant, topics)
        self._streams.add(opened)
        self._of_one[who] += 1
        self._wanted.set()
        try:
            yield opened
        finally:
            self._streams.discard(opened)
            self._of_one[who] -= 1
            if not self._of_one[who]:
                del self._of_one[who]

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    async def hints(self, stream: Stream, *ends: asyncio.Event) -> AsyncIterator[bytes]:
        """What is sent on a stream, until its time is over or one of `ends` is set: hints, and beats between them."""
        clock = asyncio.get_running_loop().time
        over, last = clock() + STREAM_SECONDS_MAX, clock()
        yield b"retry: 2000\n\n" + self._beat()
        while clock() < over:
            woken = await _first_of(stream.woken, *ends, seconds=BEAT_SECONDS)
            if woken:
                await _first_of(*ends, seconds=max(0.0, last + COALESCE_SECONDS - clock()))
            if any(end.is_set() for end in ends):
                return
            if not woken:
                yield self._beat()
                continue
            stream.woken.clear()
            changed, stream.changed = stream.changed, {}
            last = clock()
            yield b"".join(_message(topic, position) for topic, position in sorted(changed.items()))

    def _beat(self) -> bytes:
        return f'event: beat\ndata: {{"position":{self.position}}}\n\n'.encode()

    # --- watching -----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                if self._streams:
                    await self._poll()
                else:
                    await self._look()
            except StoreError as error:
                log.warning("open pages hear nothing: the database cannot be asked", error=str(error)[:200])
            # Soon where pages are open; else in a while, or when one is.
            if self._streams:
                await asyncio.sleep(POLL_SECONDS)
            else:
                self._wanted.clear()
                await _first_of(self._wanted, seconds=IDLE_POLL_SECONDS)

    async def _look(self) -> None:
        async with self._store.pools.connection("read") as connection:
            self.position = max(self.position, (await connection.fetchrow(self._sql["head"]))["position"])

    async def _poll(self) -> None:
        since = self.position
        if await self.refresh() == since:
            return
        async with self._store.pools.connection("read") as connection:
            rows = await connection.fetch(self._sql["changed_since"], since, RECORDS_MAX)
        seen = max((row["position"] for row in rows), default=since)
        if seen < self.position:
            self._everything_changed()
            return
        self.position = max(self.position, seen)
        for row in rows:
            self._changed(row["tenant"], row["saga_id"], row["of_task"], row["position"])

    def _changed(self, tenant: str, saga_id: str, of_task: bool, position: int) -> None:
        topics = {f"saga:{saga_id}", "sagas"} | ({"tasks"} if of_task else set())
        for stream in self._streams:
            if stream.tenant == tenant:
                for topic in topics & stream.topics:
                    stream.changed[topic] = position
                    stream.woken.set()

    def _everything_changed(self) -> None:
        for stream in self._streams:
            stream.changed = dict.fromkeys(stream.topics, self.position)
            stream.woken.set()


def _message(topic: str, position: int) -> bytes:
    """`event: hint-saga` for the topic saga:...: a page knows which saga it has asked for."""
    return f'event: hint-{topic.partition(":")[0]}\ndata: {{"position":{position}}}\n\n'.encode()


async def _first_of(*events: asyncio.Event, seconds: float) -> bool:
    """True when one of the events is set, False when the time is over."""
    if any(event.is_set() for event in events):
        return True
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)
