"""Metrics of one process, put together: who counts, who is watched, and to whom it is told.

Rules of this file: only wiring. A part that is not there in this process is not wired.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from opentelemetry.sdk.resources import Resource

from orchestrator.broker.contract import Broker
from orchestrator.config import Settings
from orchestrator.kernel.graph import StepNode, TaskNode
from orchestrator.messages.protocol import commands_topic
from orchestrator.metrics import names, otlp, process
from orchestrator.metrics.broker import CountingBroker
from orchestrator.metrics.figures import Family, Figures, Reading
from orchestrator.metrics.http import RequestFigures
from orchestrator.metrics.listener import listening
from orchestrator.metrics.notices import NoticeFigures
from orchestrator.metrics.sagas import SagaFigures, processed
from orchestrator.metrics.settings import split_address
from orchestrator.metrics.survey import Survey
from orchestrator.metrics.text import render
from orchestrator.notices.sender import Sender
from orchestrator.notices.wiring import channels_of
from orchestrator.participants.worker import Handled
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.letters import REASONS
from orchestrator.runtime.supervisor import Supervisor
from orchestrator.store.connections import Pools
from orchestrator.store.figures import FigureQueries
from orchestrator.telemetry import system_of
from orchestrator.tracing.settings import instance_resource, resource_attributes
from orchestrator.tracing.words import low as step_name

DECIDING = frozenset({"coordinator", "timers", "api", "relay"})

TECHNICAL = ("exhausted", "expired", "deadline")  # kinds of failure to which nobody said no


class Metrics:
    """The metrics of one process. `url`: where they are served, "" where they are not."""

    def __init__(self, settings: Settings, roles: frozenset[str], broker_url: str) -> None:
        self.figures = Figures()
        self.url = ""
        self._settings, self._roles = settings, roles
        self._system = system_of(broker_url)
        self._resource = resource(settings, roles)
        self.surveying: Survey | None = None  # what asks the database, where this process does

    def counted(self, broker: Broker) -> Broker:
        """The same broker, counted."""
        return CountingBroker(broker, self.figures, self._system)

    def sagas(self, catalog: Catalog) -> SagaFigures:
        """For the coordinator of a process. What charts and alerts ask for by name begins at 0."""
        for saga in catalog.sagas.values():
            self._from_zero(names.STARTED, (saga.name,))
            self._from_zero(names.TURNED_BACK, (saga.name,), *TECHNICAL)
            for path, node in saga.graph.nodes.items():
                step = step_name(path)
                if isinstance(node, TaskNode):
                    self._from_zero(names.TASKS_OPENED, (saga.name, step))
                    self._from_zero(names.TASKS_ESCALATED, (saga.name, step))
                    self._from_zero(names.TASKS_CLOSED, (saga.name, step), "decided", "expired")
                elif isinstance(node, StepNode):
                    self._from_zero(names.STEP_FAILURES, (saga.name, step), "failed", "timed_out")
                    if node.undo_participant:
                        self._from_zero(names.UNDOS, (saga.name, step), "succeeded", "failed")
        self._from_zero(names.EARLY_EVENTS, ())
        return SagaFigures(self.figures)

    def _from_zero(self, metric: names.Metric, values: tuple[str, ...], *outcomes: str) -> None:
        """A series that is there before anything happened: who watches its increase must not miss the first."""
        counter = self.figures.counter(metric)
        for series in [(*values, outcome) for outcome in outcomes] or [values]:
            counter.add(series, 0)

    def intake(self, intake: Intake) -> None:
        """Counts what intake has processed."""
        intake.on_processed = processed(self.figures, self._system, self._settings.consumer_group)

    def handled(self, catalog: Catalog, also: Callable[[Handled], None] | None) -> Callable[[Handled], None]:
        """For the participants of a process. `also`: who wants to hear of it too."""
        for participant in catalog.participants if "participants" in self._roles else ():
            self._from_zero(names.HANDLED, (participant.name,), "ok", "refused", "error")
        took, count = self.figures.histogram(names.PROCESS_DURATION), self.figures.counter(names.HANDLED)
        system = self._system

        def on_handled(done: Handled) -> None:
            error = "error" if done.outcome == "error" else ""
            group = f"participants.{done.participant}"
            values = (system, "process", "process", commands_topic(done.participant), group, error)
            took.observe(values, max(0, done.ended_ns - done.began_ns) / 1e9)
            count.add((done.participant, "again" if done.again else done.outcome))
            if also is not None:
                also(done)

        return on_handled

    def requests(self) -> RequestFigures:
        """For the HTTP server of a process."""
        return RequestFigures(self.figures)

    def notices(self, sender: Sender) -> None:
        """Counts what the sender of notices does, by channel."""
        found = NoticeFigures(self.figures, lambda: sender.away)
        for channel in sender.channels:
            found.begin(channel)
        sender.watched_by = found

    def process(self, health: Callable[[], process.Health], supervisor: Supervisor) -> None:
        """Watches the process itself."""
        lag = self.figures.histogram(names.EVENT_LOOP_LAG)
        supervisor.on_lag = lambda seconds: lag.observe((), seconds)
        self.figures.watch(process.readings(health, tuple(REASONS), deciding=bool(self._roles & DECIDING)))

    def survey(self, pools: Pools, topics: Sequence[str]) -> Survey:
        """What asks the database; its `run` is a loop."""
        settings = self._settings
        queries, tenants = FigureQueries(pools), sorted(settings.tenants)
        made = self.surveying = Survey(
            lambda: queries.product(settings.consumer_group, topics, tenants),
            every_ms=settings.metrics_survey_ms,
            reasons=tuple(REASONS),
            channels=channels_of(settings),
            sealed=bool((settings.evidence_key or settings.evidence_key_file) and settings.evidence_seal_ms),
        )
        self.figures.watch(made.readings)
        return made

    def export(self) -> otlp.Export | None:
        """What sends to a collector; its `run` is a loop. None where the environment names no collector."""
        if not otlp.is_wanted():
            return None
        if asked := otlp.other_protocol():
            otlp.log.warning("metrics are sent over HTTP as protobuf", asked=asked[:40])
        made = otlp.Export(self.figures.collect, self._resource, interval_ms=otlp.interval_ms())
        self.figures.watch(lambda: [(names.EXPORT_FAILURES, (), made.failures)])
        return made

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """While inside, the listener answers, where one is wanted. Raises OSError where its address is taken."""
        settings = self._settings
        if not settings.metrics_listen:
            yield
            return
        host, port = split_address(settings.metrics_listen)
        async with listening(host, port, settings.metrics_token, self.text) as self.url:
            yield

    async def text(self, accept: str = "") -> tuple[bytes, str]:
        """The figures for Prometheus, and the content type.

        Written down by a thread: some thousand lines take 50 ms, in which nobody else would be answered.
        """
        attributes = {name: str(value) for name, value in self._resource.attributes.items()}
        return await asyncio.to_thread(render, self.collect(), attributes, accept)

    def collect(self) -> list[Family]:
        """The figures now."""
        return self.figures.collect()

    def watch(self, read: Callable[[], Sequence[Reading]]) -> None:
        """Somebody else's figures: asked at each collection, from what they know in memory."""
        self.figures.watch(read)


def resource(settings: Settings, roles: frozenset[str]) -> Resource:
    """What the process says of itself; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES go over it."""
    named = resource_attributes(os.environ, settings.environment)
    own = {"saga.roles": ",".join(sorted(roles))}
    return Resource.create({**own, **instance_resource(named, settings.instance_id or socket.gethostname())})
