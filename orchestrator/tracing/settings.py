"""Where telemetry goes and what is sampled, from the standard `OTEL_*` variables.

Rules of this file
- Every process of an installation gets the same variables: whether a trace is sampled must come out the same in each.
- Traces are on where an endpoint is named (`OTEL_EXPORTER_OTLP_ENDPOINT`, `..._TRACES_ENDPOINT`), or where
  `OTEL_TRACES_EXPORTER=otlp` says so (then it is http://localhost:4318); `none`, or `OTEL_SDK_DISABLED=true`, turns
  them off.
- A bad value stops the start with its name; nothing is guessed. A header's value is never shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import unquote, urlsplit

from orchestrator.telemetry import (
    DEFAULT_SERVICE,
    DEPLOYMENT_ENVIRONMENT,
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
)
from orchestrator.tracing.sampling import PARENT_ALONE, Sampler, sampler_of

DEFAULT_ENDPOINT = "http://localhost:4318"
TIMEOUT_MS = 10_000
PROTOCOL, PROTOBUF = "http/json", "http/protobuf"  # what is sent; what is said to be JSON then, since it is often set


class TelemetrySettingsError(ValueError):
    """An `OTEL_*` variable cannot be used; the text names it and says what it may be."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """`traces_url`: where spans are posted to, "" for nowhere. `headers`: sent with each post; may hold a secret.

    asked_protocol: what the environment names; `http/json` is what is sent.
    """

    traces_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_ms: int = TIMEOUT_MS
    gzip: bool = False
    certificate: str = ""
    sampler: Sampler = PARENT_ALONE
    resource: Mapping[str, str] = field(default_factory=dict)
    asked_protocol: str = PROTOCOL

    @property
    def service(self) -> str:
        """The service's name, for spans that the orchestrator itself makes."""
        return self.resource.get(SERVICE_NAME) or DEFAULT_SERVICE


def telemetry_settings(environment: Mapping[str, str] | None = None, deployment: str = "") -> TelemetrySettings:
    """What the environment says. `deployment`: the name of this installation. Raises TelemetrySettingsError."""
    given = os.environ if environment is None else environment
    url = _traces_url(given)
    resource = resource_attributes(given, deployment)
    if not url:
        return TelemetrySettings(resource=resource)
    compression = _first(given, "COMPRESSION") or "none"
    if compression not in ("none", "gzip"):
        raise TelemetrySettingsError(f"OTEL_EXPORTER_OTLP_COMPRESSION is {compression!r}; it may be none or gzip")
    protocol = _first(given, "PROTOCOL") or PROTOCOL
    if protocol not in (PROTOCOL, PROTOBUF):
        raise TelemetrySettingsError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol[:40]!r}; traces are sent over HTTP (port 4318), as {PROTOCOL}"
        )
    try:
        timeout_ms = int(_first(given, "TIMEOUT") or TIMEOUT_MS)
        sampler = sampler_of(given.get("OTEL_TRACES_SAMPLER", ""), given.get("OTEL_TRACES_SAMPLER_ARG", ""))
    except ValueError as error:
        raise TelemetrySettingsError(f"OTEL_EXPORTER_OTLP_TIMEOUT or OTEL_TRACES_SAMPLER: {error}") from error
    return TelemetrySettings(
        traces_url=url,
        headers=_pairs(_first(given, "HEADERS"), "OTEL_EXPORTER_OTLP_HEADERS"),
        timeout_ms=timeout_ms,
        gzip=compression == "gzip",
        certificate=_first(given, "CERTIFICATE"),
        sampler=sampler,
        resource=resource,
        asked_protocol=protocol,
    )


def resource_attributes(environment: Mapping[str, str], deployment: str = "") -> dict[str, str]:
    """`OTEL_RESOURCE_ATTRIBUTES` with `OTEL_SERVICE_NAME` over it; `service.name` is always there."""
    found = _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    name = environment.get("OTEL_SERVICE_NAME") or found.get(SERVICE_NAME) or DEFAULT_SERVICE
    own = {DEPLOYMENT_ENVIRONMENT: deployment} if deployment else {}
    return {**own, **found, SERVICE_NAME: name}


def release() -> str:
    """Which version of the product runs here."""
    try:
        return version(DEFAULT_SERVICE)
    except PackageNotFoundError:
        return "unknown"


def instance_resource(resource: Mapping[str, str], instance_id: str) -> dict[str, str]:
    """The resource of what one process alone can say: metrics, and spans that are measured and not derived.

    Spans from records go without the instance: whichever process sends them, they must be the same spans.
    """
    return {
        SERVICE_VERSION: release(),
        **resource,
        SERVICE_INSTANCE_ID: resource.get(SERVICE_INSTANCE_ID) or instance_id,
    }


def _traces_url(given: Mapping[str, str]) -> str:
    exporter = given.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "otlp", "none"):
        raise TelemetrySettingsError(f"OTEL_TRACES_EXPORTER is {exporter!r}; it may be otlp or none")
    if exporter == "none" or given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ""
    own, base = given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""), given.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not own and not base and exporter != "otlp":
        return ""
    url = own or f"{(base or DEFAULT_ENDPOINT).rstrip('/')}/v1/traces"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TelemetrySettingsError(f"the OTLP endpoint {parts.scheme}://{parts.hostname} must be an http(s) URL")
    return url


def _first(given: Mapping[str, str], name: str) -> str:
    return given.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}", "") or given.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def _pairs(text: str, variable: str) -> dict[str, str]:
    found = {}
    for part in text.split(","):
        if not part.strip():
            continue
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise TelemetrySettingsError(f"{variable} must be name=value,name=value; a part has no name or no value")
        found[unquote(name.strip())] = unquote(value.strip())
    return found
