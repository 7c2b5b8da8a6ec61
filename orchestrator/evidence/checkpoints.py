"""Checkpoints under verification: those of the database and those published, in the order of their sizes.

Rules of this file
- A checkpoint counts when a trusted key signed it and the records have its root. Two checkpoints that both count are
  consistent with each other: both trees begin the same list of records.
- A key signs no more once a newer one has. Numbers, sizes and times of checkpoints never go back, unless an accepted
  break says so in a signed line.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from orchestrator.evidence.findings import Finding, Report
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Checkpoint, NoteError, open_checkpoint
from orchestrator.evidence.reading import StoredCheckpoint

OURS = "database"


@dataclass(frozen=True, slots=True, order=True)
class Wanted:
    """A signed root that the records must have. `where`: the database, or the file it was read from."""

    size: int
    number: int
    root: bytes
    signed_at: int
    where: str
    age: int


class Checkpoints:
    """Collects signed checkpoints, then judges each when the tree has grown to its size."""

    def __init__(self, ring: KeyRing, report: Report) -> None:
        self.latest: Wanted | None = None  # of the database
        self.breaks: dict[tuple[int, bytes], int] = {}  # a broken tree, and the number of the checkpoint that says so
        self._ring = ring
        self._report = report
        self._wanted: list[Wanted] = []
        self._gaps: list[tuple[int, int]] = []  # numbers that a break left out
        self._ours: dict[int, bytes] = {}
        self._published: list[Wanted] = []
        self._contradicted: Counter[str] = Counter()

    async def read_stored(self, stored: AsyncIterator[StoredCheckpoint]) -> None:
        """The checkpoints of the database, by number: rows against notes, notes against keys, each against the one
        before."""
        before: Wanted | None = None
        number = 0
        async for row in stored:
            opened = self._open_row(row)
            if row.number != number + 1 and not (opened is not None and opened[0].broken):
                missing = f"{number + 1}" if row.number == number + 2 else f"{number + 1} to {row.number - 1}"
                self._add(f"checkpoint {missing} is missing in the database", before.size if before else 0)
            elif row.number != number + 1:
                self._gaps.append((number + 1, row.number - 1))
            number = row.number
            if opened is None:
                continue
            one, wanted = opened
            for broken in one.broken:
                self.breaks[broken] = one.number
            if before is not None:
                self._check_step(before, wanted, is_break=bool(one.broken))
            before = wanted
            heapq.heappush(self._wanted, wanted)
            self._ours[wanted.number] = wanted.root
            self.latest = wanted
            self._report.checkpoints += 1

    def read_published(self, notes: Iterable[str], where: str) -> None:
        """Checkpoints from outside the database. What is no checkpoint of a trusted key is said, and not counted."""
        for place, note in enumerate(notes, start=1):
            try:
                opened = open_checkpoint(note, self._ring.verifiers)
            except NoteError as error:
                if "\n\u2014 " in note:
                    self._add(f"{where}, note {place}: {error}", kind="published")
                else:
                    self._report.notes.append(f"{where}, note {place} is unfinished: a crash cut it off")
                continue
            one = opened.checkpoint
            wanted = Wanted(one.size, one.number, one.root, one.signed_at, where, self._ring.age(opened.by))
            heapq.heappush(self._wanted, wanted)
            self._published.append(wanted)
            self._report.published += 1

    def due(self, size: int) -> bool:
        """Is there a checkpoint over exactly so many records?"""
        return bool(self._wanted) and self._wanted[0].size == size

    @property
    def next_size(self) -> int:
        """The size of the next checkpoint to judge, 0 for none."""
        return self._wanted[0].size if self._wanted else 0

    def skip_to(self, size: int) -> None:
        """Leaves out checkpoints over less than so many records: the tree begins there."""
        while self._wanted and self._wanted[0].size < size:
            heapq.heappop(self._wanted)

    def judge(self, size: int, root: bytes) -> bool:
        """Compares all checkpoints over `size` records with the root of the records; are they all right?"""
        good = True
        while self.due(size):
            one = heapq.heappop(self._wanted)
            if one.root == root:
                self._report.confirm(one.number, one.size, one.signed_at, is_ours=one.where == OURS)
            elif not self._is_broken(one):
                good = False
                self._contradicted[one.where] += 1
                if self._contradicted[one.where] > 1:
                    continue  # whatever contradicts the first contradicts all behind it
                self._add(
                    f"checkpoint {one.number} ({one.where}) signed the root {one.root.hex()} over {one.size} records; "
                    f"these records have {root.hex()}", size, "checkpoint" if one.where == OURS else "published",
                )  # fmt: skip
        return good

    def unreached(self, end: int) -> None:
        """What is left: checkpoints over more records than there are; and published ones that the database lacks."""
        for where, times in self._contradicted.items():
            if times > 1:
                self._report.notes.append(f"{times - 1} later checkpoints ({where}) are contradicted as well")
        while self._wanted:
            one = heapq.heappop(self._wanted)
            if not self._is_broken(one):
                self._add(
                    f"checkpoint {one.number} ({one.where}) covers {one.size} records, the log ends at {end}: "
                    f"positions {end + 1} to {one.size} are missing", end + 1,
                    "checkpoint" if one.where == OURS else "published",
                )  # fmt: skip
        for one in self._published:
            if one.number and not self._is_broken(one) and self._ours.get(one.number) != one.root:
                what = "holds another one" if one.number in self._ours else "does not hold it"
                self._add(
                    f"checkpoint {one.number} ({one.where}) was published, and the database {what}",
                    one.size,
                    "published",
                )

    def _is_broken(self, one: Wanted) -> bool:
        in_gap = any(first <= one.number <= last for first, last in self._gaps)
        is_declared = in_gap or (one.size, one.root) in self.breaks
        if is_declared:
            said = f"checkpoint {one.number} over {one.size} records is not continued, by an accepted break"
            if said not in self._report.notes:
                self._report.notes.append(said)
        return is_declared

    def _open_row(self, row: StoredCheckpoint) -> tuple[Checkpoint, Wanted] | None:
        try:
            opened = open_checkpoint(row.note, self._ring.verifiers)
        except NoteError as error:
            self._add(f"checkpoint {row.number} in the database: {error}", row.size)
            return None
        one = opened.checkpoint
        for name, found, said in (
            ("number", row.number, one.number), ("size", row.size, one.size), ("root", row.root, one.root),
            ("signed_at", row.signed_at, one.signed_at),
        ):  # fmt: skip
            if found != said:
                shown = [value.hex() if isinstance(value, bytes) else value for value in (found, said)]
                self._add(f"checkpoint {row.number}: its {name} is {shown[0]}, its note says {shown[1]}", one.size)
        return one, Wanted(one.size, one.number, one.root, one.signed_at, OURS, self._ring.age(opened.by))

    def _check_step(self, before: Wanted, after: Wanted, *, is_break: bool) -> None:
        if after.age > before.age:
            self._add(
                f"checkpoint {after.number} is signed by a retired key: checkpoint {before.number} has a newer one",
                after.size,
            )
        if after.signed_at < before.signed_at or (after.size < before.size and not is_break):
            self._add(f"checkpoint {after.number} goes back behind checkpoint {before.number}", after.size)

    def _add(self, text: str, position: int = 0, kind: str = "checkpoint") -> None:
        self._report.add(Finding(kind, text, position))
