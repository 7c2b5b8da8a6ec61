"""How far everything was answered: the number that may be stored as a position.

Rules of this file
- A message is finished when its answer is durably on the broker, or when it is kept as a dead letter. A partition's
  position is the end of its longest finished prefix; what comes later in the log never carries it past a gap.
- One `Progress` belongs to one assignment of partitions. After a change of assignment a new one begins, since reading
  goes on at the stored positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from orchestrator.broker.contract import Assignment, IncomingMessage


class Part:
    """The messages of one partition out of one fetch."""

    __slots__ = ("next_offset", "open")

    def __init__(self, messages: int, next_offset: int) -> None:
        self.open = messages
        self.next_offset = next_offset

    def finish(self) -> None:
        """One of its messages is finished."""
        self.open -= 1
        assert self.open >= 0, "a message was finished twice"


class Progress:
    """Which positions may be stored, for one assignment."""

    def __init__(self) -> None:
        self._parts: dict[Assignment, deque[Part]] = {}
        self._ready: dict[Assignment, int] = {}

    def take(self, messages: Sequence[IncomingMessage]) -> dict[Assignment, Part]:
        """Notes fetched messages as unfinished; gives the part of each partition."""
        counts: dict[Assignment, int] = {}
        ends: dict[Assignment, int] = {}
        for message in messages:
            place = (message.topic, message.partition)
            counts[place] = counts.get(place, 0) + 1
            ends[place] = message.offset + 1
        parts = {place: Part(count, ends[place]) for place, count in counts.items()}
        for place, part in parts.items():
            self._parts.setdefault(place, deque()).append(part)
        return parts

    def positions(self) -> dict[Assignment, int]:
        """Next offsets that are finished and not yet confirmed as stored."""
        for place, parts in self._parts.items():
            while parts and parts[0].open == 0:
                self._ready[place] = parts.popleft().next_offset
        return dict(self._ready)

    def confirm(self, positions: dict[Assignment, int]) -> None:
        """These were stored."""
        for place, offset in positions.items():
            if self._ready.get(place) == offset:
                del self._ready[place]

    def unfinished(self) -> int:
        """Messages read and not yet finished."""
        return sum(part.open for parts in self._parts.values() for part in parts)
