"""The figures over OTLP to a collector, as often as OTEL_METRIC_EXPORT_INTERVAL says.

Rules of this file
- Sending happens in a thread of its own: a slow or dead collector costs nothing but figures, and since totals are
  cumulative the next export that succeeds makes up for those that failed.
- Nothing is sent unless the environment names a collector: a process that nobody configured talks to nobody.
- Endpoint, headers, TLS, compression and timeouts are the exporter's standard OTEL_EXPORTER_OTLP_... variables.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from orchestrator.metrics.figures import Family, Point
from orchestrator.metrics.names import OVERFLOW, Metric
from orchestrator.runtime.supervisor import Stopping
from orchestrator.telemetry import SCHEMA_URL, SCOPE

INTERVAL_MS = 60_000
PROTOCOL = "http/protobuf"
LAST_SECONDS_MAX = 3.0  # for the last export when the process stops

log = structlog.get_logger("orchestrator.metrics")


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """A collector is named, and nobody has switched metrics off."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporters = {name.strip() for name in environment.get("OTEL_METRICS_EXPORTER", "").split(",") if name.strip()}
    if exporters:
        return "otlp" in exporters
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    return any(environment.get(name) for name in names)


def other_protocol(environment: Mapping[str, str] = os.environ) -> str:
    """The protocol that the environment asks for, where that is not the one in which figures are sent; else ""."""
    own = environment.get("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "")
    asked = own or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    return asked if asked not in ("", PROTOCOL) else ""


def interval_ms(environment: Mapping[str, str] = os.environ) -> int:
    """How often figures are sent; the standard's default where the variable is missing or no number."""
    text = environment.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    return max(100, int(text)) if text.isdigit() else INTERVAL_MS


class Export:
    """Sends figures until asked to stop, and once more then."""

    def __init__(
        self,
        collect: Callable[[], Sequence[Family]],
        resource: Resource,
        *,
        interval_ms: int,
        exporter: export.MetricExporter | None = None,
    ) -> None:
        self._collect, self._resource = collect, resource
        self._interval_ms = interval_ms
        self._exporter = exporter or OTLPMetricExporter()
        self._began_ns = time.time_ns()
        self._failing = False
        self.failures = 0

    async def run(self, stopping: Stopping) -> None:
        """Sends now and then."""
        while not stopping:
            await stopping.sleep(self._interval_ms)
            if not stopping:
                await self.send()
        try:
            async with asyncio.timeout(LAST_SECONDS_MAX):
                await self.send()
        except TimeoutError:
            log.warning("the last figures were not sent in time")

    async def send(self) -> None:
        """Collects and sends once; a failure is counted and told once, until it is over."""
        try:
            data = metrics_data(self._collect(), self._resource, self._began_ns, time.time_ns())
            taken = await self._exported(data)
            error = "" if taken is export.MetricExportResult.SUCCESS else "the collector did not take them"
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"[:300]
        if error:
            self.failures += 1
        if error and not self._failing:
            log.warning("metrics are not sent", error=error)
        if self._failing and not error:
            log.info("metrics are sent again")
        self._failing = bool(error)

    async def _exported(self, data: export.MetricsData) -> export.MetricExportResult:
        """Exports in a thread that nobody waits for when the process ends: a collector may hang for long."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[export.MetricExportResult] = loop.create_future()

        def tell(outcome: export.MetricExportResult | Exception) -> None:
            if done.done():
                return
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)

        def work() -> None:
            outcome: export.MetricExportResult | Exception
            try:
                outcome = self._exporter.export(data)
            except Exception as error:
                outcome = error
            with contextlib.suppress(RuntimeError):  # the process has ended meanwhile
                loop.call_soon_threadsafe(tell, outcome)

        threading.Thread(target=work, daemon=True, name="metrics-export").start()
        return await done


def metrics_data(families: Sequence[Family], resource: Resource, began_ns: int, now_ns: int) -> export.MetricsData:
    """The figures in the SDK's own types, cumulative since `began_ns`."""
    metrics = [
        export.Metric(family.metric.name, family.metric.meaning, family.metric.unit, _data(family, began_ns, now_ns))
        for family in families
    ]
    scope = export.ScopeMetrics(InstrumentationScope(SCOPE, schema_url=SCHEMA_URL), metrics, SCHEMA_URL)
    return export.MetricsData([export.ResourceMetrics(resource, [scope], resource.schema_url)])


def _data(family: Family, began_ns: int, now_ns: int) -> export.Sum | export.Gauge | export.Histogram:
    metric, cumulative = family.metric, export.AggregationTemporality.CUMULATIVE
    if metric.kind == "histogram":
        rows = [_histogram(metric, point, began_ns, now_ns) for point in family.points]
        return export.Histogram(rows, cumulative)
    began = began_ns if metric.kind == "counter" else 0
    points = [
        export.NumberDataPoint(_attributes(metric, point), began, now_ns, _number(point.number))
        for point in family.points
    ]
    return export.Sum(points, cumulative, is_monotonic=True) if metric.kind == "counter" else export.Gauge(points)


def _histogram(metric: Metric, point: Point, began_ns: int, now_ns: int) -> export.HistogramDataPoint:
    nothing: Any = None  # the smallest and largest since the start of a process tell nothing, and are optional
    return export.HistogramDataPoint(
        attributes=_attributes(metric, point),
        start_time_unix_nano=began_ns,
        time_unix_nano=now_ns,
        count=sum(point.counts),
        sum=point.number,
        bucket_counts=point.counts,
        explicit_bounds=metric.bounds,
        min=nothing,
        max=nothing,
    )


def _attributes(metric: Metric, point: Point) -> dict[str, str | bool]:
    found: dict[str, str | bool] = {
        name: value for name, value in zip(metric.attributes, point.values, strict=True) if value
    }
    return found | {OVERFLOW: True} if point.overflow else found


def _number(number: float) -> int | float:
    return int(number) if number == int(number) else number
