"""Counting and telling, without a product: limits, buckets, names, and what a broken reader costs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.config import load_settings
from orchestrator.identity.production import flaws
from orchestrator.metrics import names
from orchestrator.metrics.figures import SERIES_MAX, Figures, Reading
from orchestrator.metrics.listener import listening
from orchestrator.metrics.names import BY_NAME, Metric, all_metrics, prometheus_name
from orchestrator.metrics.survey import Survey
from orchestrator.metrics.text import render
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.figures import Follower, ProductFigures


def scraped(figures: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus' own parser reads of them."""
    text, _ = render(figures.collect(), {})
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@given(st.lists(st.tuples(st.floats(0, 1e7, allow_nan=False), st.integers(1, 5)), max_size=30))
def test_a_histogram_counts_each_thing_in_its_bucket(things: list[tuple[float, int]]) -> None:
    """Bounds are inclusive, buckets cumulative, and the last one has everything."""
    figures = Figures()
    for size, times in things:
        figures.histogram(names.DURATION).observe(("s", "completed"), size, times)
    found = scraped(figures)
    labels = (("saga_name", "s"), ("saga_phase", "completed"))
    for bound in names.DURATION.bounds:
        key = ("saga_duration_seconds_bucket", tuple(sorted((*labels, ("le", repr(float(bound)))))))
        assert found.get(key, 0) == sum(times for size, times in things if size <= bound)
    assert found.get(("saga_duration_seconds_count", labels), 0) == sum(times for _, times in things)
    assert found.get(("saga_duration_seconds_sum", labels), 0) == pytest.approx(sum(a * b for a, b in things))


def test_series_are_bounded_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in an attribute costs a bounded piece of memory; its total is still right."""
    assert SERIES_MAX <= 1_000
    monkeypatch.setattr("orchestrator.metrics.figures.SERIES_MAX", most := 20)
    figures = Figures()
    for number in range(most + 50):
        figures.counter(names.STARTED).add((f"saga-{number}",))
        figures.histogram(names.DURATION).observe((f"saga-{number}", "completed"), 1)
    found = scraped(figures)
    started = [value for (name, _), value in found.items() if name == "saga_started_total"]
    assert (len(started), sum(started)) == (most + 1, most + 50)
    counts = [value for (name, _), value in found.items() if name == "saga_duration_seconds_count"]
    assert (len(counts), sum(counts)) == (most + 1, most + 50)
    over = ("otel_metric_overflow", "true")
    assert [value for (name, labels), value in found.items() if name == "saga_started_total" and over in labels] == [50]


def test_a_reader_that_fails_costs_its_own_figures_alone() -> None:
    """Collecting goes on with the others."""
    figures = Figures()

    def broken() -> Iterator[Reading]:
        yield names.CACHED, (), 1
        raise RuntimeError("no")

    figures.watch(broken)
    figures.watch(lambda: [(names.ACTS_WAITING, (), 2)])
    assert scraped(figures) == {("saga_cache_sagas", ()): 1, ("saga_acts_waiting", ()): 2}


def test_names_follow_the_conventions() -> None:
    """Each once, lower case with dots, no name the beginning of another, counters without units of their own."""
    listed = [metric.name for metric in all_metrics()]
    assert len(listed) == len(set(listed)) == len(BY_NAME)
    for metric in all_metrics():
        assert metric.name.startswith(("saga.", "messaging.", "http."))
        assert metric.meaning.endswith(".")
        assert not any(other.startswith(f"{metric.name}.") for other in listed), metric.name
        assert bool(metric.bounds) == (metric.kind == "histogram")
        assert list(metric.bounds) == sorted(metric.bounds)
        assert metric.unit == "s" or (metric.unit.startswith("{") and metric.unit.endswith("}"))
        assert not any(name.endswith(".id") for name in metric.attributes)
    assert len({prometheus_name(metric) for metric in all_metrics()}) == len(listed)


def test_messaging_metrics_are_those_of_the_semantic_conventions() -> None:
    """Name, kind and unit as of 1.44.0, and the buckets that it advises."""
    expected = {
        "messaging.client.operation.duration": ("histogram", "s"),
        "messaging.client.sent.messages": ("counter", "{message}"),
        "messaging.client.consumed.messages": ("counter", "{message}"),
        "messaging.process.duration": ("histogram", "s"),
    }
    found = {m.name: (m.kind, m.unit) for m in all_metrics() if m.name.startswith("messaging.")}
    assert found == expected
    advised: tuple[float, ...] = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
    assert names.OPERATION_DURATION.bounds == names.PROCESS_DURATION.bounds == advised
    for metric in (names.OPERATION_DURATION, names.SENT, names.CONSUMED, names.PROCESS_DURATION):
        assert {"messaging.system", "messaging.operation.name", "error.type"} <= set(metric.attributes)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (names.STARTED, "saga_started_total"),
        (names.STEP_DURATION, "saga_step_duration_seconds"),
        (names.STUCK, "saga_stuck"),
        (Metric("saga.body.size", "histogram", "By", (), "x."), "saga_body_size_bytes"),
        (Metric("saga.lag.seconds", "gauge", "s", (), "x."), "saga_lag_seconds"),
    ],
)
def test_prometheus_names_follow_from_kind_and_unit(metric: Metric, expected: str) -> None:
    """As every collector makes them."""
    assert prometheus_name(metric) == expected


def product(models: Sequence[Follower] = ()) -> ProductFigures:
    """A product without anything, but these read models."""
    return ProductFigures({}, {}, (), 0, 0.0, 0.0, 0.0, 0, {}, tuple(models), (), ())


async def test_what_the_database_said_long_ago_is_not_told_as_if_it_were_now() -> None:
    """Its age is; a line that stands still would look like peace."""
    answers = [product()]

    async def ask() -> ProductFigures:
        if not answers:
            raise StoreUnavailableError("away")
        return answers.pop()

    survey = Survey(ask, every_ms=1)
    assert list(survey.readings()) == []
    await survey.ask()
    assert names.OUTBOX_DEPTH in [metric for metric, _, _ in survey.readings()]
    with pytest.raises(StoreUnavailableError):
        await survey.ask()
    await asyncio.sleep(0.05)
    assert [metric for metric, _, _ in survey.readings()] == [names.SURVEY_AGE, names.SURVEY_DURATION]


async def test_a_read_model_that_was_idle_is_not_hours_behind_for_a_moment() -> None:
    """One new record after a quiet night: what it lacks is as old as the last look that found nothing lacking."""
    found = [product([Follower("audit", False, 0, 40_000.0)])]

    async def ask() -> ProductFigures:
        return found[-1]

    survey = Survey(ask, every_ms=60_000)

    def lag() -> float:
        return next(number for metric, _, number in survey.readings() if metric is names.PROJECTION_LAG)

    await survey.ask()
    assert lag() == 0
    found.append(product([Follower("audit", False, 1, 40_000.0)]))
    await survey.ask()
    assert 0 < lag() < 60
    fresh = Survey(ask, every_ms=60_000)
    await fresh.ask()
    assert max(number for metric, _, number in fresh.readings() if metric is names.PROJECTION_LAG) == 40_000


async def test_with_a_token_nobody_else_reads() -> None:
    """Compared in constant time; a wrong one learns nothing."""
    token = "a-long-enough-token"

    async def told(_: str) -> tuple[bytes, str]:
        return b"x 1\n", "text/plain"

    async with (
        listening("127.0.0.1", 0, token, told) as url,
        httpx2.AsyncClient(trust_env=False) as client,
    ):
        for sent in ({}, {"Authorization": f"Bearer {token[:-1]}"}, {"Authorization": token}):
            refused = await client.get(url, headers=sent)
            assert (refused.status_code, b"x 1" in refused.content) == (401, False)
        answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.content) == (200, b"x 1\n")


def test_production_refuses_a_listener_that_anybody_can_read() -> None:
    """Loopback alone, or a token that cannot be guessed."""

    def found(**given: str) -> list[str]:
        settings = load_settings(environment="production", **given)
        return [flaw for flaw in flaws(settings, {}) if "METRICS" in flaw]

    assert found() == found(metrics_listen="127.0.0.1:9464") == []
    assert ["METRICS_LISTEN lets anybody read metrics" in flaw for flaw in found(metrics_listen="0.0.0.0:9464")] == [
        True
    ]
    assert ["METRICS_TOKEN can be guessed" in f for f in found(metrics_listen="0.0.0.0:1", metrics_token="x")] == [True]
    assert found(metrics_listen="0.0.0.0:1", metrics_token="x" * 16) == []
