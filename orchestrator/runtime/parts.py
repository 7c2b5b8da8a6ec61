"""The parts of a running process, made from settings: one function each, so that tests can make one alone.

Rules of this file: only wiring. Which settings feed which argument stands here and nowhere else.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.broker.contract import Broker, TopicSpec
from orchestrator.config import Settings, SettingsError
from orchestrator.kernel.api import Limits
from orchestrator.messages import Event
from orchestrator.messages.protocol import events_topic
from orchestrator.notices.events import TOPIC as NOTICES_TOPIC
from orchestrator.participants.lent import LentKeys
from orchestrator.runtime.admission import Admission, AdmissionLimits
from orchestrator.runtime.before import SentBefore
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.hints import Hints
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.outgoing import Encoder
from orchestrator.runtime.reconciler import Reconciler
from orchestrator.runtime.relay import Relay
from orchestrator.runtime.routing import Router
from orchestrator.runtime.stream import Fixed
from orchestrator.runtime.submit import Submitter
from orchestrator.runtime.timers import Timers
from orchestrator.store.connections import ConnectionLimits
from orchestrator.store.contract import Store
from orchestrator.store.load import Load, LoadQueries
from orchestrator.store.maintenance import Kept, Maintenance
from orchestrator.store.operations import OperationQueries
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries
from orchestrator.telemetry import system_of
from orchestrator.tracing.fold import TopicOf, Wire
from orchestrator.tracing.settings import TelemetrySettings
from orchestrator.tracing.wiring import Traces, spool_of, topics_of
from orchestrator.vault.keyfile import read
from orchestrator.vault.keys import Keys
from orchestrator.vault.vault import Vault
from projections.feed import Feed
from projections.publishing import FeedRunner, RecordFeed
from projections.registry import customers, projections
from projections.runner import Runner

# What headers and framing may add to a body: a body that the kernel lets through must fit the broker's limit with them.
BODY_SHARE_PERCENT = 85


def connection_limits(settings: Settings) -> ConnectionLimits:
    """The store's pools and time limits."""
    return ConnectionLimits(
        batch_connections=settings.pool_coordinator_max,
        work_connections=settings.pool_relay_max,
        read_connections=settings.pool_query_max,
        statement_timeout_ms=settings.statement_timeout_ms,
        lock_timeout_ms=settings.lock_timeout_ms,
        idle_in_transaction_timeout_ms=settings.idle_transaction_ms,
        acquire_timeout_ms=settings.pool_wait_ms,
        answer_timeout_ms=settings.statement_timeout_ms * 2,
        prepared_statements=settings.prepared_statements,
    )


def holder(settings: Settings) -> str:
    """A name of this process for leases: its own where it has one, else one that nobody else has."""
    return settings.instance_id or f"process-{uuid.uuid4().hex[:12]}"


def vault(settings: Settings, catalog: Catalog, store: PostgresStore) -> Vault | None:
    """What seals personal values; None where no key file is set. Raises KeyFileError."""
    if not settings.vault_key_file:
        return None
    file = Path(settings.vault_key_file)
    return Vault(Keys(store.pools, read(file), reread=lambda: read(file)), catalog, customers(catalog.views))


def lent_keys(settings: Settings, roles: frozenset[str]) -> LentKeys | None:
    """Keys on loan for participants; None where no service is named. Raises SettingsError."""
    if not settings.key_service_url:
        return None
    if not settings.key_service_token:
        raise SettingsError("ORCHESTRATOR_KEY_SERVICE_TOKEN is missing: make one with `orchestrator key create`")
    if roles != {"participants"} and not settings.vault_key_file:
        raise SettingsError(
            "ORCHESTRATOR_KEY_SERVICE_URL is for processes with the role participants alone; the others seal what they "
            "write: give them ORCHESTRATOR_VAULT_KEY_FILE"
        )
    return LentKeys(settings.key_service_url, settings.key_service_token)


def router(
    settings: Settings, catalog: Catalog, vault: Vault | None = None, store: PostgresStore | None = None
) -> Router:
    """Reads messages. `store`: where messages from before proofs are looked up."""
    before = SentBefore(OperationQueries(store.pools).sent_message, settings.tenant) if store is not None else None
    return Router(
        catalog,
        tenant=settings.tenant,
        tenants=settings.tenants,
        message_bytes_max=settings.message_bytes_max,
        headers_max=settings.headers_max,
        vault=vault,
        before=before,
    )


def coordinator(
    settings: Settings,
    catalog: Catalog,
    store: Store,
    hints: Hints,
    vault: Vault | None = None,
    telemetry: TelemetrySettings | None = None,
) -> Coordinator:
    """Advances sagas. `telemetry`: which of them are traced; by default none."""
    telemetry = telemetry or TelemetrySettings()
    fixed = Fixed(
        catalog,
        Encoder(settings.message_bytes_max, vault.prover if vault is not None else None),
        Limits(
            turn_records_max=settings.turn_records_max,
            message_bytes_max=settings.message_bytes_max * BODY_SHARE_PERCENT // 100,
            two_people=settings.acts_of_two_people,
        ),
        early_max=settings.early_events_max_per_key,
        inputs_max=settings.saga_batch_inputs_max,
        vault=vault,
        sampler=telemetry.sampler,
        traces=bool(telemetry.traces_url),
    )
    return Coordinator(
        store,
        fixed,
        hints,
        tenants=sorted(settings.tenants),
        cache_sagas_max=settings.cache_sagas_max,
        conflict_retries_max=settings.conflict_retries_max,
    )


def relay(settings: Settings, store: Store, broker: Broker, coordinator: Coordinator, *, owner: bool) -> Relay:
    """Publishes. `owner`: no coordinator of this process hands rows over, so all come from the table."""
    return Relay(
        store,
        broker.producer("relay"),
        coordinator.process,
        tenant=settings.tenant,
        batch_rows=settings.outbox_batch_rows,
        memory_rows_max=settings.outbox_memory_rows_max,
        backlog_rows_max=settings.outbox_backlog_rows_max,
        mark_ms=settings.outbox_mark_ms,
        sweep_ms=settings.outbox_sweep_ms,
        poll_ms=settings.outbox_poll_ms,
        retry_ms=settings.outbox_retry_ms,
        owner=owner,
        shard=settings.relay_shard,
        shards=settings.relay_shards,
    )


def intake(
    settings: Settings,
    store: Store,
    broker: Broker,
    coordinator: Coordinator,
    router: Router,
    hints: Hints,
    relay: Relay | None,
) -> Intake:
    """Reads from the broker."""
    group = settings.consumer_group
    consumer = broker.consumer(group, router.topics, lambda wanted: store.positions(group, sorted(wanted)))
    return Intake(
        consumer,
        coordinator,
        router,
        hints.clock,
        group=group,
        batch_messages=settings.intake_batch_messages,
        wait_ms=settings.intake_wait_ms,
        heartbeat_ms=settings.intake_heartbeat_ms,
        lanes=settings.intake_lanes,
        overloaded=relay.overloaded if relay is not None else lambda: False,
    )


def timers(
    settings: Settings,
    store: Store,
    coordinator: Coordinator,
    hints: Hints,
    wanted: Sequence[str],
    queries: ReadQueries,
) -> Timers:
    """Fires timers. `wanted`: the topics that the installed sagas read."""

    # Topics that somebody else makes may have any number of partitions; those made here have as many as settings say.
    partitions = settings.topic_partitions if settings.topic_create else 1

    async def read_until() -> int | None:
        rows = [row for row in await queries.positions() if row.group == settings.consumer_group]
        read = Counter(row.topic for row in rows)
        if any(read[topic] < partitions for topic in wanted):
            return None  # one of them was never read: nobody knows what lies there
        return min((row.read_until for row in rows if row.topic in wanted), default=None)

    return Timers(
        store,
        coordinator,
        hints,
        group=settings.consumer_group,
        tenant=settings.tenant,
        poll_ms=settings.timer_poll_ms,
        batch_rows=settings.timer_batch_rows,
        behind_ms=settings.intake_health_ms,
        read_until=read_until,
    )


def admission(
    settings: Settings, store: PostgresStore, submitter: Submitter, topics: Sequence[str], relay: Callable[[], int]
) -> Admission:
    """The door for starts. `topics`: those that are read; `relay`: rows that wait in this process."""
    queries = LoadQueries(store.pools)
    limits = AdmissionLimits(
        requests=settings.admit_requests_max,
        acts=settings.admit_acts_max,
        unsent_rows=settings.admit_unsent_rows_max,
        open_commands=settings.admit_commands_max,
        live_sagas=settings.admit_live_sagas_max,
        intake_behind_ms=settings.admit_intake_behind_ms,
    )

    async def look() -> Load:
        return await queries.load(
            settings.consumer_group,
            topics,
            unsent_max=limits.unsent_rows,
            commands_max=limits.open_commands,
            live_max=limits.live_sagas,
        )

    return Admission(
        limits, look, acts_waiting=lambda: len(submitter), rows_waiting=relay, sample_ms=settings.admit_sample_ms
    )


def reconciler(settings: Settings, store: PostgresStore, coordinator: Coordinator, hints: Hints) -> Reconciler:
    """Drives resumes and checks, looks for orphans and trims."""
    kept = Kept(
        inbox_ms=settings.inbox_keep_ms,
        outbox_ms=settings.outbox_keep_ms,
        security_log_ms=settings.security_log_keep_ms,
        early_events_ms=settings.early_age_ms,
        consumed_events_ms=max(settings.inbox_keep_ms, settings.early_age_ms * 2),
    )
    maintenance = Maintenance(store.pools, kept, blocks_per_pass=settings.trim_blocks)
    return Reconciler(
        store,
        coordinator,
        hints,
        tenant=settings.tenant,
        poll_ms=settings.reconcile_poll_ms,
        batch_rows=settings.reconcile_batch_rows,
        report_ms=settings.reconcile_report_ms,
        trim_ms=settings.trim_ms,
        orphans=maintenance.orphans,
        trim=maintenance.trim,
    )


def traces(
    settings: Settings,
    telemetry: TelemetrySettings,
    store: PostgresStore,
    catalog: Catalog,
    roles: frozenset[str],
    database_url: str,
) -> Traces:
    """What sends spans."""
    return Traces(
        settings,
        telemetry,
        store,
        event_topics(catalog),
        wire(settings),
        roles=roles,
        instance=settings.instance_id,
        spool=spool_of(settings.data_dir, database_url, telemetry),
    )


def wire(settings: Settings) -> Wire:
    """What spans of records say of the broker; the same in every process of one product."""
    return Wire(system_of(settings.broker_url), settings.consumer_group)


def event_topics(catalog: Catalog) -> TopicOf:
    """Which topic the events of a type are on."""
    events = [contract for contract in catalog.registry if issubclass(contract, Event)]
    return topics_of((contract.wire_name, events_topic(contract.context)) for contract in events)


def read_models(settings: Settings, catalog: Catalog, store: PostgresStore, *, alone: bool) -> list[Runner]:
    """What keeps the read models up to date. `alone`: this process does nothing else that anybody waits for."""
    feed = Feed(store, customers(catalog.views), quiet_ms=settings.projection_poll_ms // 2)
    return [
        Runner(
            store,
            feed,
            made,
            batch_records=settings.projection_records_max,
            poll_ms=settings.projection_poll_ms,
            share=1.0 if alone else settings.projection_percent_max / 100,
            blocking=alone,
        )
        for made in projections()
    ]


def record_feed(settings: Settings, store: PostgresStore, broker: Broker) -> Runner:
    """What sends every record to a topic."""
    made = RecordFeed(broker.producer("record-feed"), settings.records_topic)
    return FeedRunner(
        store, Feed(store), made, batch_records=settings.projection_records_max, poll_ms=settings.projection_poll_ms
    )


def topics(settings: Settings, catalog: Catalog) -> list[TopicSpec]:
    """Every topic that the installed sagas and participants need."""
    names = {*catalog.routes.consumed, *catalog.routes.produced, *filter(None, [settings.records_topic])}
    for participant in catalog.participants:
        names.update(spec.name for spec in participant.topics())
    if settings.notice_events:
        names.add(NOTICES_TOPIC)
    return [
        TopicSpec(name, partitions=settings.topic_partitions, retention_ms=settings.topic_retention_ms)
        for name in sorted(names)
    ]
