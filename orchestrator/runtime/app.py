"""A running process: any subset of the roles, wired together, watched, and stopped in order.

Rules of this file
- `async with Runtime(settings, database_url=...)` opens store and broker, registers definitions and makes topics; `run`
  then runs the loops until `stop` is called or one of them dies.
- Several processes with the role coordinator share the work by the consumer group; any number may relay or fire timers.
- Loops are asked to stop from the outside in: HTTP, then intake, timers, participants, and the relay last, so that what
  was committed while stopping is still sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog

from orchestrator.activation.keeping import Keeping
from orchestrator.broker.contract import Broker, IncomingMessage, open_broker
from orchestrator.config import ROLES, Settings
from orchestrator.evidence.wiring import LogEvidence
from orchestrator.metrics.wiring import Metrics
from orchestrator.notices.wiring import Notices
from orchestrator.participants.pool import open_pool
from orchestrator.participants.worker import Worker
from orchestrator.runtime import parts
from orchestrator.runtime.attendant import Attendant
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.hints import Hints
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.reconciler import Reconciler
from orchestrator.runtime.relay import Relay
from orchestrator.runtime.routing import Router
from orchestrator.runtime.schemas import keep_schemas
from orchestrator.runtime.submit import Submitter
from orchestrator.runtime.supervisor import LoopHealth, Pulse, Stopping, Supervisor
from orchestrator.runtime.timers import Timers
from orchestrator.runtime.work import Item, Outcome
from orchestrator.store.activations import Activations
from orchestrator.store.connections import in_our_words
from orchestrator.store.memory import collect_rarely
from orchestrator.store.migrate import check_schema
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries
from orchestrator.store.schemas import ContractSchemas
from orchestrator.telemetry import system_of
from orchestrator.tracing.acting import note_moved
from orchestrator.tracing.settings import TelemetrySettings, telemetry_settings
from orchestrator.vault.finishing import finishing_of
from orchestrator.vault.keys import check_unused
from projections.runner import Runner

DECIDING = frozenset({"coordinator", "timers", "api", "relay"})  # a relay gives refused messages back to their sagas

TRACE_STALL_MS = 60_000  # a collector that hangs is waited for; it makes no process unready

log = structlog.get_logger("orchestrator.runtime")


@dataclass(frozen=True, slots=True)
class Health:
    """How the process is. `facts`: sizes and counts by name, for pages and metrics."""

    ready: bool
    loops: tuple[LoopHealth, ...]
    facts: dict[str, int]

    def reasons(self) -> list[str]:
        """What makes no progress, in words."""
        return [
            f"{loop.name}: no progress for {loop.age_ms} ms{f' ({loop.detail})' if loop.detail else ''}"
            for loop in self.loops
            if not loop.ready
        ]


class Runtime:
    """One process. `database_url` logs in as the application's role, to a schema that is up to date.

    coordinator decides, `submit` decides one act of a person; hints, store, broker, catalog and router are there for
    what is built on top. `roles` empty: those of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database_url: str = "",
        catalog: Catalog | None = None,
        roles: Iterable[str] = (),
        on_handled: Callable[[Any], None] | None = None,
        telemetry: TelemetrySettings | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry or telemetry_settings(deployment=settings.environment)
        self.database_url = database_url or settings.database_url
        self.roles = frozenset(roles) or settings.role_names
        unknown = self.roles - set(ROLES)
        if unknown:
            raise ValueError(f"unknown roles {sorted(unknown)}; there are {', '.join(ROLES)}")
        self.catalog = catalog or Catalog.load(settings.saga_modules)
        self.hints = Hints()
        self.store = PostgresStore(self.database_url, parts.connection_limits(settings))
        broker_url = settings.resolved_broker_url(self.database_url)
        self.metrics = Metrics(settings, self.roles, broker_url)
        self.broker: Broker = self.metrics.counted(open_broker(broker_url, settings=settings.broker_settings()))
        self.queries = ReadQueries(self.store.pools)
        self.activation = Keeping(self.catalog, Activations(self.store.pools), settings, parts.holder(settings))
        self.vault = parts.vault(settings, self.catalog, self.store)
        self.lent_keys = parts.lent_keys(settings, self.roles)
        self.router: Router = parts.router(settings, self.catalog, self.vault, self.store)
        self.coordinator: Coordinator = parts.coordinator(
            settings, self.catalog, self.store, self.hints, self.vault, self.telemetry
        )
        if self.roles & DECIDING:
            self.coordinator.observer = self.metrics.sagas(self.catalog)
        self.submitter = Submitter(
            self.coordinator.process,
            wait_ms=settings.submit_wait_ms,
            acts_max=settings.submit_acts_max,
            waiting_max=settings.submit_waiting_max,
        )
        self.admission = parts.admission(
            settings,
            self.store,
            self.submitter,
            self.router.topics,
            lambda: self.relay.backlog_rows if self.relay else 0,
        )
        self.relay: Relay | None = None
        self.intake: Intake | None = None
        self.timers: Timers | None = None
        self.reconciler: Reconciler | None = None
        self.notices: Notices | None = None
        self.evidence = LogEvidence(settings, self.store, self.broker, holder=parts.holder(settings))
        self.own_url = f"http://{settings.api_host}:{settings.api_port}"  # whoever serves HTTP knows the real port
        self.traces = parts.traces(settings, self.telemetry, self.store, self.catalog, self.roles, self.database_url)
        self.attendants: list[Attendant] = []
        self.read_models: list[Runner] = []
        self._on_handled = self.metrics.handled(self.catalog, on_handled)
        self._supervisor = Supervisor(stop_ms_max=settings.stop_ms_max, stall_exit_ms=settings.stall_exit_ms)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Opens everything. Raises SchemaBehindError, DefinitionChangedError, BrokerSetupError and the like."""
        async with AsyncExitStack() as opening:
            opening.push_async_callback(self.store.close)
            opening.push_async_callback(self.broker.close)
            await self._check_schema()
            await self._check_keys(opening)
            opening.push_async_callback(self.evidence.close)
            if self.roles & DECIDING:
                await self.evidence.check_start()
                opening.push_async_callback(self.activation.close)
                await self.activation.settle()
                await self.catalog.register(self.store, self._stored_definition)
                await keep_schemas(self.catalog, ContractSchemas(self.store.pools))
            if self.settings.topic_create:
                await self.broker.ensure_topics(parts.topics(self.settings, self.catalog))
            await self._make_workers(opening)
            await opening.enter_async_context(self.metrics.served())
            self._open = opening.pop_all()
        self._make_loops()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def run(self) -> None:
        """Runs until stopped. Raises LoopDiedError with the first loop that ended by itself, and why."""
        collect_rarely()
        log.info("running", roles=sorted(self.roles), sagas=len(self.catalog.sagas))
        await self._supervisor.run()
        log.info("stopped")

    def stop(self) -> None:
        """Asks for a graceful stop; `run` returns when all loops have ended."""
        self._supervisor.stop()

    def add(self, name: str, run: Callable[[Stopping], Awaitable[None]], pulse: Pulse | None = None) -> None:
        """Adds a loop of somebody else (the HTTP server, projections), before `run`. It is asked to stop first."""
        self._supervisor.add(name, run, pulse, first=True)

    async def submit(self, item: Item) -> Outcome:
        """Decides one act, sharing a transaction with others that come now. Raises BusyError, StoreError."""
        outcome = await self.submitter.submit(item)
        if outcome.records:
            note_moved(outcome.saga_id, outcome.version - len(outcome.records) + 1, outcome.records[0].activity)
        return outcome

    async def redrive(self, raw: IncomingMessage, letter: int) -> Outcome:
        """Processes a dead letter again, as if it had come now; it passes every check anew."""
        if self.vault is not None:
            raw = replace(raw, value=await self.vault.letter_bytes(raw.value))
        await self.router.learn([raw])
        item = self.router.route(raw, letter)
        return Outcome("nothing") if item is None else await self.submitter.submit(item)

    def alias(self, person: str) -> str:
        """What stands for a person in the ids of their requests; with a vault nobody else can tell whose it is."""
        return person if self.vault is None else self.vault.digest(person.encode()).hex()[:24]

    def health(self) -> Health:
        """How every loop is, and what waits."""
        facts = dict(self.coordinator.counts)
        facts |= {"cached_sagas": len(self.coordinator.cache), "acts_waiting": len(self.submitter)}
        facts["loop_lag_ms_max"] = self._supervisor.lag_ms_max
        if "api" in self.roles:
            facts |= self.admission.facts()
        if self.relay is not None:
            facts |= self.relay.facts()
        if self.timers is not None:
            facts |= {"timers_fired": self.timers.fired, "intake_behind_ms": self.timers.behind_us // 1000}
        if self.reconciler is not None:
            facts["orphans"] = len(self.reconciler.orphans)
        if self.notices is not None:
            facts |= self.notices.facts()
        facts |= self.evidence.facts()
        facts |= self.traces.facts()
        if self.intake is not None:
            facts["intake_paused"] = int(self.intake.paused)
            facts["intake_behind_messages"] = self.intake.progress.behind_messages
        if self.read_models:
            facts["read_models_stopped"] = sum(bool(runner.stopped) for runner in self.read_models)
        return Health(self._supervisor.ready, tuple(self._supervisor.health()), facts)

    async def _check_keys(self, opening: AsyncExitStack) -> None:
        if self.lent_keys is not None:
            opening.push_async_callback(self.lent_keys.close)
            self.metrics.watch(self.lent_keys.readings)
        if self.vault is not None:
            await self.vault.keys.check()
        elif self.lent_keys is None:
            await check_unused(self.store.pools)

    async def _check_schema(self) -> None:
        async with self.store.pools.connection("work"):
            pass  # says in the store's own words when the database cannot be reached
        with in_our_words("the schema cannot be checked"):
            connection = await self.store.pools.fresh()
            try:
                await check_schema(connection)
            finally:
                await connection.close()

    async def _stored_definition(self, name: str, version: int) -> Any:
        found = await self.queries.definition(name, version)
        return found.data if found is not None else None

    # --- wiring -------------------------------------------------------------------------------------------------------

    def _make_loops(self) -> None:
        if self.roles & DECIDING:
            self._loop("submit", self.submitter.run)
            if self.catalog.governed:
                self._beating("activation", self.activation.run)
        if "api" in self.roles:
            self._beating("admission", self.admission.run)
        if "relay" in self.roles:
            owner = not self.roles & (DECIDING - {"relay"})
            self.relay = parts.relay(self.settings, self.store, self.broker, self.coordinator, owner=owner)
            self.coordinator.outlet = self.relay
        if "coordinator" in self.roles:
            self._coordinator_loops()
        if "timers" in self.roles:
            self._timer_loops()
        if "notices" in self.roles and self.settings.notices_wanted:
            self._notice_loops()
        if "projections" in self.roles:
            alone = self.roles == {"projections"}
            self.read_models = parts.read_models(self.settings, self.catalog, self.store, alone=alone)
            if self.settings.records_topic:
                self.read_models.append(parts.record_feed(self.settings, self.store, self.broker))
            for runner in self.read_models:
                self._beating(f"read-model-{runner.projection.name}", runner.run)
        for name, loop in self.traces.loops():
            self._beating(name, loop.run, self.settings.stall_ms_max + TRACE_STALL_MS)
        for attendant in self.attendants:
            self._loop(attendant.name, attendant.run, attendant.pulse)
        self._metric_loops()
        if self.relay is not None:
            relay = self.relay
            self._beating("relay", relay.run)
            self._beating("relay-sweep", relay.sweep)
            self._beating("relay-mark", relay.mark)

    def _coordinator_loops(self) -> None:
        settings = self.settings
        intake = parts.intake(settings, self.store, self.broker, self.coordinator, self.router, self.hints, self.relay)
        self.intake = intake
        self.metrics.intake(intake)
        for number, lane in enumerate(intake.lanes):
            self._beating(f"intake-lane-{number}", partial(intake.lane, lane))
        self._beating("intake-heartbeat", intake.heartbeat)
        self._beating("intake", intake.run)
        reconciler = self._reconciler()
        self._beating("resumes", reconciler.resumes)
        self._beating("checks", reconciler.checks)
        if self.vault is not None:
            self._beating("erasures", finishing_of(self).run)
        for name, run in self.evidence.loops():
            self._beating(name, run, settings.stall_ms_max + self.evidence.longest_ms)

    def _timer_loops(self) -> None:
        self.timers = parts.timers(
            self.settings, self.store, self.coordinator, self.hints, self.router.topics, self.queries
        )
        self._beating("timers", self.timers.run)
        settings, reconciler = self.settings, self._reconciler()
        self._beating("report", reconciler.report, settings.stall_ms_max + settings.reconcile_report_ms)
        self._beating("trim", reconciler.trimming, settings.stall_ms_max + settings.trim_ms)

    def _notice_loops(self) -> None:
        settings = self.settings
        self.notices = Notices(settings, self.store, self.broker, lambda: settings.public_url or self.own_url)
        self.metrics.notices(self.notices.sender)
        self._beating("notices-plan", self.notices.planner.run, settings.stall_ms_max + settings.notice_poll_ms)
        stall_ms = settings.stall_ms_max + settings.notice_poll_ms + settings.notice_lease_ms
        self._beating("notices-send", self.notices.sender.run, stall_ms)

    def _metric_loops(self) -> None:
        self.metrics.process(self.health, self._supervisor)
        if "timers" in self.roles:
            self._loop("metrics-survey", self.metrics.survey(self.store.pools, self.router.topics).run)
        export = self.metrics.export()
        if export is not None:
            self._loop("metrics-export", export.run)

    def _reconciler(self) -> Reconciler:
        if self.reconciler is None:
            self.reconciler = parts.reconciler(self.settings, self.store, self.coordinator, self.hints)
        return self.reconciler

    async def _make_workers(self, opening: AsyncExitStack) -> None:
        if "participants" not in self.roles or not self.catalog.participants:
            return
        limit, prepared = self.settings.pool_participants_max, self.settings.prepared_statements
        with in_our_words("the participants cannot be connected"):
            pool = await opening.enter_async_context(open_pool(self.database_url, limit, prepared_statements=prepared))
        add_span = self.traces.local.add if self.traces.local is not None else None
        for participant in self.catalog.participants:
            make = partial(
                Worker,
                participant,
                self.broker,
                pool,
                on_handled=self._on_handled,
                opening=self.lent_keys or self.vault,
                add_span=add_span,
                system=system_of(self.settings.broker_url),
            )
            self.attendants.append(Attendant(participant.name, make, self.settings.stall_ms_max))

    def _beating(
        self, name: str, run: Callable[[Stopping, Pulse], Awaitable[None]], stall_ms: int | None = None
    ) -> None:
        pulse = Pulse(name, stall_ms or self.settings.stall_ms_max)
        self._loop(name, lambda stopping: run(stopping, pulse), pulse)

    def _loop(self, name: str, run: Callable[[Stopping], Awaitable[None]], pulse: Pulse | None = None) -> None:
        self._supervisor.add(name, run, pulse)
