"""The shipped configuration of the collector, in a real one: what comes out is what we would have said ourselves."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import httpx2
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.resources import Resource
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.metrics.figures import Figures, Reading
from orchestrator.metrics.names import Metric, all_metrics
from orchestrator.metrics.otlp import Export
from orchestrator.metrics.text import render
from tests.deploy.collector_server import CONFIG, READY_SECONDS_MAX, collector_binary, running_collector

# What a collector says beside: whose figures they are, and by which code.
OF_THE_COLLECTOR = ("job", "instance", "otel_scope_name", "otel_scope_version", "otel_scope_schema_url")

Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(text: str) -> dict[Sample, float]:
    """What Prometheus reads, without the target's own line and the collector's labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name not in OF_THE_COLLECTOR}
            if "le" in labels:
                labels["le"] = str(float(labels["le"]))  # a bound of 1 is written 1 there and 1.0 here
            if sample.name != "target_info":
                found[sample.name, frozenset(labels.items())] = sample.value
    return found


def one_of_everything() -> Figures:
    """A series of every metric."""
    figures = Figures()
    read: list[Reading] = []
    for number, metric in enumerate(all_metrics()):
        values = tuple(f"value-{place}" for place, _ in enumerate(metric.attributes))
        if metric.kind == "counter":
            figures.counter(metric).add(values, number + 1)
        elif metric.kind == "histogram":
            for bound in metric.bounds:
                figures.histogram(metric).observe(values, bound, number + 1)
        else:
            read.append((metric, values, number + 0.5))
    figures.watch(lambda: read)
    return figures


def test_a_collector_understands_it() -> None:
    """Every component is there and takes its settings, those of the sampling example too."""
    done = subprocess.run(
        [collector_binary(), "validate", "--config", str(CONFIG)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_dashboards_serve_both_ways(tmp_path: Path) -> None:
    """Sent over OTLP and read at the collector, each figure has the name, labels and value of our own /metrics."""
    figures = one_of_everything()
    text, _ = render(figures.collect(), {})
    async with running_collector(tmp_path) as collector, httpx2.AsyncClient(trust_env=False) as client:
        exporter = OTLPMetricExporter(collector.otlp)
        resource = Resource({"service.name": "saga-orchestrator", "service.instance.id": "one"})
        exporting = Export(figures.collect, resource, interval_ms=1_000, exporter=exporter)
        await exporting.send()
        assert exporting.failures == 0
        found: dict[Sample, float] = {}
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not found:
                await asyncio.sleep(0.2)
                found = samples((await client.get(collector.metrics)).text)
        labels = (await client.get(collector.metrics)).text
    own = samples(text.decode())
    assert found == pytest.approx(own)
    assert 'job="saga-orchestrator"' in labels
    assert 'instance="one"' in labels


def test_every_kind_of_metric_is_among_them() -> None:
    """The comparison above is of all of them."""
    assert {metric.kind for metric in all_metrics()} == {"counter", "gauge", "histogram"}
    kept = one_of_everything().collect()
    assert [family.metric for family in kept] == sorted(all_metrics(), key=lambda metric: metric.name)
    assert all(isinstance(family.metric, Metric) for family in kept)
