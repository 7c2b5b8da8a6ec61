"""One saga in time, folded from its records: where it stands since when, what it has behind it, what that counts for.

Rules of this file
- Pure. The kernel's own fold says what a record means; this adds only instants, which the kernel's state leaves out.
- A **span** is one stay at a node: a step from its request to its definite answer with all attempts, a task, a wait, a
  delay, a child, an undo. Scopes, loops and forks are not places.
- The live application folds the same records with the same code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import node_path
from orchestrator.kernel.records import FoldError, Record
from orchestrator.kernel.state import Activity, State
from projections.contract import FeedRecord
from projections.measures import BUSINESS_FAILURES, HOUR_US, duration_class

PLACES = frozenset({"step", "call", "task", "wait", "delay"})
_OPEN = frozenset({"requested", "backoff", "unknown", "open"})
_UNDOING = frozenset({"asked", "backoff", "stuck", "taken"})
_OVER = frozenset({"completed", "compensated", "tombstoned"})
_FAILED = frozenset({"step.failed", "step.timed_out"})
_BY_HAND = frozenset({"operator.completed_by_hand", "operator.settled"})

__all__ = ["FoldError", "JourneyFold", "Span", "Stay"]


@dataclass(slots=True)
class Stay:
    """Where a saga stands now. `due`: when something happens there by itself, 0 for never."""

    activity: str
    kind: str
    since: int
    attempts: int = 1
    failures: int = 0
    due: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A stay that is over."""

    activity: str
    kind: str
    opened_at: int
    closed_at: int
    outcome: str
    attempts: int

    @property
    def node(self) -> str:
        """The node of the definition."""
        return node_path(self.activity)


@dataclass(slots=True)
class JourneyFold:
    """A saga's state with its instants. `levels`: (hour, metric) to how many, since it was last emptied."""

    state: State = field(default_factory=State)
    stays: dict[tuple[str, str], Stay] = field(default_factory=dict)  # (activity, "" or "undo")
    stuck: dict[str, int] = field(default_factory=dict)  # place to since when
    started_at: int = 0
    changed_at: int = 0
    ended_at: int = 0
    is_counted: bool = False  # as completed; one that is undone by its parent afterwards counts as no second saga
    last_position: int = 0
    levels: Counter[tuple[int, str]] = field(default_factory=Counter)

    def take(self, record: FeedRecord) -> list[Span]:
        """Folds one record; gives the stays that it ends. Raises FoldError for one that cannot follow."""
        at = record.recorded_at
        evolve(self.state, Record(record.type, record.activity, record.data))
        self.changed_at, self.last_position = at, record.position
        if record.version == 1:
            self.started_at = at
            if record.type == "saga.started":
                self._count(at, "started")
        spans = list(self._move(record))
        if self.state.stuck or self.stuck:
            self.stuck = {place: self.stuck.get(place, at) for place in self.state.stuck}
        self._end(record)
        return spans

    def places(self) -> list[Stay]:
        """Where it stands, longest first. A place that only a person can move is a stay, whatever it is else."""
        found = {stay.activity: stay for stay in self.stays.values()}
        for place, since in self.stuck.items():
            activity = self.state.stuck[place].activity or place[1:]
            found[activity] = replace(found.get(activity, Stay(activity, "", since)), kind="stuck")
        return sorted(found.values(), key=lambda stay: (stay.since, stay.activity))

    @property
    def due(self) -> int:
        """What is due next, for people or as a deadline; 0 where nothing is. Attempts of steps do not count."""
        dues = [stay.due for stay in self.stays.values() if stay.due and stay.kind in ("task", "wait", "call")]
        if self.state.deadline:
            dues.append(self.state.deadline)
        return min(dues, default=0)

    def _move(self, record: FeedRecord) -> Iterator[Span]:
        """Compares the stays with the state, where this record may have changed them."""
        touched = [record.activity] if record.activity else []
        touched += record.data.get("withdrawn", ())
        if place := record.data.get("place"):
            touched.append(str(place)[1:])
        for activity in dict.fromkeys(touched):
            found = self.state.activities.get(activity)
            if found is not None and found.kind in PLACES:
                yield from self._forth(activity, found, record)
                yield from self._back(activity, found, record)

    def _forth(self, activity: str, found: Activity, record: FeedRecord) -> Iterator[Span]:
        key = (activity, "")
        stay = self.stays.get(key)
        if found.status in _OPEN:
            if stay is None:
                stay = self.stays[key] = Stay(activity, found.kind, record.recorded_at)
                if found.kind == "task":
                    self._count(record.recorded_at, "tasks_opened")
            stay.attempts = max(found.attempt, 1)
            stay.failures += record.type in _FAILED and record.activity == activity
            stay.due = found.task.expires if found.task is not None else found.due
        elif stay is not None:
            del self.stays[key]
            yield self._closed(stay, found, record)

    def _closed(self, stay: Stay, found: Activity, record: FeedRecord) -> Span:
        at = record.recorded_at
        outcome = found.status
        if found.task is not None:
            if found.status == "succeeded":
                outcome = str(record.data.get("outcome", "decided"))
                self._count(at, "tasks_decided")
            elif found.status == "expired":
                self._count(at, "tasks_expired")
            if found.task.level and found.status in ("succeeded", "expired"):
                self._count(at, "tasks_escalated")
        elif stay.failures:
            self._count(at, "transient")
            if found.status in ("succeeded", "refused") and record.type not in _BY_HAND:
                self._count(at, "recovered")
        return Span(stay.activity, stay.kind, stay.since, at, outcome, stay.attempts)

    def _back(self, activity: str, found: Activity, record: FeedRecord) -> Iterator[Span]:
        """The way back of one activity."""
        undo = found.undo
        key = (activity, "undo")
        stay = self.stays.get(key)
        if undo is not None and undo.status in _UNDOING:
            if stay is None:
                stay = self.stays[key] = Stay(activity, "undo", record.recorded_at)
            stay.attempts = max(undo.attempt, 1)
            stay.due = found.due
        elif stay is not None:
            del self.stays[key]
            status = undo.status if undo is not None else ""
            if status == "done":
                self._count(record.recorded_at, "undo_done")
            elif status in ("skipped", "by_hand", "handed"):
                self._count(record.recorded_at, "undo_by_hand")
            yield Span(activity, "undo", stay.since, record.recorded_at, status or "again", stay.attempts)

    def _end(self, record: FeedRecord) -> None:
        if record.type == "saga.completed":
            took = max(0, (record.recorded_at - self.started_at) // 1000)
            self._count(record.recorded_at, "completed")
            self._count(record.recorded_at, "took_ms", took)
            self._count(record.recorded_at, duration_class(took))
            self.ended_at, self.is_counted = record.recorded_at, True
        elif record.type == "saga.compensated":
            kind = str((self.state.failure or {}).get("kind", ""))
            if not self.is_counted:
                self._count(record.recorded_at, "back_business" if kind in BUSINESS_FAILURES else "back_failed")
            self.ended_at = record.recorded_at
        elif record.type == "saga.tombstoned":
            self.ended_at = record.recorded_at
        elif self.state.phase not in _OVER:
            self.ended_at = 0  # also a completed child's that its parent undoes

    def _count(self, at: int, metric: str, n: int = 1) -> None:
        self.levels[at // HOUR_US * HOUR_US, metric] += n


def plain(stay: Stay) -> dict[str, Any]:
    """A stay as JSON."""
    return {
        "activity": stay.activity,
        "kind": stay.kind,
        "since": stay.since,
        "attempts": stay.attempts,
        "due": stay.due,
    }
