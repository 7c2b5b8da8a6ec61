"""Limits of traces, as part of the settings of a process (`orchestrator.config.Settings`).

Where spans go and which are kept is said by the standard `OTEL_*` variables (settings.py); here is only what is ours.
"""

from __future__ import annotations

from typing import Annotated

from pydantic_settings import BaseSettings

from orchestrator.setting import number


class TraceSettings(BaseSettings):
    """How much is kept and how often is looked."""

    trace_poll_ms: Annotated[int, number(500, 10, 60_000, "How often records are looked for that are to become spans.")]
    trace_records_max: Annotated[
        int, number(1_000, 1, 20_000, "Records that are made into spans at once, without pause.")
    ]
    trace_sagas_max: Annotated[
        int, number(10_000, 0, 1_000_000, "Sagas whose traces are kept in memory; others are read anew.")
    ]
    trace_spans_max: Annotated[
        int, number(20_000, 100, 1_000_000, "Spans of participants and HTTP that wait in memory; the oldest go.")
    ]
    trace_backlog_batches_max: Annotated[
        int,
        number(1_000_000, 100, 100_000_000, "Batches that wait for a collector that is away; the oldest are given up."),
    ]
