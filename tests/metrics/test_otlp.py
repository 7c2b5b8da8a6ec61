"""Sending figures over OTLP: when it is done, how often, and what a collector that is away costs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import Resource

from orchestrator.metrics import names, otlp
from orchestrator.metrics.figures import Figures
from orchestrator.metrics.survey import Survey
from orchestrator.runtime.supervisor import Stopping
from orchestrator.store.figures import ProductFigures

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_collector_that_is_away_costs_figures_only() -> None:
    """The loop goes on, counts what was not taken, and says once that it is so and once that it is over."""
    figures = Figures()
    figures.counter(names.STARTED).add(("transfer",))
    failed, taken = MetricExportResult.FAILURE, MetricExportResult.SUCCESS
    outcomes: Iterator[Exception | MetricExportResult] = iter([OSError("away"), failed])
    sent = []

    class Exporter(OTLPMetricExporter):
        """Fails as told."""

        def export(
            self, metrics_data: object, timeout_millis: float | None = 0, **kwargs: object
        ) -> MetricExportResult:
            sent.append(metrics_data)
            outcome = next(outcomes, taken)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

    exporting = otlp.Export(figures.collect, Resource({}), interval_ms=10, exporter=Exporter("http://127.0.0.1:1"))
    stopping = Stopping()
    running = asyncio.create_task(exporting.run(stopping))
    async with asyncio.timeout(60):
        while len(sent) < 4:  # noqa: ASYNC110 - it is another loop that is waited for
            await asyncio.sleep(0.01)
    stopping.ask()
    await running
    assert exporting.failures == 2


async def test_a_collector_that_hangs_does_not_hold_up_the_end_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last export is given a moment, and then nobody waits for it any more: not the loop, not the interpreter."""
    monkeypatch.setattr(otlp, "LAST_SECONDS_MAX", 0.05)
    released, hanging = threading.Event(), threading.Event()

    class Exporter(OTLPMetricExporter):
        """Hangs."""

        def export(
            self, metrics_data: object, timeout_millis: float | None = 0, **kwargs: object
        ) -> MetricExportResult:
            hanging.set()
            released.wait(30)
            return MetricExportResult.SUCCESS

    def process() -> None:
        async def life() -> None:
            stopping = Stopping()
            stopping.ask()
            exporter = Exporter("http://127.0.0.1:1")
            await otlp.Export(Figures().collect, Resource({}), interval_ms=10, exporter=exporter).run(stopping)

        asyncio.run(life())  # ends when everything that it waits for has ended

    living = threading.Thread(target=process)
    living.start()
    try:
        await asyncio.to_thread(living.join, 10)
        assert hanging.is_set()
        assert not living.is_alive()
    finally:
        released.set()
        living.join()


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
    ],
)
async def test_nothing_is_sent_unless_somebody_names_a_collector(environment: dict[str, str], wanted: bool) -> None:
    """A process that nobody configured talks to nobody."""
    assert otlp.is_wanted(environment) is wanted


async def test_another_protocol_than_the_one_that_is_sent_is_noticed() -> None:
    """Said in a warning at the start, never silently something else."""
    assert otlp.other_protocol({}) == otlp.other_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}) == ""
    assert otlp.other_protocol({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) == "grpc"
    both = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"}
    assert otlp.other_protocol(both) == "http/json"


async def test_the_interval_is_the_standards_own() -> None:
    """A minute, unless the variable says otherwise; nonsense is a minute too."""
    assert otlp.interval_ms({}) == 60_000
    assert otlp.interval_ms({"OTEL_METRIC_EXPORT_INTERVAL": "5000"}) == 5_000
    assert otlp.interval_ms({"OTEL_METRIC_EXPORT_INTERVAL": "often"}) == 60_000


async def test_figures_that_cannot_be_asked_for_or_written_down_end_no_process() -> None:
    """Neither an odd answer of the database, nor a number that is none."""
    stopping, asked = Stopping(), 0

    async def ask() -> ProductFigures:
        nonlocal asked
        asked += 1
        if asked == 2:
            stopping.ask()
        raise KeyError("a column that a later release has renamed")

    await Survey(ask, every_ms=1).run(stopping)
    assert asked == 2
    figures = Figures()
    figures.watch(lambda: [(names.OUTBOX_AGE, (), float("nan"))])
    exporting = otlp.Export(figures.collect, Resource({}), interval_ms=10, exporter=OTLPMetricExporter())
    await exporting.send()
    assert exporting.failures == 1
