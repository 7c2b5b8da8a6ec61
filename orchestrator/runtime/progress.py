"""How far each partition of this process is read: in offsets, and in time.

Rules of this file: no I/O. An instant is set for a partition only when every message in the log at that instant
has been processed and committed; the database keeps the larger of two instants, so writing an older one does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.broker.contract import Assignment, IncomingMessage


@dataclass(slots=True)
class _Partition:
    next_offset: int = -1  # of what is processed and stored; -1: nothing yet
    under_way: int = 0  # messages fetched and not processed
    read_until: int = 0
    mark_end: int = -1  # once the position reaches this, everything up to `mark_at` is read
    mark_at: int = 0


class Progress:
    """The partitions of the current assignment."""

    def __init__(self) -> None:
        self._partitions: dict[Assignment, _Partition] = {}
        self._assignment: frozenset[Assignment] = frozenset()
        self.done = 0  # messages processed and committed, ever
        self.behind = 0  # partitions that were not read to the end that was last asked for
        self.behind_messages = 0  # messages in them that are not processed

    @property
    def assignment(self) -> frozenset[Assignment]:
        """The partitions that are followed here."""
        return self._assignment

    def reset(self, assignment: Iterable[Assignment]) -> None:
        """A new assignment: what was under way is forgotten."""
        self._assignment = frozenset()
        self._partitions = {}
        self.follow(assignment)

    def follow(self, assignment: Iterable[Assignment]) -> None:
        """Follows these as well; what is known of others stays."""
        for place in assignment:
            self._partitions.setdefault(place, _Partition())
        self._assignment = frozenset(self._partitions)

    def fetched(self, messages: Sequence[IncomingMessage]) -> None:
        """Notes that these were fetched."""
        partitions = self._partitions
        for message in messages:
            partition = partitions.get((message.topic, message.partition))
            if partition is not None:
                partition.under_way += 1

    def processed(self, done: Mapping[Assignment, int], messages: Sequence[IncomingMessage]) -> None:
        """Notes that these were committed; `done`: the next offset of each partition among them."""
        partitions = self._partitions
        self.done += len(messages)
        for message in messages:
            partition = partitions.get((message.topic, message.partition))
            if partition is not None:
                partition.under_way -= 1
        for place, offset in done.items():
            partition = partitions.get(place)
            if partition is not None:
                partition.next_offset = offset
                self._reach(partition, offset)

    def read_until(self, place: Assignment, offset: int) -> int:
        """The instant up to which a partition is read once its position is `offset`, microseconds."""
        partition = self._partitions.get(place)
        if partition is None:
            return 0
        reached = 0 <= partition.mark_end <= offset
        return partition.mark_at if reached else partition.read_until

    def mark(
        self, now: int, ends: Mapping[Assignment, int], positions: Mapping[Assignment, int]
    ) -> dict[Assignment, tuple[int, int]]:
        """Takes ends that were asked for after `now`. Gives what is worth storing now: (next offset, read until).

        `positions`: of the consumer; where nothing is under way they may be ahead of the last message's offset, over
        markers and compacted records.
        """
        found = {}
        self.behind = self.behind_messages = 0
        for place, end in ends.items():
            partition = self._partitions.get(place)
            if partition is None:
                continue
            position = partition.next_offset
            if not partition.under_way:
                position = max(position, positions.get(place, -1))
            if partition.mark_end < 0:
                partition.mark_end, partition.mark_at = end, now
            self.behind += position < end
            self.behind_messages += max(0, end - max(position, 0))
            if position >= end:
                partition.mark_end, partition.mark_at = end, now
            if position >= 0 and self._reach(partition, position):
                found[place] = (position, partition.read_until)
        return found

    def wrote(self, done: Mapping[Assignment, tuple[int, int]]) -> None:
        """Notes what was stored for idle partitions."""
        for place, (offset, _) in done.items():
            partition = self._partitions.get(place)
            if partition is not None and offset > partition.next_offset:
                partition.next_offset = offset

    def stored(self) -> dict[Assignment, int]:
        """Next offsets that are stored."""
        return {place: found.next_offset for place, found in self._partitions.items() if found.next_offset >= 0}

    @staticmethod
    def _reach(partition: _Partition, position: int) -> bool:
        if 0 <= partition.mark_end <= position and partition.mark_at > partition.read_until:
            partition.read_until, partition.mark_end = partition.mark_at, -1
            return True
        return False
