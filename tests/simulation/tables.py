"""The tables of the simulated store: what is committed, and nothing else.

Rules of this file
- Statements read what is committed when they begin (READ COMMITTED); what a transaction writes comes at its COMMIT,
  all at once. Nothing here awaits.
- Rows are what `contract.py` says, not what PostgreSQL stores; records are bytes, and are read back from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import time_ns
from typing import Any, Protocol

from orchestrator.store.chain import opened
from orchestrator.store.contract import (
    BatchWrite,
    DeadLetter,
    EarlyEvent,
    EventKey,
    Head,
    OutboxRow,
    Position,
    StoredRecord,
    Waiting,
)
from tests.simulation.locks import Locks


class Watcher(Protocol):
    """Who hears of transactions: the checker of the simulation."""

    def began(self) -> None:
        """A batch begins, in the task that decides it."""

    def writes(self, write: BatchWrite) -> None:
        """It has decided, in the same task."""

    def committed(self, write: BatchWrite, now: int) -> None:
        """It is committed, wherever that happens; the tables have it all."""


Place = tuple[str, str]  # saga id, activity
Check = tuple[str, str, str, str]  # saga id, activity, type, key
Run = tuple[str, str, str]  # tenant, saga name, business key


@dataclass(slots=True)
class HeadRow:
    """The last line of a stream, with what lists show of it."""

    head: Head
    phase: str = ""
    outcome: str = ""
    stuck: int = 0
    waiting_for: str = ""
    parent: str = ""


@dataclass(slots=True)
class TimerRow:
    """A timer. `command`: (saga id, version) of the message whose publication starts its clock, or None."""

    due: int
    period: int
    armed: int
    command: tuple[str, int] | None = None


@dataclass(slots=True)
class WaitRow:
    """A subscription."""

    tenant: str
    accepts_from: int
    opened_at: int


@dataclass(slots=True)
class SentRow:
    """A message of the outbox. `number` orders them all; within a saga that is the order of versions."""

    row: OutboxRow
    number: tuple[int, int]
    written_at: int


@dataclass(slots=True)
class Tables:
    """One database. `read_clock`: microseconds; two readings are never the same."""

    read_clock: Callable[[], int] = lambda: time_ns() // 1000
    locks: Locks = field(default_factory=Locks)
    heads: dict[str, HeadRow] = field(default_factory=dict)
    streams: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    runs: dict[Run, str] = field(default_factory=dict)
    inbox: dict[bytes, bytes] = field(default_factory=dict)
    outbox: dict[tuple[str, int], SentRow] = field(default_factory=dict)
    unsent: set[tuple[str, int]] = field(default_factory=set)
    timers: dict[Place, TimerRow] = field(default_factory=dict)
    resumes: dict[str, int] = field(default_factory=dict)
    waits: dict[Check, WaitRow] = field(default_factory=dict)
    checks: dict[Check, int] = field(default_factory=dict)
    consumed: dict[tuple[str, str, str, str], str] = field(default_factory=dict)  # tenant, event, name, key -> saga
    early: dict[tuple[str, str, str, str], EarlyEvent] = field(default_factory=dict)
    tasks: dict[Place, dict[str, Any]] = field(default_factory=dict)  # open ones alone
    letters: dict[int, DeadLetter] = field(default_factory=dict)
    redriven: set[int] = field(default_factory=set)
    positions: dict[Position, tuple[int, int]] = field(default_factory=dict)
    definitions: dict[tuple[str, int], str] = field(default_factory=dict)
    active: dict[str, int] = field(default_factory=dict)  # what takes new sagas, of definitions under approval
    unsealed: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    sealed: list[tuple[str, int]] = field(default_factory=list)
    batches: int = 0
    commits: int = 0
    watcher: Watcher | None = None
    _now: int = 0

    def clock(self) -> int:
        """The database's clock."""
        self._now = max(self._now + 1, self.read_clock())
        return self._now

    def waiting(self, keys: set[EventKey]) -> list[Waiting]:
        """Who waits for these keys, the longest waiting first."""
        found = [
            (row.opened_at, check[0], check[1], check, row.accepts_from)
            for check, row in self.waits.items()
            if (row.tenant, check[2], check[3]) in keys
        ]
        return [Waiting(*check, accepts_from) for _, _, _, check, accepts_from in sorted(found)]

    def kept(self, keys: set[EventKey]) -> list[EarlyEvent]:
        """What is kept for these keys, with those who took it, the earliest first."""
        found = [event for key, event in self.early.items() if key[:3] in keys]
        found.sort(key=lambda event: (event.arrived_at, event.event_id))
        return [replace(event, consumed_by=self._takers(event)) for event in found]

    def _takers(self, event: EarlyEvent) -> frozenset[tuple[str, str]]:
        wanted = (event.tenant, event.event_id)
        return frozenset((name, key) for tenant, id_, name, key in self.consumed if (tenant, id_) == wanted)

    def has_early(self, tenant: str, type_: str, key: str) -> bool:
        """Something is kept for this key."""
        return any(place[:3] == (tenant, type_, key) for place in self.early)

    def stream(self, saga_id: str) -> list[StoredRecord]:
        """A whole stream, read from its bytes."""
        lines = self.streams.get(saga_id, ())
        return [opened(saga_id, number, body, hash_) for number, (body, hash_) in enumerate(lines, start=1)]

    def orphans(self) -> list[str]:
        """Live sagas that wait for nothing that exists (kernel rule 29)."""
        waiting = {place[0] for table in (self.timers, self.waits, self.tasks, self.unsent) for place in table}
        parents = {row.parent for row in self.heads.values() if row.parent and not row.head.ended}
        return [
            saga_id
            for saga_id, row in sorted(self.heads.items())
            if not (row.head.ended or row.stuck or saga_id in waiting or saga_id in self.resumes or saga_id in parents)
        ]
