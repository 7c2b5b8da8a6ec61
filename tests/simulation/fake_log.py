"""The log of the simulated broker: topics, partitions, groups. It outlives every process.

Rules of this file
- One key, one partition (by the product's own function); offsets are dense; append times never go back in a partition.
- A group shares its partitions among its members, anew with every member that comes, leaves or is taken for dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time_ns

from orchestrator.broker.contract import Assignment, IncomingMessage, OutgoingMessage
from orchestrator.broker.partition import partition_of

MILLISECOND = 1_000


@dataclass(slots=True)
class Partition:
    """One partition. `start`: the first offset that is still kept."""

    messages: list[IncomingMessage] = field(default_factory=list)
    start: int = 0

    @property
    def end(self) -> int:
        """The next offset."""
        return len(self.messages)


class Member:
    """One consumer as its group sees it."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self.wake = asyncio.Event()
        self.seen = 0  # the group's arrangement that this member follows


@dataclass(slots=True)
class Group:
    """The members of a group. `arrangement` counts every change."""

    members: list[Member] = field(default_factory=list)
    arrangement: int = 0


@dataclass(slots=True)
class Log:
    """All topics and groups. `read_clock`: microseconds. `on_append` hears every message, once it is there."""

    read_clock: Callable[[], int] = lambda: time_ns() // 1000
    topics: dict[str, list[Partition]] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    committed: dict[tuple[str, str, int], int] = field(default_factory=dict)
    on_append: list[Callable[[IncomingMessage], None]] = field(default_factory=list)
    _spread: int = 0

    def make(self, topic: str, partitions: int) -> None:
        """A new topic."""
        self.topics[topic] = [Partition() for _ in range(partitions)]

    def append(self, message: OutgoingMessage) -> IncomingMessage:
        """Appends one message. The clock is cut to milliseconds, as Kafka's is."""
        number = self.partition(message)
        if message.key is None:
            self._spread += 1
        kept = self.topics[message.topic][number].messages
        at = self.read_clock() // MILLISECOND * MILLISECOND
        at = max(at, kept[-1].appended_at) if kept else at
        found = IncomingMessage(
            message.topic, number, len(kept), message.key, message.value, tuple(message.headers), at
        )  # fmt: skip
        kept.append(found)
        for group in self.groups.values():
            for member in group.members:
                if message.topic in member.topics:
                    member.wake.set()
        for told in self.on_append:
            told(found)
        return found

    def partition(self, message: OutgoingMessage) -> int:
        """Where a message goes; without a key in turn."""
        partitions = len(self.topics[message.topic])
        return self._spread % partitions if message.key is None else partition_of(message.key, partitions)

    def join(self, group: str, member: Member) -> None:
        """A member comes, or comes again."""
        found = self.groups.setdefault(group, Group())
        if member not in found.members:
            found.members.append(member)
        self._rearrange(found)

    def leave(self, group: str, member: Member) -> None:
        """A member goes, or is taken for dead."""
        found = self.groups[group]
        if member in found.members:
            found.members.remove(member)
            self._rearrange(found)

    @staticmethod
    def _rearrange(group: Group) -> None:
        group.arrangement += 1
        for member in group.members:
            member.wake.set()

    def share(self, group: str, member: Member) -> list[Assignment]:
        """The partitions of one member: every n-th of all that the group reads."""
        members = self.groups[group].members
        if member not in members:
            return []
        topics = sorted({topic for other in members for topic in other.topics})
        places = [(topic, number) for topic in topics for number in range(len(self.topics[topic]))]
        return places[members.index(member) :: len(members)]
