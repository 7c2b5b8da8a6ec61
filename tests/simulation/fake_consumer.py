"""A member of a group of the simulated broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from orchestrator.broker.contract import (
    Assignment,
    BrokerError,
    BrokerSetupError,
    IncomingMessage,
    PositionLostError,
    PositionSource,
)
from tests.simulation.fake_log import Log, Member
from tests.simulation.ports import Port


class FakeConsumer:
    """A `contract.Consumer`."""

    def __init__(
        self, log: Log, port: Port, group: str, topics: Sequence[str], positions: PositionSource, session_ms: int
    ) -> None:
        self._log, self._port, self._group = log, port, group
        self._topics, self._source, self._session_ms = tuple(topics), positions, session_ms
        self.member = Member(self._topics)
        self._next: dict[Assignment, int] = {}
        self._generation = 0
        self._positioned = False
        self._started = self._stopped = self._paused = False
        self._turn = 0
        self._fetched_at = time.monotonic()

    async def start(self) -> None:
        """Joins the group."""

        async def join() -> None:
            missing = [topic for topic in self._topics if topic not in self._log.topics]
            if missing:
                raise BrokerSetupError(f"there is no topic {missing[0]}: make it first")
            self._log.join(self._group, self.member)

        await self._port.call("join", join)
        self._started = True
        self._fetched_at = time.monotonic()

    async def fetch(self, max_messages: int, wait_ms: int) -> list[IncomingMessage]:
        """The next messages; empty after about `wait_ms`."""
        if self._stopped or not self._started:
            raise BrokerError("the consumer is not running")
        self._say_hello()
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_ms / 1000
        try:
            while self._runs():
                await self._follow()
                self.member.wake.clear()
                if not self._silent():
                    await self._port.call("fetch", _nothing)
                    # From here to the return nobody else comes in between: what counts as read has been returned.
                    if not self._stale() and not self._silent() and (found := self._take(max_messages)):
                        return found
                if loop.time() >= until:
                    return []
                try:
                    async with asyncio.timeout_at(until):
                        await self.member.wake.wait()
                except TimeoutError:
                    continue
            return []
        finally:
            self._fetched_at = time.monotonic()

    def _silent(self) -> bool:
        return self._paused

    def _stale(self) -> bool:
        return self.member.seen != self._log.groups[self._group].arrangement

    def _runs(self) -> bool:
        return not self._stopped

    def _say_hello(self) -> None:
        """A member that was silent for too long has lost its place."""
        if (time.monotonic() - self._fetched_at) * 1000 > self._session_ms:
            self._log.join(self._group, self.member)

    async def _follow(self) -> None:
        """Takes over a new arrangement of the group: partitions, and where to read on."""
        group = self._log.groups[self._group]
        if self.member not in group.members:
            self._log.join(self._group, self.member)
        if self.member.seen != group.arrangement:
            self.member.seen = group.arrangement
            self._generation += 1
            self._next, self._positioned = {}, False
        while self._runs() and not self._positioned:
            arrangement = group.arrangement
            wanted = frozenset(self._log.share(self._group, self.member))
            stored = await self._source(wanted)
            if self._rearranged(arrangement):
                self.member.seen = group.arrangement
                self._generation += 1
                continue
            self._next = {place: self._first(place, stored.get(place)) for place in sorted(wanted)}
            self._positioned = True

    def _rearranged(self, arrangement: int) -> bool:
        return self._log.groups[self._group].arrangement != arrangement

    def _first(self, place: Assignment, stored: int | None) -> int:
        partition = self._log.topics[place[0]][place[1]]
        position = partition.start if stored is None else stored
        if not partition.start <= position <= partition.end:
            raise PositionLostError(*place, position, partition.start, partition.end)
        return position

    def _take(self, most: int) -> list[IncomingMessage]:
        """What is there, beginning with another partition each time."""
        found: list[IncomingMessage] = []
        places = list(self._next)
        self._turn += 1
        for number in range(len(places)):
            place = places[(number + self._turn) % len(places)]
            partition = self._log.topics[place[0]][place[1]]
            first = self._first(place, self._next[place])
            part = partition.messages[first : first + most - len(found)]
            if part:
                found += part
                self._next[place] = part[-1].offset + 1
            if len(found) >= most:
                break
        return found

    def assignment(self) -> frozenset[Assignment]:
        """The partitions that it reads."""
        return frozenset(self._next) if not self._stopped else frozenset()

    def settled(self) -> bool:
        """It stands where the group and the store say."""
        return self._positioned and not self._stopped

    def generation(self) -> int:
        """Counts every change."""
        return self._generation

    def positions(self) -> dict[Assignment, int]:
        """The next offset of each partition."""
        return dict(self._next)

    async def end_offsets(self) -> dict[Assignment, int]:
        """The ends of its partitions now."""

        async def read() -> dict[Assignment, int]:
            return {place: self._log.topics[place[0]][place[1]].end for place in self._next}

        return await self._port.call("end offsets", read)

    async def commit(self, positions: Mapping[Assignment, int]) -> None:
        """For people who watch lag."""

        async def write() -> None:
            self._log.committed.update({(self._group, *place): offset for place, offset in positions.items()})

        await self._port.call("tell positions", write)

    async def pause(self) -> None:
        """Fetch returns nothing."""
        self._paused = True

    async def resume(self) -> None:
        """Goes on."""
        self._paused = False
        self.member.wake.set()

    async def stop(self) -> None:
        """Leaves the group. A process that was killed says nothing: the group finds out later."""
        if self._stopped:
            return
        self._stopped = True
        self.member.wake.set()
        if self._port.alive and self._group in self._log.groups:  # also one whose joining was never answered
            self._log.leave(self._group, self.member)


async def _nothing() -> None:
    return None
