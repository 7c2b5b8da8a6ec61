"""Settings of metrics. What concerns a collector is in the standard OTEL_... variables (docs/guides/metrics.md)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from orchestrator.setting import number

TOKEN_CHARACTERS_MIN = 16
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class MetricsSettings(BaseSettings):
    """What a process tells about itself, and to whom."""

    metrics_listen: str = Field(
        default="",
        description="host:port where this process answers GET /metrics for Prometheus. Empty: nowhere; a process with "
        "the role api answers it among its routes anyway, to those who may read metrics.",
    )
    metrics_token: str = Field(
        default="", repr=False, description="What whoever reads metrics_listen sends as Authorization: Bearer ..."
    )
    metrics_survey_ms: int = number(
        15_000, 500, 600_000, "How often the database is asked for what concerns all processes (stuck, outbox, lags)."
    )

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value


def split_address(text: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError("must be host:port, for example 127.0.0.1:9464; port 0 takes a free one")
    return host.strip("[]"), int(port)


def production_flaws(settings: MetricsSettings) -> Iterator[tuple[str, str, str]]:
    """What is only safe on a laptop: setting, what is wrong, what to do."""
    if not settings.metrics_listen:
        return
    host, _ = split_address(settings.metrics_listen)
    if host not in _LOOPBACK and not settings.metrics_token:
        yield "metrics_listen", "lets anybody read metrics", "set ORCHESTRATOR_METRICS_TOKEN, or listen on 127.0.0.1"
    if settings.metrics_token and len(settings.metrics_token) < TOKEN_CHARACTERS_MIN:
        yield "metrics_token", "can be guessed", f"use at least {TOKEN_CHARACTERS_MIN} random characters"
