"""The figures as Prometheus reads them: its text format, or OpenMetrics where the reader asks for it.

Rules of this file: names, suffixes and labels are those that a collector makes of the same figures sent over OTLP, so
that one dashboard serves both ways. The resource's attributes are in `target_info`, as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as PrometheusMetric

from orchestrator.metrics.figures import Family, Point
from orchestrator.metrics.names import OVERFLOW, prometheus_label, prometheus_name

INF = "+Inf"


class _Collected:
    """What prometheus_client takes for a registry."""

    def __init__(self, metrics: Iterable[PrometheusMetric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[PrometheusMetric]:
        return self._metrics


def render(families: Sequence[Family], resource: Mapping[str, str], accept: str = "") -> tuple[bytes, str]:
    """The body and its content type."""
    encode, content_type = exposition.choose_encoder(accept)
    return encode(_Collected([*_target(resource), *map(_metric, families)])), content_type


def _target(resource: Mapping[str, str]) -> Iterator[PrometheusMetric]:
    if resource:
        names = sorted(resource)
        found = GaugeMetricFamily(
            "target_info", "What this process says of itself", labels=[*map(prometheus_label, names)]
        )
        found.add_metric([resource[name] for name in names], 1)
        yield found


def _metric(family: Family) -> PrometheusMetric:
    metric = family.metric
    name = prometheus_name(metric)
    labels = [*map(prometheus_label, metric.attributes)]
    if any(point.overflow for point in family.points):
        labels.append(prometheus_label(OVERFLOW))
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, metric.meaning, labels=labels)
        for point in family.points:
            histogram.add_metric(_label_values(point, labels), buckets=_buckets(family, point), sum_value=point.number)
        return histogram
    simple: CounterMetricFamily | GaugeMetricFamily
    if metric.kind == "counter":
        simple = CounterMetricFamily(name.removesuffix("_total"), metric.meaning, labels=labels)
    else:
        simple = GaugeMetricFamily(name, metric.meaning, labels=labels)
    for point in family.points:
        simple.add_metric(_label_values(point, labels), point.number)
    return simple


def _label_values(point: Point, labels: Sequence[str]) -> list[str]:
    values = list(point.values)
    if len(labels) > len(values):
        values.append("true" if point.overflow else "")
    return values


def _buckets(family: Family, point: Point) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus counts."""
    found, total = [], 0
    bounds = [*(repr(float(bound)) for bound in family.metric.bounds), INF]
    for bound, count in zip(bounds, point.counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found
