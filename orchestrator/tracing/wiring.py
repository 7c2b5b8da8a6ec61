"""What sends spans in one process, made from settings. Only wiring: which setting feeds which argument stands here."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import structlog

from orchestrator.store.postgres import PostgresStore
from orchestrator.tracing.fold import TopicOf, Wire
from orchestrator.tracing.limits import TraceSettings
from orchestrator.tracing.local import LocalSpans
from orchestrator.tracing.loop import BacklogLimit, TraceLoop
from orchestrator.tracing.requests import Requests, Served
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.settings import PROTOCOL, TelemetrySettings, instance_resource
from orchestrator.tracing.spool import Spool
from orchestrator.tracing.store import Told, TraceStore

MEASURING = frozenset({"participants", "api"})
ROLE = "traces"
SPANS = "spans"  # where measured ones wait, below data_dir
NOTING = frozenset({"coordinator", "timers", "api", "relay"})  # write records, and note which are to become spans

log = structlog.get_logger("orchestrator.traces")


class Traces:
    """Both loops, each where it is wanted: spans of records with the role traces, measured ones with others."""

    def __init__(
        self,
        limits: TraceSettings,
        telemetry: TelemetrySettings,
        store: PostgresStore,
        topic_of: TopicOf,
        wire: Wire,
        *,
        roles: frozenset[str],
        instance: str,
        spool: Path | None = None,
    ) -> None:
        who = instance or f"{socket.gethostname()}:{os.getpid()}"
        self.local: LocalSpans | None = None
        self.loop: TraceLoop | None = None
        self.limit: BacklogLimit | None = None
        self.add_request: Callable[[Served], None] | None = None
        if not telemetry.traces_url:
            return
        if telemetry.asked_protocol != PROTOCOL:
            log.warning(
                "spans are sent as http/json; collectors take it at the same address", asked=telemetry.asked_protocol
            )
        if roles & MEASURING:
            resource = instance_resource(telemetry.resource, who)

            def requests() -> Requests:
                return Requests(TraceStore(store).before, telemetry.sampler)

            self.local = LocalSpans(
                Sender(telemetry),
                resource,
                spans_max=limits.trace_spans_max,
                requests=requests() if "api" in roles else None,
                spool=Spool(spool, resource) if spool is not None else None,
                fresh=requests,
            )
            self.add_request = self.local.add_request if "api" in roles else None
        if ROLE not in roles and roles & NOTING:
            self.limit = BacklogLimit(TraceStore(store), limits.trace_backlog_batches_max)
        if ROLE in roles:
            self.loop = TraceLoop(
                TraceStore(store),
                Sender(telemetry),
                Told(telemetry.resource, wire),
                topic_of,
                who=who,
                poll_ms=limits.trace_poll_ms,
                records_max=limits.trace_records_max,
                sagas_max=limits.trace_sagas_max,
                backlog_batches_max=limits.trace_backlog_batches_max,
            )

    def loops(self) -> Iterator[tuple[str, LocalSpans | TraceLoop | BacklogLimit]]:
        """Names and loops."""
        if self.local is not None:
            yield "spans", self.local
        if self.loop is not None:
            yield "traces", self.loop
        if self.limit is not None:
            yield "traces-limit", self.limit

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        return {name: count for _, loop in self.loops() for name, count in loop.facts().items()}


def spool_of(data_dir: Path, database_url: str, telemetry: TelemetrySettings) -> Path:
    """A directory for spans of this database's product and this collector: nobody else's are sent there."""
    text = f"{database_url}\n{telemetry.traces_url}"
    return data_dir / SPANS / hashlib.sha256(text.encode()).hexdigest()[:16]


def topics_of(events: Iterable[tuple[str, str]]) -> TopicOf:
    """The topic of each event, from pairs of wire name and topic."""
    known = dict(events)
    return lambda name: known.get(name, "")
