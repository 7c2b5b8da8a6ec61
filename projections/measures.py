"""What service levels are made of: counts by hour, that can be added up over any window.

Rules of this file
- A level is a quotient of counts that are kept, never an average of averages: windows and definitions add up exactly.
- Durations are counted in classes, each 10 per cent wider than the one before: a percentile is right within 5 per cent,
  and the classes of two hours can be added.
- The same functions serve the tables in PostgreSQL and the windows of the live application.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import timedelta

from projections.answers import Level

HOUR_US = 3_600_000_000
_WIDTH = math.log(1.1)

# Kinds of failure that are business: a no, of a participant, a person or whoever asked.
BUSINESS_FAILURES = frozenset({"refused", "failed", "cancelled", "parent"})

# Label, meaning and unit of each level.
_TEXTS: dict[str, tuple[str, str, str]] = {
    "success": (
        "Success",
        "sagas that ended as their business wanted, of all that ended: completed, or cleanly taken back after a no, "
        "not those that ran out of attempts or time",
        "rate",
    ),
    "completed": ("Completed", "sagas that went through to the end, of all that ended", "rate"),
    "recovery": (
        "Recovered by itself",
        "steps that got a definite answer without anybody's help, of all with a failed attempt",
        "rate",
    ),
    "adherence": (
        "Decided in time",
        "tasks decided before their time was over; expired ones, and open ones that are overdue, are breaches",
        "rate",
    ),
    "escalation": ("Escalated", "tasks that went up at least one level, of all decided or expired", "rate"),
    "compensation": ("Taken back cleanly", "undos that their participant carried out, not an operator's hand", "rate"),
    "audit": ("Audit complete", "records that the audit trail holds, of the newest up to its position", "rate"),
    "mean": ("Mean time", "from start to completion", "seconds"),
    "p95": ("95 of 100 within", "from start to completion, right within 5 per cent", "seconds"),
}


def duration_class(milliseconds: int) -> str:
    """The metric that a duration counts in."""
    return f"took:{math.floor(math.log(max(1, milliseconds)) / _WIDTH)}"


def class_seconds(metric: str) -> float:
    """The middle of a class, in seconds."""
    return math.exp((int(metric.partition(":")[2]) + 0.5) * _WIDTH) / 1000


def percentile(counts: Mapping[str, int], share: float) -> float | None:
    """The duration within which this share was, in seconds; None where nothing was measured."""
    classes = sorted((int(name[5:]), n) for name, n in counts.items() if name.startswith("took:") and n)
    total = sum(n for _, n in classes)
    if not total:
        return None
    wanted, seen = math.ceil(total * share), 0
    for number, n in classes:
        seen += n
        if seen >= wanted:
            return class_seconds(f"took:{number}")
    raise AssertionError("a share of more than everything")


def summed(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Counts by metric, added up."""
    total: dict[str, int] = {}
    for metric, n in rows:
        total[metric] = total.get(metric, 0) + n
    return total


def levels(counts: Mapping[str, int], *, overdue: int = 0, audited: int = 0, recorded: int = 0) -> tuple[Level, ...]:
    """The service levels of a window. `overdue`: open tasks whose time is over. `audited` of `recorded` records."""

    def n(metric: str) -> int:
        return counts.get(metric, 0)

    ended = n("completed") + n("back_business") + n("back_failed")
    closed = n("tasks_decided") + n("tasks_expired") + overdue
    undos = n("undo_done") + n("undo_by_hand")
    average = n("took_ms") / n("completed") / 1000 if n("completed") else None
    closed_by_hand = n("tasks_decided") + n("tasks_expired")
    mean = Level("mean", *_TEXTS["mean"], average, 0, n("completed"), None, at_least=False)
    p95 = Level("p95", *_TEXTS["p95"], percentile(counts, 0.95), 0, n("completed"), None, at_least=False)
    return (
        _rate("success", n("completed") + n("back_business"), ended, 0.99),
        _rate("completed", n("completed"), ended, None),
        _rate("recovery", n("recovered"), n("transient"), 0.90),
        _rate("adherence", n("tasks_decided"), closed, 0.99),
        _rate("escalation", n("tasks_escalated"), closed_by_hand, 0.05, at_least=False),
        _rate("compensation", n("undo_done"), undos, 0.95),
        _rate("audit", audited, recorded, 1.0),
        mean,
        p95,
    )


def level(key: str, counts: Mapping[str, int]) -> Level:
    """One of them. Raises KeyError for a key that there is not."""
    return {found.key: found for found in levels(counts)}[key]


def window_hours(until_us: int, window: timedelta) -> tuple[int, int]:
    """The first and last hour of a window that ends now, both included."""
    span = int(window.total_seconds() * 1_000_000)
    return (until_us - span) // HOUR_US * HOUR_US, until_us // HOUR_US * HOUR_US


def _rate(key: str, part: int, whole: int, target: float | None, *, at_least: bool = True) -> Level:
    return Level(key, *_TEXTS[key], part / whole if whole else None, part, whole, target, at_least)
