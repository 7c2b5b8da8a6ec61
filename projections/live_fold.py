"""What the live application does with a record: pure, so that it is the same with and without Kafka.

Rules of this file
- The figures are those of `journey.py` and `measures.py`, the same that the tables in PostgreSQL are made of.
- A saga under way is kept as its records so far, which fold to its state. A record that was seen is dropped, by its
  version; one that has ended is remembered for a while, by its version alone, since a feed repeats itself after a
  crash. A saga whose beginning was lost is not counted.
- A record that is read again after a crash may send its measures again: each says which one it is, and is counted once.
- A window is an hour by the instants of the records, not by their arrival: following late gives the same figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from projections.answers import Level
from projections.contract import FeedRecord
from projections.journey import FoldError, JourneyFold
from projections.measures import levels

RECORDS_MAX = 2_000  # of one saga; a longer one is not followed live
FOLDS_KEPT = 50_000
ENDED_KEPT_US = 3_600_000_000
WINDOWS_KEPT_US = 48 * 3_600_000_000
ALERTED = ("success", "recovery", "adherence", "escalation", "compensation")

Measure = dict[str, Any]  # tenant, name, hour, metric, n; saga, version, place: which one it is of those of a record
Kept = dict[str, Any]  # version, records, ended
Mark = list[int]  # version and place of the last measure of a saga that was counted, and when its record was written


class LiveSagas:
    """Folds of sagas under way; what is lost is folded from what is kept."""

    def __init__(self) -> None:
        self._folds: dict[str, JourneyFold] = {}

    def take(self, kept: Kept | None, message: Mapping[str, Any]) -> tuple[Kept | None, list[Measure]]:
        """What to keep of a saga after this record (None: nothing, it cannot be followed), and what it counts for."""
        version, saga_id = int(message["version"]), str(message["saga"])
        seen = int(kept["version"]) if kept else 0
        if kept and (version <= seen or kept["ended"]):
            return {**kept, "version": max(version, seen)}, []
        if version != seen + 1 or version > RECORDS_MAX:
            self._folds.pop(saga_id, None)
            return None, []  # its beginning was lost, or it is too long
        records = [*(kept["records"] if kept else ()), dict(message)]
        try:
            fold = self._fold(saga_id, records[:-1])
            fold.take(record_of(message))
        except (FoldError, KeyError, TypeError, ValueError, AttributeError):
            self._folds.pop(saga_id, None)
            return None, []
        counted = [
            {
                "tenant": message["tenant"], "name": message["name"], "hour": hour, "metric": metric, "n": n,
                "saga": saga_id, "version": version, "place": place, "at": message["recorded_at"],
            }
            for place, ((hour, metric), n) in enumerate(sorted(fold.levels.items()))
        ]  # fmt: skip
        fold.levels.clear()
        if fold.ended_at:
            self._folds.pop(saga_id, None)
            return {"version": version, "records": [], "ended": fold.ended_at}, counted
        return {"version": version, "records": records, "ended": 0}, counted

    def _fold(self, saga_id: str, before: Sequence[Mapping[str, Any]]) -> JourneyFold:
        fold = self._folds.get(saga_id)
        if fold is None or fold.state.version != len(before):
            if len(self._folds) >= FOLDS_KEPT:
                self._folds.clear()
            fold = self._folds[saga_id] = JourneyFold()
            for message in before:
                fold.take(record_of(message))
            fold.levels.clear()
        return fold


class Ended:
    """Which sagas have ended when, by partition: a table may only be changed by the stream of its own partition."""

    def __init__(self) -> None:
        self._ended: dict[int, deque[tuple[int, str]]] = {}

    def note(self, partition: int, saga_id: str, at: int) -> None:
        """It has ended."""
        self._ended.setdefault(partition, deque()).append((at, saga_id))

    def due(self, partition: int, now: int) -> list[str]:
        """Those of this partition that may be forgotten, by the time of what comes in now."""
        waiting, found = self._ended.get(partition, deque()), []
        while waiting and waiting[0][0] < now - ENDED_KEPT_US:
            found.append(waiting.popleft()[1])
        return found


def record_of(message: Mapping[str, Any]) -> FeedRecord:
    """A message of the record feed as a record."""
    return FeedRecord(
        message["position"], message["saga"], message["version"], message["type"], message["activity"],
        message["data"], message["actor"], message["recorded_at"], message["tenant"], "", b"",
    )  # fmt: skip


def marked(counted: Mark | None, measure: Measure) -> Mark | None:
    """The mark of a saga after this measure; None where it was counted before, and is said again after a crash.

    A saga's measures come in order, so the last one that counted says it of all before.
    """
    place = [int(measure["version"]), int(measure["place"])]
    if counted is not None and place <= counted[:2]:
        return None
    return [*place, int(measure["at"])]


def added(counts: Mapping[str, int], measure: Measure) -> dict[str, int]:
    """The counts of a window with a measure in."""
    metric = str(measure["metric"])
    return {**counts, metric: counts.get(metric, 0) + int(measure["n"])}


def window_of(measure: Measure) -> str:
    """The window that a measure belongs to: tenant, definition, hour."""
    return f"{measure['tenant']}|{measure['name']}|{measure['hour']}"


def outdated(windows: Iterable[str], window: str) -> list[str]:
    """The windows of the same tenant and definition that are too old beside this one."""
    prefix, _, hour = window.rpartition("|")
    oldest = int(hour) - WINDOWS_KEPT_US
    return [key for key in windows if key.startswith(f"{prefix}|") and int(key.rpartition("|")[2]) < oldest]


def alerts(
    window: str, counts: Mapping[str, int], before: Mapping[str, str], whole_min: int
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Which levels of a window miss their target now, and what to say of those that changed.

    `whole_min`: a rate of fewer is no reason to wake anybody.
    """
    tenant, name, hour = window.split("|")
    now, said = dict(before), []
    for level in levels(counts):
        if level.key not in ALERTED or level.whole < whole_min:
            continue
        state = "met" if level.good else "missed"
        if state != before.get(level.key, "met"):
            said.append({"tenant": tenant, "name": name, "hour": int(hour), "state": state, **_shown(level)})
        now[level.key] = state
    return now, said


def _shown(level: Level) -> dict[str, Any]:
    return {
        "level": level.key,
        "label": level.label,
        "value": level.value,
        "target": level.target,
        "part": level.part,
        "whole": level.whole,
    }
