"""Live service levels over the record feed on Kafka: one Faust application, started by `orchestrator live`.

    record feed -> fold -> orchestrator.live.measures -> add -> orchestrator.service-levels, orchestrator.alerts

Rules of this file
- Only here is Faust known. What is counted, and when to say something, is `live_fold.py`.
- Its tables are a convenience: lost, they are restored from their changelogs, or filled anew by what comes in.
  Nothing that must hold depends on them; without Kafka the same figures come from PostgreSQL.
- A table is changed by the stream of its own partition alone; measures are sent on by definition, so that one place
  adds up a window.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import faust
from faust.types.auth import CredentialsT

from projections.live_fold import ENDED_KEPT_US, Ended, LiveSagas, added, alerts, marked, outdated, window_of

APP_ID = "orchestrator-live"
MEASURES = "orchestrator.live.measures"
LEVELS_TOPIC = "orchestrator.service-levels"
ALERTS_TOPIC = "orchestrator.alerts"
TELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How the application runs. `brokers`: host:port, comma-separated. `partitions`: of the record topic."""

    brokers: str
    records_topic: str
    partitions: int
    replication: int = 1
    whole_min: int = 20
    protocol: str = "PLAINTEXT"
    ca_file: str | None = None
    mechanism: str = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = None


def live_app(settings: LiveSettings) -> faust.App:
    """The application; nothing is connected yet."""
    app = faust.App(
        APP_ID,
        broker=[f"kafka://{broker.strip()}" for broker in settings.brokers.split(",")],
        broker_credentials=_credentials(settings),
        store="memory://",
        value_serializer="json",
        key_serializer="raw",
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        autodiscover=False,
        stream_wait_empty=False,
    )
    measures = app.topic(MEASURES, partitions=settings.partitions, internal=True)
    _fold(app, settings, measures)
    _add(app, settings, measures)
    return app


def _fold(app: faust.App, settings: LiveSettings, measures: Any) -> None:
    """Records to measures."""
    records = app.topic(settings.records_topic, partitions=settings.partitions, value_serializer="json")
    under_way = app.Table("sagas", partitions=settings.partitions, key_type=str, value_type=dict)
    live, ended = LiveSagas(), Ended()

    @app.agent(records)
    async def fold(stream: Any) -> None:
        async for message in stream:
            saga_id = str(message["saga"])
            kept, counted = live.take(under_way.get(saga_id), message)
            for measure in counted:
                await measures.send(key=f"{measure['tenant']}|{measure['name']}".encode(), value=measure)
            partition = stream.current_event.message.partition
            if kept is not None:
                under_way[saga_id] = kept
                if kept["ended"]:
                    ended.note(partition, saga_id, kept["ended"])
            elif saga_id in under_way:
                del under_way[saga_id]
            for forgotten in ended.due(partition, message["recorded_at"]):
                under_way.pop(forgotten, None)


def _add(app: faust.App, settings: LiveSettings, measures: Any) -> None:
    """Measures to windows; says at once when a level begins to miss its target, or meets it again."""
    told = app.topic(LEVELS_TOPIC, partitions=1, internal=True)
    alarms = app.topic(ALERTS_TOPIC, partitions=1, internal=True)
    windows = app.Table("windows", partitions=settings.partitions, key_type=str, value_type=dict)
    marks = app.Table("counted", partitions=settings.partitions, key_type=str, value_type=list)
    last = Ended()
    changed: set[str] = set()

    @app.agent(measures)
    async def add(stream: Any) -> None:
        async for measure in stream:
            saga_id, partition = str(measure["saga"]), stream.current_event.message.partition
            mark = marked(marks.get(saga_id), measure)
            if mark is None:
                continue
            window = window_of(measure)
            if window not in windows:
                for old in outdated(list(windows), window):
                    windows.pop(old)
            held = windows.get(window) or {"counts": {}, "states": {}}
            counts = added(held["counts"], measure)
            states, said = alerts(window, counts, held["states"], settings.whole_min)
            windows[window], marks[saga_id] = {"counts": counts, "states": states}, mark
            last.note(partition, saga_id, mark[2])
            for quiet in last.due(partition, mark[2]):  # what is repeated is repeated soon
                if (marks.get(quiet) or [0, 0, mark[2]])[2] < mark[2] - ENDED_KEPT_US:
                    marks.pop(quiet, None)
            changed.add(window)
            for alert in said:
                await alarms.send(key=window.encode(), value=alert)

    async def tell() -> None:
        """The windows that changed, as they are now."""
        for window in sorted(changed):
            changed.discard(window)
            tenant, name, hour = window.split("|")
            value = {"tenant": tenant, "name": name, "hour": int(hour), "counts": (windows.get(window) or {})["counts"]}
            await told.send(key=window.encode(), value=value)

    app.timer(TELL_SECONDS)(tell)


def run(settings: LiveSettings, log_level: str) -> None:
    """Runs the application until SIGTERM or Ctrl-C; ends the process."""
    app = live_app(settings)
    faust.Worker(app, loglevel=log_level.upper(), override_logging=True).execute_from_commandline()


def _credentials(settings: LiveSettings) -> CredentialsT | None:
    if settings.protocol == "PLAINTEXT":
        return None
    context = ssl.create_default_context(cafile=settings.ca_file) if settings.protocol.endswith("SSL") else None
    if settings.protocol == "SSL":
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=settings.username, password=settings.password, mechanism=settings.mechanism, ssl_context=context
    )
