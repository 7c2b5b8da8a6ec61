"""What a process says of itself when somebody collects: sizes, totals and loops that are known in memory.

Rules of this file: reading only, at the moment of collection; nothing is counted here, it is all there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from orchestrator.metrics import names
from orchestrator.metrics.figures import Reading, Values
from orchestrator.metrics.names import Metric

# Facts of a process's health, and the series that each of them is.
_FACTS: Mapping[str, tuple[Metric, Values]] = {
    "records": (names.RECORDS, ()),
    "conflicts": (names.CONFLICTS, ()),
    "unknown_commits": (names.UNKNOWN_COMMITS, ()),
    "cached_sagas": (names.CACHED, ()),
    "acts_waiting": (names.ACTS_WAITING, ()),
    "outbox_waiting_rows": (names.RELAY_WAITING, ()),
    "outbox_swept_rows": (names.RELAY_SWEPT, ()),
    "outbox_refused_rows": (names.RELAY_REFUSED, ()),
    "timers_fired": (names.TIMERS_FIRED, ()),
    "intake_paused": (names.INTAKE_PAUSED, ()),
    "intake_behind_messages": (names.INTAKE_BEHIND, ()),
    "trace_spans_sent": (names.SPANS_SENT, ("records",)),
    "trace_spans_refused": (names.SPANS_LOST, ("records",)),
    "local_spans_sent": (names.SPANS_SENT, ("measured",)),
    "local_spans_found": (names.SPANS_SENT, ("found",)),
    "local_spans_lost": (names.SPANS_LOST, ("measured",)),
}
_ALWAYS = ("records", "conflicts", "unknown_commits")  # counted from the first time on: before it they are 0
_DEAD, _REFUSED = "dead_", "starts_refused_"


class Loop(Protocol):
    """How one loop is."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def ready(self) -> bool:
        """It has made progress lately."""

    @property
    def age_ms(self) -> int:
        """Since its last progress."""


class Health(Protocol):
    """How a process is."""

    @property
    def loops(self) -> Sequence[Loop]:
        """Its loops."""

    @property
    def facts(self) -> Mapping[str, int]:
        """Sizes and counts by name."""


def readings(
    health: Callable[[], Health], reasons: Sequence[str], *, deciding: bool
) -> Callable[[], Iterator[Reading]]:
    """What to watch. `reasons`: of dead letters, each counts from 0. `deciding`: this process writes streams."""

    def read() -> Iterator[Reading]:
        found = health()
        facts = dict(found.facts)
        if deciding:
            facts = dict.fromkeys(_ALWAYS, 0) | {f"{_DEAD}{reason}": 0 for reason in reasons} | facts
        for fact, number in facts.items():
            series = _FACTS.get(fact)
            if series is not None:
                yield (*series, number)
            elif fact.startswith(_DEAD):
                yield names.DEAD_LETTERS, (fact.removeprefix(_DEAD),), number
            elif fact.startswith(_REFUSED):
                yield names.STARTS_REFUSED, (fact.removeprefix(_REFUSED),), number
        for loop in found.loops:
            yield names.LOOP_AGE, (loop.name,), loop.age_ms / 1000
            yield names.LOOP_READY, (loop.name,), int(loop.ready)

    return read
