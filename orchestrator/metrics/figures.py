"""What one process counts: plain numbers, added up where they arise and read when somebody collects.

Rules of this file
- Adding is a dictionary and an integer, by whoever runs in the event loop's thread. No lock, no clock, no I/O.
- Collecting gives copies, so that they may be told by another thread.
- Totals begin with the process; a restart begins again at 0, and whoever stores them knows how to read that.
- The series of one metric are bounded: what goes beyond is counted in one series that says so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from orchestrator.metrics.names import Metric

SERIES_MAX = 1_000  # of one metric; more is a mistake in its attributes

Values = tuple[str, ...]
Reading = tuple[Metric, Values, float]

log = structlog.get_logger("orchestrator.metrics")


@dataclass(frozen=True, slots=True)
class Point:
    """One series. `counts`: of a histogram, by bucket, the last one without upper bound; `number` is its sum then."""

    values: Values
    number: float
    counts: tuple[int, ...] = ()
    overflow: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one metric at one moment."""

    metric: Metric
    points: tuple[Point, ...]


class Counter:
    """A total by attribute values. `add` may be called for every input."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._totals: dict[Values, float] = {}
        self._overflow = 0.0

    def add(self, values: Values = (), number: float = 1) -> None:
        """Adds to one series."""
        totals = self._totals
        if values in totals:
            totals[values] += number
        elif len(totals) < SERIES_MAX:
            totals[values] = number
        else:
            self._overflow += number

    def family(self) -> Family:
        """What it has now."""
        points = [Point(values, number) for values, number in self._totals.items()]
        if self._overflow:
            points.append(Point(("",) * len(self.metric.attributes), self._overflow, overflow=True))
        return Family(self.metric, tuple(points))


class Histogram:
    """Counts by size. One `observe` costs about a microsecond, also for many equal ones."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._bounds = metric.bounds
        self._series: dict[Values, list[float]] = {}  # buckets, then the sum

    def observe(self, values: Values, size: float, times: int = 1) -> None:
        """Counts `times` things of this size in one series."""
        row = self._series.get(values)
        if row is None:
            row = self._row(values)
        row[bisect_left(self._bounds, size)] += times
        row[-1] += size * times

    def _row(self, values: Values) -> list[float]:
        # The last place is for what overflows: no values of a series are empty of everything and one too many.
        key = values if len(self._series) < SERIES_MAX else ("",) * (len(self.metric.attributes) + 1)
        return self._series.setdefault(key, [0] * (len(self._bounds) + 1) + [0.0])

    def family(self) -> Family:
        """What it has now."""
        width = len(self.metric.attributes)
        return Family(
            self.metric,
            tuple(
                Point(values[:width], row[-1], tuple(int(count) for count in row[:-1]), len(values) > width)
                for values, row in self._series.items()
            ),
        )


class Figures:
    """The figures of one process. Whoever counts keeps what `counter` and `histogram` gave; `watch` is asked then."""

    def __init__(self) -> None:
        self._kept: dict[str, Counter | Histogram] = {}
        self._watched: list[Callable[[], Iterable[Reading]]] = []

    def counter(self, metric: Metric) -> Counter:
        """The counter of this metric; the same one for everybody."""
        found = self._kept.setdefault(metric.name, Counter(metric))
        assert isinstance(found, Counter)
        return found

    def histogram(self, metric: Metric) -> Histogram:
        """The histogram of this metric; the same one for everybody."""
        found = self._kept.setdefault(metric.name, Histogram(metric))
        assert isinstance(found, Histogram)
        return found

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """`read` is called at each collection and gives what is there at that moment; it must not wait."""
        self._watched.append(read)

    def collect(self) -> list[Family]:
        """All figures now, by name; metrics without a series are left out."""
        found = {family.metric.name: family for family in self._families()}
        read: dict[str, dict[Values, float]] = {}
        metrics: dict[str, Metric] = {}
        for metric, values, number in self._readings():
            metrics[metric.name] = metric
            series = read.setdefault(metric.name, {})
            if values in series or len(series) < SERIES_MAX:
                series[values] = number
        for name, series in read.items():
            points = tuple(Point(values, number) for values, number in series.items())
            found[name] = Family(metrics[name], points)
        return [found[name] for name in sorted(found)]

    def _families(self) -> Iterator[Family]:
        for kept in self._kept.values():
            family = kept.family()
            if family.points:
                yield family

    def _readings(self) -> Iterator[Reading]:
        for read in self._watched:
            try:
                yield from read()
            except Exception:  # a figure that cannot be read is missing; the others, and the process, are well
                log.exception("figures cannot be read")
