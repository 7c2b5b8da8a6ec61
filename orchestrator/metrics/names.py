"""Every metric of the product: its name, kind, unit, attributes and meaning. No other file spells these names.

Rules of this file
- Metrics of messaging and HTTP are named as in the OpenTelemetry semantic conventions 1.44, with the bounds that they
  advise; `saga.` is ours, since there is no convention for sagas.
- An attribute's values are few and known to whoever wrote the sagas: names of sagas, steps, topics, loops, outcomes.
  Never an id, a key, a person, or anything that came in a message.
- What Prometheus calls a metric follows from this table (`prometheus_name`), by the rules that collectors use too.
- A name is never also the beginning of another one: backends that make trees of names would have to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator import telemetry

Kind = Literal["counter", "gauge", "histogram"]

# Attributes that spans have too stand in telemetry.py.
SAGA, STEP, OUTCOME = telemetry.SAGA_NAME, telemetry.SAGA_STEP_NAME, telemetry.SAGA_OUTCOME
PHASE, FAILURE, CAUSE, REASON = "saga.phase", "saga.failure.kind", "saga.stuck.cause", "saga.dead_letter.reason"
ACT, STATE, LOOP, PROJECTION = "saga.operator.act", "saga.task.state", "saga.loop.name", "saga.projection.name"
PARTICIPANT, SIGNAL, PLACE = "saga.participant.name", "saga.admission.signal", "saga.checkpoint.place"
SPANS = "saga.spans.source"
SYSTEM, OPERATION, OPERATION_TYPE = (
    telemetry.MESSAGING_SYSTEM,
    telemetry.MESSAGING_OPERATION_NAME,
    telemetry.MESSAGING_OPERATION_TYPE,
)
CHANNEL = "saga.notice.channel"
METHOD, ROUTE, STATUS, SCHEME = (
    telemetry.HTTP_METHOD,
    telemetry.HTTP_ROUTE,
    telemetry.HTTP_STATUS,
    telemetry.URL_SCHEME,
)
TOPIC, GROUP, ERROR = telemetry.MESSAGING_DESTINATION, telemetry.MESSAGING_GROUP, telemetry.ERROR_TYPE

OVERFLOW = "otel.metric.overflow"  # marks the series that takes what goes beyond the limit of series

# Bounds of histograms, seconds unless said otherwise. The first is what the conventions advise for messaging.
QUICK = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 1_800, 3_600, 14_400, 86_400, 604_800, 2_592_000)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)  # a number of things

_PROMETHEUS_UNITS = {"s": "seconds", "By": "bytes"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `attributes`: in the order in which values are given; an empty value is an attribute that is absent.

    `unit` as in UCUM; `{saga}` says what is counted and is no unit to Prometheus. `bounds`: upper ones, inclusive.
    """

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()


_ENDED = (SAGA, PHASE, OUTCOME)
_SENT = (SYSTEM, OPERATION, TOPIC, ERROR)
_CONSUMED = (SYSTEM, OPERATION, TOPIC, GROUP, ERROR)
_CALLED = (SYSTEM, OPERATION, OPERATION_TYPE, TOPIC, GROUP, ERROR)

OPERATION_DURATION = Metric(
    "messaging.client.operation.duration",
    "histogram",
    "s",
    _CALLED,
    "How long calls of the broker took: sending a batch, polling (an idle poll waits), committing offsets.",
    QUICK,
)
SENT = Metric("messaging.client.sent.messages", "counter", "{message}", _SENT, "Messages handed to the broker.")
CONSUMED = Metric("messaging.client.consumed.messages", "counter", "{message}", _CONSUMED, "Messages that polls gave.")
PROCESS_DURATION = Metric(
    "messaging.process.duration",
    "histogram",
    "s",
    _CALLED,
    "How long each message took from its batch's first touch to the commit of what it led to.",
    QUICK,
)

STARTED = Metric("saga.started", "counter", "{saga}", (SAGA,), "Sagas begun.")
ENDED = Metric("saga.ended", "counter", "{saga}", _ENDED, "Sagas that ended: completed, or compensated with the cause.")
TURNED_BACK = Metric("saga.turned_back", "counter", "{saga}", (SAGA, FAILURE), "Sagas that failed and began to undo.")
DURATION = Metric("saga.duration", "histogram", "s", (SAGA, PHASE), "From the start of a saga to its end.", LONG)
STEP_DURATION = Metric(
    "saga.step.duration",
    "histogram",
    "s",
    (SAGA, STEP, OUTCOME),
    "From a step's first command to its definite answer, with all its attempts.",
    LONG,
)
STEP_FAILURES = Metric(
    "saga.step.failures", "counter", "{attempt}", (SAGA, STEP, OUTCOME), "Attempts that failed or ran out of time."
)
UNDOS = Metric("saga.undos", "counter", "{undo}", (SAGA, STEP, OUTCOME), "Attempts to take a step back.")
STOPS = Metric("saga.stops", "counter", "{place}", (SAGA, CAUSE), "Places of sagas that stopped and wait for a person.")
OPERATOR_ACTS = Metric("saga.operator.acts", "counter", "{act}", (SAGA, ACT), "Acts of operators on sagas.")

TASKS_OPENED = Metric("saga.tasks.opened", "counter", "{task}", (SAGA, STEP), "Decisions asked of people.")
TASKS_CLOSED = Metric(
    "saga.tasks.closed", "counter", "{task}", (SAGA, STEP, OUTCOME), "Tasks decided, or expired: a breach of the SLA."
)
TASKS_ESCALATED = Metric("saga.tasks.escalated", "counter", "{task}", (SAGA, STEP), "Levels that tasks went up.")
TASK_DURATION = Metric(
    "saga.task.duration",
    "histogram",
    "s",
    (SAGA, STEP, OUTCOME),
    "From opening a task to its decision or expiry.",
    LONG,
)

RECORDS = Metric("saga.records", "counter", "{record}", (), "Records appended by this process.")
BATCH_SIZE = Metric("saga.batch.size", "histogram", "{input}", (), "Inputs decided in one transaction.", SIZES)
CONFLICTS = Metric(
    "saga.batch.conflicts", "counter", "{batch}", (), "Batches decided again: somebody else had written a saga first."
)
UNKNOWN_COMMITS = Metric(
    "saga.batch.unknown_commits", "counter", "{batch}", (), "Commits whose outcome had to be asked for."
)
DEAD_LETTERS = Metric(
    "saga.dead_letters.kept", "counter", "{message}", (REASON,), "Messages and inputs that nobody could process."
)
EARLY_EVENTS = Metric("saga.early_events.kept", "counter", "{event}", (), "Events kept because nobody waited for them.")
CACHED = Metric("saga.cache.sagas", "gauge", "{saga}", (), "States that this process keeps in memory.")
ACTS_WAITING = Metric("saga.acts.waiting", "gauge", "{act}", (), "Acts over HTTP that wait for their transaction.")
STARTS_REFUSED = Metric("saga.starts.refused", "counter", "{start}", (SIGNAL,), "Starts answered 429, by what is full.")
INTAKE_BEHIND = Metric(
    "saga.intake.behind", "gauge", "{message}", (), "Messages in this process's partitions that are not processed yet."
)
INTAKE_PAUSED = Metric("saga.intake.paused", "gauge", "{pause}", (), "1 while intake waits for the relay.")
RELAY_WAITING = Metric("saga.relay.waiting", "gauge", "{message}", (), "Committed messages in this relay's memory.")
RELAY_SWEPT = Metric("saga.relay.swept", "counter", "{message}", (), "Messages sent by way of the table.")
RELAY_REFUSED = Metric("saga.relay.refused", "counter", "{message}", (), "Messages that the broker refuses for good.")
TIMERS_FIRED = Metric("saga.timers.fired", "counter", "{timer}", (), "Timers fired by this process.")
HANDLED = Metric(
    "saga.commands.handled", "counter", "{command}", (PARTICIPANT, OUTCOME), "Commands that were answered."
)
KEYS_ASKED = Metric(
    "saga.keys.asked", "counter", "{command}", (OUTCOME,), "Commands shown to the key service, by what it said."
)
KEYS_AWAY = Metric(
    "saga.keys.away", "gauge", "{service}", (), "1 while the key service lends nothing, and commands wait."
)
LOOP_AGE = Metric("saga.loop.age", "gauge", "s", (LOOP,), "Since the loop last made progress.")
LOOP_READY = Metric("saga.loop.ready", "gauge", "{loop}", (LOOP,), "1 where the loop has made progress lately, else 0.")
EVENT_LOOP_LAG = Metric(
    "saga.event_loop.lag", "histogram", "s", (), "How late the event loop woke a task that slept, twice a second.", LAG
)

NOTICES_SETTLED = Metric(
    "saga.notices.settled",
    "counter",
    "{notice}",
    (CHANNEL, OUTCOME),
    "Notices that were sent, given up (failed), tried in vain (retried), or of no use any more (skipped).",
)
NOTICE_DURATION = Metric(
    "saga.notice.duration",
    "histogram",
    "s",
    (CHANNEL, ERROR),
    "How long one attempt took: to make a mail, a call or a message, and to hand it over.",
    QUICK,
)
NOTICE_WAIT = Metric(
    "saga.notice.wait",
    "histogram",
    "s",
    (CHANNEL,),
    "From planning a notice to handing it over, quiet hours and digests in it.",
    LONG,
)
CHANNEL_AWAY = Metric(
    "saga.notices.channel_away", "gauge", "{channel}", (CHANNEL,), "1 while a channel cannot be reached, else 0."
)

REQUEST_DURATION = Metric(
    "http.server.request.duration",
    "histogram",
    "s",
    (METHOD, SCHEME, ROUTE, STATUS, ERROR),
    "How long requests took, pages and polling too, by route.",
    QUICK,
)

SPANS_SENT = Metric(
    "saga.spans.sent",
    "counter",
    "{span}",
    (SPANS,),
    "Spans that a collector took: made from records, measured, or found after a crash.",
)
SPANS_LOST = Metric(
    "saga.spans.lost",
    "counter",
    "{span}",
    (SPANS,),
    "Spans that no collector took; those from records can be sent again.",
)

# Of the whole product, by whoever fires timers; several such processes say the same: take the largest.
IN_FLIGHT = Metric(
    "saga.in_flight", "gauge", "{saga}", (SAGA,), "Sagas that have not ended, counted up to 50,000 each."
)
STUCK = Metric("saga.stuck", "gauge", "{saga}", (SAGA,), "Sagas with a place that only a person can move.")
TASKS_OPEN = Metric("saga.tasks.open", "gauge", "{task}", (SAGA, STEP, STATE), "Open tasks: in_time, or overdue.")
TASKS_OVERDUE = Metric(
    "saga.tasks.overdue_age", "gauge", "s", (), "How long the task that is most overdue has been so."
)
OUTBOX_DEPTH = Metric("saga.outbox.depth", "gauge", "{message}", (), "Committed messages that are not on the broker.")
OUTBOX_AGE = Metric("saga.outbox.age", "gauge", "s", (), "How long the oldest of them has waited.")
INTAKE_LAG = Metric("saga.intake.lag", "gauge", "s", (), "How far intake is behind the database's clock.")
TIMER_LATENESS = Metric("saga.timer.lateness", "gauge", "s", (), "How late the most overdue timer is.")
NOTICES_WAITING = Metric(
    "saga.notices.waiting",
    "gauge",
    "{notice}",
    (CHANNEL,),
    "Notices that are to be sent, those that wait for their hour too, counted up to 50,000.",
)
NOTICES_AGE = Metric(
    "saga.notices.age",
    "gauge",
    "s",
    (CHANNEL,),
    "How long the oldest notice that should be out has waited: since it was due, or was tried in vain first.",
)
LETTERS_WAITING = Metric(
    "saga.dead_letters.waiting", "gauge", "{message}", (REASON,), "Dead letters that nobody has dealt with."
)
EARLY_WAITING = Metric("saga.early_events.waiting", "gauge", "{event}", (), "Early events that nobody has taken yet.")
PROJECTION_LAG = Metric(
    "saga.projection.lag",
    "gauge",
    "s",
    (PROJECTION,),
    "Age of the newest record that the read model has, while behind.",
)
PROJECTION_BEHIND = Metric(
    "saga.projection.behind", "gauge", "{record}", (PROJECTION,), "Records that the read model does not have yet."
)
PROJECTION_STOPPED = Metric(
    "saga.projection.stopped", "gauge", "{projection}", (PROJECTION,), "1 where a record cannot be read, else 0."
)
CHECKPOINT_AGE = Metric(
    "saga.checkpoint.age", "gauge", "s", (), "Age of the oldest record that no signed checkpoint covers, at most."
)
PUBLISH_LAG = Metric(
    "saga.checkpoint.publish_lag", "gauge", "s", (PLACE,), "How long a place has lacked the newest checkpoint, at most."
)
SURVEY_DURATION = Metric("saga.survey.duration", "gauge", "s", (), "How long the database took to answer for these.")
SURVEY_AGE = Metric("saga.survey.age", "gauge", "s", (), "Since it last answered.")
EXPORT_FAILURES = Metric(
    "saga.metrics.export_failures", "counter", "{export}", (), "Exports of metrics that no collector took."
)


def all_metrics() -> Iterator[Metric]:
    """Every metric, in the order of this file."""
    return (found for found in globals().values() if isinstance(found, Metric))


def prometheus_name(metric: Metric) -> str:
    """The name that Prometheus stores it under, by the rules of OpenTelemetry: `saga_step_duration_seconds`."""
    name = prometheus_label(metric.name)
    unit = _PROMETHEUS_UNITS.get(metric.unit, "")
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return f"{name}_total" if metric.kind == "counter" else name


def prometheus_label(attribute: str) -> str:
    """The label that an attribute becomes: `saga_step_name`."""
    return attribute.replace(".", "_")


BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in list(all_metrics())}
