"""Reading from the log in PostgreSQL: one statement asks for all partitions at once, from positions kept here.

Rules:
- Positions live in memory, begin where the position source says, and move only when messages are returned. So a fetch
  that is cancelled or fails has lost nothing.
- Offsets are dense. A gap therefore means that retention was faster than the reader, and is an error, never a jump.
- The pause between two looks grows while nothing comes, and a hint ends it; without hints it is all that is needed.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

import asyncpg

from orchestrator.broker.contract import (
    Assignment,
    BrokerError,
    BrokerSetupError,
    IncomingMessage,
    PositionLostError,
    PositionSource,
)
from orchestrator.broker.postgres_database import Database, Place, Topic
from orchestrator.broker.postgres_group import Membership
from orchestrator.broker.postgres_hints import Hints
from orchestrator.broker.settings import BrokerSettings
from orchestrator.store.headers import unpack

logger = logging.getLogger(__name__)


class PostgresConsumer:
    """A ``Consumer`` on tables."""

    def __init__(
        self,
        database: Database,
        hints: Hints,
        group: str,
        topics: Sequence[str],
        positions: PositionSource,
        settings: BrokerSettings,
    ) -> None:
        """The connections belong to the broker."""
        self._database = database
        self._hints = hints
        self._group = group
        self._topic_names = list(topics)
        self._position_source = positions
        self._settings = settings
        self._names: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._membership: Membership | None = None
        self._positioned = -1  # the generation whose partitions were positioned
        self._next: dict[Place, int] = {}  # delivered up to, not including
        self._turn = 0  # which partition comes first in the next look
        self._pause_s = 0.0
        self._woken = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._stopped = False

    async def start(self) -> None:
        """See ``Consumer``."""
        topics = await self._database.topics(self._topic_names)
        missing = sorted(set(self._topic_names) - set(topics))
        if missing:
            raise BrokerSetupError(
                f"group {self._group}: the log has no topic {', '.join(missing)}; topics are made by ensure_topics"
            )
        self._remember(topics)
        membership = Membership(self._database, self._hints, self._group, list(topics.values()), self._settings)
        await membership.join()
        self._membership = membership
        self._hints.subscribe(self._woken, [str(topic_id) for topic_id in self._names])

    async def fetch(self, max_messages: int, wait_ms: int) -> list[IncomingMessage]:
        """See ``Consumer``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1000
        membership = self._running()
        while await self._settle(membership, deadline):
            if not self._resumed.is_set():
                await _wait_for(self._resumed, deadline)
                if not self._resumed.is_set():
                    return []
                continue
            self._woken.clear()
            generation = membership.generation
            rows = await self._look(max_messages)
            if membership.check() and generation == membership.generation and self._resumed.is_set() and rows:
                self._pause_s = 0.0
                return await self._take(rows)
            left_s = deadline - loop.time()
            if left_s <= 0:
                return []
            if generation == membership.generation and not rows:
                await self._nap(left_s)
        return []

    def assignment(self) -> frozenset[Assignment]:
        """See ``Consumer``."""
        return frozenset(self._named(place) for place in self._next) if self._is_positioned() else frozenset()

    def settled(self) -> bool:
        """See ``Consumer``."""
        membership = self._membership
        if membership is None or self._stopped or not membership.complete:
            return False
        return not membership.owned or self._positioned == membership.generation

    def generation(self) -> int:
        """See ``Consumer``."""
        return self._membership.generation if self._membership is not None else 0

    def positions(self) -> dict[Assignment, int]:
        """See ``Consumer``."""
        if not self._is_positioned():
            return {}
        return {self._named(place): offset for place, offset in self._next.items()}

    async def end_offsets(self) -> dict[Assignment, int]:
        """See ``Consumer``."""
        self._running()
        places = sorted(self._next) if self._is_positioned() else []
        return {self._named(place): end for place, (_, end) in (await self._bounds(places)).items()}

    async def commit(self, positions: Mapping[Assignment, int]) -> None:
        """See ``Consumer``."""
        membership = self._running()
        mine = {
            (self._ids[topic], number): offset
            for (topic, number), offset in positions.items()
            if (self._ids.get(topic, 0), number) in membership.owned
        }
        if not mine:
            return
        try:
            await membership.report(mine)
        except BrokerError as error:
            logger.debug("group %s: the commit for lag monitors was not taken: %s", self._group, error)

    async def pause(self) -> None:
        """See ``Consumer``."""
        self._resumed.clear()

    async def resume(self) -> None:
        """See ``Consumer``."""
        self._resumed.set()
        self._woken.set()

    async def stop(self) -> None:
        """See ``Consumer``."""
        if self._stopped:
            return
        self._stopped = True
        self._woken.set()
        self._resumed.set()
        self._hints.unsubscribe(self._woken)
        if self._membership is not None:
            self._membership.changed.set()
            await self._membership.leave()

    def _running(self) -> Membership:
        if self._membership is None or self._stopped:
            state = "was stopped" if self._stopped else "was not started"
            raise BrokerError(f"the consumer of group {self._group} {state}")
        return self._membership

    def _is_positioned(self) -> bool:
        membership = self._membership
        return (
            membership is not None
            and not self._stopped
            and self._positioned == membership.generation
            and bool(membership.owned)
        )

    def _remember(self, topics: Mapping[str, Topic]) -> None:
        self._names = {topic.topic_id: topic.name for topic in topics.values()}
        self._ids = {topic.name: topic.topic_id for topic in topics.values()}

    def _named(self, place: Place) -> Assignment:
        return self._names[place[0]], place[1]

    async def _settle(self, membership: Membership, deadline: float) -> bool:
        """Wait until we own partitions, and stand where the position source says."""
        while not self._stopped:
            membership.changed.clear()
            if membership.check() and membership.owned:
                if self._positioned == membership.generation:
                    return True
                await self._position(membership)
                continue
            await _wait_for(membership.changed, deadline)
            if not membership.changed.is_set():
                return False
            if asyncio.get_running_loop().time() >= deadline and not membership.owned:
                return False
        return False

    async def _position(self, membership: Membership) -> None:
        generation, owned = membership.generation, membership.owned
        wanted = await self._position_source(frozenset(self._named(place) for place in owned))
        bounds = await self._bounds(sorted(owned))
        positions: dict[Place, int] = {}
        for place in sorted(owned):
            start, end = bounds[place]
            position = wanted.get(self._named(place))
            if position is not None and not start <= position <= end:
                raise PositionLostError(*self._named(place), position, start, end)
            positions[place] = start if position is None else position
        if generation == membership.generation:
            self._next = positions
            self._positioned = generation

    async def _look(self, max_messages: int) -> list[asyncpg.Record]:
        # Another partition comes first each time, so that a full one cannot starve the others.
        places = list(self._next)
        self._turn = (self._turn + 1) % len(places)
        places = places[self._turn :] + places[: self._turn]
        return await self._database.rows(
            "fetch",
            [topic_id for topic_id, _ in places],
            [number for _, number in places],
            [self._next[place] for place in places],
            max_messages,
            self._settings.fetch_bytes_max,
        )

    async def _take(self, rows: Sequence[asyncpg.Record]) -> list[IncomingMessage]:
        following = dict(self._next)
        messages: list[IncomingMessage] = []
        for topic_id, number, offset, appended_at, key, value, headers in rows:
            place = (topic_id, number)
            if offset != following[place]:
                start, end = (await self._bounds([place]))[place]
                raise PositionLostError(*self._named(place), following[place], start, end)
            following[place] = offset + 1
            messages.append(
                IncomingMessage(self._names[topic_id], number, offset, key, value, unpack(headers), appended_at)
            )
        self._next = following
        return messages

    async def _bounds(self, places: Sequence[Place]) -> dict[Place, tuple[int, int]]:
        """Where each partition begins and ends."""
        if not places:
            return {}
        rows = await self._database.rows(
            "bounds", [topic_id for topic_id, _ in places], [number for _, number in places]
        )
        return {(row["topic_id"], row["partition"]): (row["start_offset"], row["next_offset"]) for row in rows}

    async def _nap(self, left_s: float) -> None:
        busy_s, idle_s = self._settings.postgres_poll_busy_ms / 1000, self._settings.postgres_poll_idle_ms / 1000
        self._pause_s = min(max(self._pause_s * 2, busy_s), idle_s)
        try:
            async with asyncio.timeout(min(self._pause_s, left_s)):
                await self._woken.wait()
        except TimeoutError:
            pass


async def _wait_for(event: asyncio.Event, deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        pass
