"""Names that OpenTelemetry has are written as OpenTelemetry writes them: compared with its own package of names."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from opentelemetry import semconv

import orchestrator.kernel.api  # noqa: F401 - every fold is registered
from orchestrator import telemetry
from orchestrator.kernel.evolve import FOLDS
from orchestrator.metrics.figures import Figures
from orchestrator.metrics.names import QUICK, all_metrics
from orchestrator.metrics.sagas import SagaFigures

# The package still has these; nobody is to begin with them.
DEPRECATED = {
    "messaging.operation",
    "messaging.kafka.message.offset",
    "messaging.kafka.consumer.group",
    "messaging.client_id",
}
DEPRECATED |= {
    "messaging.destination",
    "messaging.kafka.destination.partition",
    "http.method",
    "http.status_code",
    "db.system",
}
ADVISED = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
)  # of messaging and HTTP, in seconds


def _known(part: str) -> set[str]:
    """Every name that the package has, of attributes or metrics."""
    found: set[str] = set()
    for where in (part, f"_incubating.{part}"):
        folder = Path(semconv.__path__[0], *where.split("."))
        for module in pkgutil.iter_modules([str(folder)]):
            loaded = importlib.import_module(f"opentelemetry.semconv.{where}.{module.name}")
            found |= {value for value in vars(loaded).values() if isinstance(value, str) and "." in value}
    return found


ATTRIBUTES, METRICS = _known("attributes"), _known("metrics")
DATED = "1.44.0"


def _spelt() -> dict[str, str]:
    """The names of attributes in telemetry.py that are not ours."""
    values = {name: value for name, value in vars(telemetry).items() if name.isupper() and isinstance(value, str)}
    prefixes = ("service.", "deployment.", "messaging.", "cloudevents.", "http.", "url.", "server.", "db.", "error.")
    return {name: value for name, value in values.items() if value.startswith(prefixes)}


@pytest.mark.parametrize(("name", "value"), sorted(_spelt().items()))
def test_an_attribute_is_spelt_as_the_conventions_spell_it(name: str, value: str) -> None:
    """A letter wrong, and no dashboard of anybody else's finds it."""
    assert value in ATTRIBUTES - DEPRECATED, name


def test_the_comparison_has_something_to_compare() -> None:
    """Both sides are there, and what nobody knows is missed."""
    assert len(_spelt()) > 25
    assert {"messaging.kafka.offset", "http.route", "db.namespace"} <= ATTRIBUTES
    assert "messaging.kafka.message.offsett" not in ATTRIBUTES
    assert telemetry.SCHEMA_URL.endswith(DATED)


def test_metrics_of_others_have_their_names_and_bounds() -> None:
    """Messaging and HTTP: histograms in seconds, with the bounds that are advised."""
    theirs = [metric for metric in all_metrics() if not metric.name.startswith("saga.")]
    assert len(theirs) == 5
    for metric in theirs:
        assert metric.name in METRICS, metric.name
        assert set(metric.attributes) <= ATTRIBUTES
        if metric.kind == "histogram":
            assert (metric.unit, metric.bounds) == ("s", ADVISED)
    assert QUICK == ADVISED


def test_what_is_counted_are_records_that_the_kernel_writes() -> None:
    """A type that nobody writes would be counted for ever as 0, and look like peace."""
    assert set(SagaFigures(Figures())._count) - set(FOLDS) == set()
