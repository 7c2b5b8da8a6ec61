"""Which traces are kept, and what the standard variables mean."""

from __future__ import annotations

import hashlib

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from structlog.testing import capture_logs

from orchestrator.api.tracing import told_path
from orchestrator.config import Settings
from orchestrator.store.postgres import PostgresStore
from orchestrator.tracing.fold import Wire
from orchestrator.tracing.sampling import Sampler, sampler_of
from orchestrator.tracing.settings import TelemetrySettingsError, instance_resource, release, telemetry_settings
from orchestrator.tracing.wiring import Traces

TRACES = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(2_000)]


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.5, 1.0])
def test_the_ratio_keeps_the_traces_that_opentelemetry_keeps(ratio: float) -> None:
    """An upstream with the same ratio and its SDK must not lose half of our spans."""
    theirs = TraceIdRatioBased(ratio)
    for trace_id in TRACES:
        expected = theirs.should_sample(None, int(trace_id, 16), "x").decision is Decision.RECORD_AND_SAMPLE
        assert Sampler(ratio, parent_based=False).keeps(trace_id, None) is expected


@pytest.mark.parametrize(
    ("name", "argument", "flags", "kept"),
    [
        ("always_on", "", 0, True),
        ("always_off", "", 1, False),
        ("", "", None, True),
        ("parentbased_always_on", "", 0, False),
        ("parentbased_always_off", "", 1, True),
        ("parentbased_always_off", "", None, False),
        ("parentbased_traceidratio", "0", 3, True),
        ("parentbased_traceidratio", "0", None, False),
        ("traceidratio", "0", 1, False),
        ("traceidratio", "", None, True),
    ],
)
def test_a_sampler_by_name_does_what_the_standard_says(name: str, argument: str, flags: int | None, kept: bool) -> None:
    """With parentbased the upstream's flag decides; else only the trace id does."""
    assert sampler_of(name, argument).keeps(TRACES[0], flags) is kept


def test_without_an_endpoint_nothing_is_traced() -> None:
    """A laptop without a collector must not try to reach one."""
    found = telemetry_settings({})
    assert not found.traces_url
    assert not found.sampler.keeps(TRACES[0], None)
    assert found.sampler.keeps(TRACES[0], 1), "an upstream's word is passed on"
    assert found.service == "saga-orchestrator"


def test_the_standard_variables_are_read() -> None:
    """The more special name wins; attributes and headers come unquoted."""
    found = telemetry_settings(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Bearer%20abc,x=1",
            "OTEL_EXPORTER_OTLP_HEADERS": "x=2",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=other",
            "OTEL_SERVICE_NAME": "bank",
        }
    )
    assert found.traces_url == "http://collector:4318/v1/traces"
    assert found.headers == {"authorization": "Bearer abc", "x": "1"}
    assert (found.gzip, found.timeout_ms, found.service) == (True, 2500, "bank")
    assert found.resource["deployment.environment.name"] == "test"
    assert "abc" not in repr(found)


@pytest.mark.parametrize(
    "environment",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_SAMPLER": "sometimes"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_SAMPLER": "traceidratio",
         "OTEL_TRACES_SAMPLER_ARG": "2"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/xml"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_RESOURCE_ATTRIBUTES": "nonsense"},
    ],
)  # fmt: skip
def test_a_wrong_variable_stops_the_start(environment: dict[str, str]) -> None:
    """Nothing is guessed: the text names the variable."""
    with pytest.raises(TelemetrySettingsError, match=r"OTEL|OTLP"):
        telemetry_settings(environment)


def test_protobuf_is_not_silently_something_else() -> None:
    """It is the standard's default and often set for all: spans go as JSON, and the settings know that it was asked."""
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    limits, store, roles = Settings(), PostgresStore("postgresql://127.0.0.1:9/none"), frozenset({"traces"})
    with capture_logs() as said:
        made = Traces(limits, telemetry_settings(asked), store, lambda _: "", Wire(), roles=roles, instance="one")
        assert made.loop is not None
    assert [(one["log_level"], one["asked"]) for one in said] == [("warning", "http/protobuf")]


def test_every_span_says_where_it_runs_and_measured_ones_which_process_and_version() -> None:
    """An alert on production must not be of a rehearsal; a slow handler is of one release and one machine."""
    settings = telemetry_settings({"OTEL_SERVICE_NAME": "desk"}, "production")
    assert settings.resource == {"deployment.environment.name": "production", "service.name": "desk"}
    named = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=blue"}
    assert telemetry_settings(named, "production").resource["deployment.environment.name"] == "blue"
    measured = instance_resource(settings.resource, "pod-3")
    assert measured["service.instance.id"] == "pod-3"
    assert measured["service.version"] == release() != ""


@pytest.mark.parametrize(
    ("route", "values", "told"),
    [
        ("/v1/tasks/{task_id}/decide", {"task_id": "0f0e0d0c-0000-5000-8000-000000000001"},
         "/v1/tasks/0f0e0d0c-0000-5000-8000-000000000001/decide"),
        ("/v1/tasks/{task_id}/decide", {"task_id": "0f0e0d0c-0000-5000-8000-000000000001:CANARY"},
         "/v1/tasks/0f0e0d0c-0000-5000-8000-000000000001:REDACTED/decide"),
        ("/v1/tasks/{task_id}", {"task_id": "0f0e0d0c-0000-5000-8000-000000000001CANARY"}, "/v1/tasks/REDACTED"),
        ("/v1/{name}/by-key/{key:path}", {"name": "order", "key": "CANARY/1"}, "/v1/REDACTED/by-key/REDACTED"),
        ("/v1/sagas", {}, "/v1/sagas"),
    ],
)  # fmt: skip
def test_of_a_path_only_ids_are_told(route: str, values: dict[str, str], told: str) -> None:
    """The conventions want a request's path; what people chose as a key may name a customer."""
    assert told_path(route, values) == told
