"""What spans each type of record makes; the rules are in fold.py.

Moves of control inside the saga are in moves.py, with the types that make no span and why; a test compares all of them
with the types of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator import telemetry as names
from orchestrator.messages.canonical import instant_text
from orchestrator.messages.protocol import SAGAS_TOPIC, commands_topic
from orchestrator.telemetry import CONSUMER, INTERNAL
from orchestrator.tracing.fold import (
    Fields,
    Opened,
    SagaSpans,
    TopicOf,
    Wire,
    about,
    acted,
    answered,
    makes,
    messaging,
    sent,
)
from orchestrator.tracing.moves import moved
from orchestrator.tracing.span import Span, Value
from orchestrator.tracing.words import low

REFUSED, FAILED, TIMED_OUT, EXPIRED, COMPENSATED = "refused", "failed", "timed_out", "expired", "compensated"

_KAFKA = Wire()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def saga_spans(saga_id: str, topic_of: TopicOf, wire: Wire = _KAFKA) -> SagaSpans:
    """The fold of one saga, with every maker of this file."""
    return SagaSpans(saga_id, topic_of, wire)


# --- steps -----------------------------------------------------------------------------------------------------------


@makes("step.requested")
def _step_requested(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    command = record.data.get("command")
    more: dict[str, Value] = {**about(record), names.SAGA_PURPOSE: "do"}
    if command is None:
        opened = spans.known.get(record.activity)
        topic = commands_topic(opened.participant if opened is not None else "")
        if opened is not None:
            opened.attempt_at = spans.at
        yield sent(spans, record, topic, spans.place(record.activity), more)
        return
    title = f"{names.SPAN_STEP} {low(record.activity)}"
    more[names.CLOUDEVENTS_TYPE] = command["type"]
    more[names.SAGA_STEP_ROUND] = record.data["round"]
    spans.opening(record, record.activity, title, about(record), command["participant"])
    yield sent(spans, record, commands_topic(command["participant"]), spans.root, more)


@makes("step.succeeded")
def _step_succeeded(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield answered(spans, record, spans.place(record.activity))
    yield from spans.close(record, record.activity, "succeeded")


@makes("step.refused")
def _step_refused(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    end = "exhausted" if record.data.get("exhausted") else "not_done" if record.data.get("not_done") else REFUSED
    yield answered(spans, record, spans.place(record.activity), end)
    yield from spans.close(record, record.activity, end, end)


@makes("step.failed", "step.timed_out")
def _attempt_failed(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    """The attempt's own length: the step goes on, with another attempt or a fence."""
    error = TIMED_OUT if record.type == "step.timed_out" else FAILED
    yield answered(spans, record, spans.place(record.activity), error)
    opened = spans.known.get(record.activity)
    if opened is not None:
        attempt = Opened(opened.span_id, opened.attempt_at, opened.title, attributes=dict(about(record)))
        yield spans.length(record, attempt, error, error, name=f"{names.SPAN_STEP}.attempt {low(record.activity)}")


@makes("fence.requested", "fence.owed")
def _fence_requested(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    more: dict[str, Value] = {**about(record), names.SAGA_PURPOSE: "fence"}
    opened = spans.known.get(record.activity)
    participant = opened.participant if opened is not None else ""
    topic = commands_topic(participant) if participant else SAGAS_TOPIC
    if f"?{record.activity}" not in spans.open:
        fence = spans.opening(
            record, f"?{record.activity}", f"{names.SPAN_FENCE} {low(record.activity)}", about(record), participant
        )
        fence.span_id = spans.place(record.activity)
    yield sent(spans, record, topic, spans.place(record.activity), more)


@makes("fence.failed")
def _fence_failed(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield answered(spans, record, spans.place(record.activity), "never" if record.data.get("never") else FAILED)


@makes("undo.requested")
def _undo_requested(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    known = spans.known.get(record.activity)
    command: Any = record.data.get("command")
    participant = command["participant"] if command else known.participant if known is not None else ""
    key = f"~{record.activity}"
    opened = spans.open.get(key)
    parent = opened.span_id if opened is not None else spans.turning.span_id if spans.turning else spans.root
    if opened is None:
        title = f"{names.SPAN_UNDO} {low(record.activity)}"
        opened = spans.opening(record, key, title, about(record), participant)
    opened.attempt_at = spans.at
    more: dict[str, Value] = {**about(record), names.SAGA_PURPOSE: "undo"}
    topic = commands_topic(opened.participant) if opened.participant else SAGAS_TOPIC
    yield sent(spans, record, topic, parent, more)


@makes("undo.succeeded", "undo.failed", "undo.never_known")
def _undo_answered(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    opened = spans.open.get(f"~{record.activity}")
    parent = opened.span_id if opened is not None else spans.place(record.activity)
    error = "" if record.type == "undo.succeeded" else REFUSED if record.data.get("refused") else FAILED
    yield answered(spans, record, parent, error)
    if not error:
        yield from spans.close(record, f"~{record.activity}", "undone")


@makes("reply.late", "reply.contradicted", "effect.found", "evidence.checked", "child.completed_early")
def _late(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    error = "contradicted" if record.type == "reply.contradicted" else ""
    yield answered(spans, record, spans.place(record.activity), error)


# --- waits, delays, scopes -------------------------------------------------------------------------------------------


@makes("event.awaited", "timer.set", "scope.entered", "task.opened")
def _opened(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    kind = {
        "event.awaited": names.SPAN_WAIT,
        "timer.set": names.SPAN_DELAY,
        "scope.entered": names.SPAN_SCOPE,
        "task.opened": names.SPAN_TASK,
    }[record.type]
    step = low(record.activity)
    spans.opening(record, record.activity, f"{kind} {step}", about(record))
    more = about(record)
    due = record.data.get("expires") or record.data.get("due")
    if due:
        more[names.SAGA_DUE] = instant_text(_EPOCH + timedelta(microseconds=due))
    yield spans.span(record, f"{kind}{names.OPENED} {step}", INTERNAL, spans.root, more)


@makes("event.received")
def _received(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    topic = spans.topic_of(str(record.data.get("type", "")))
    parent = spans.place(record.activity)
    if topic:
        more = {**messaging(spans, names.PROCESS, topic, record.causation), **about(record)}
        more[names.CLOUDEVENTS_TYPE] = str(record.data.get("type", ""))
        name = names.operation_name(names.PROCESS, topic)
        yield spans.linked(record, spans.span(record, name, CONSUMER, parent, more))
    else:
        yield acted(spans, record, parent)
    yield from spans.close(record, record.activity, "received")


@makes("event.expired", "task.expired")
def _expired(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield acted(spans, record, spans.place(record.activity), EXPIRED)
    yield from spans.close(record, record.activity, EXPIRED, EXPIRED)


@makes("timer.fired")
def _fired(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield from spans.close(record, record.activity, "fired")


@makes("scope.interrupted", "scope.failing")
def _interrupted(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    error = FAILED if record.type == "scope.failing" else ""
    yield acted(spans, record, spans.place(record.activity), error)
    yield from spans.withdrawn(record)


@makes("scope.left", "scope.closed", "scope.undone")
def _scope_over(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    end = record.type.removeprefix("scope.")
    yield from spans.close(record, record.activity, end, "" if end != "undone" else FAILED)


@makes("loop.left")
def _loop_left(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield from spans.withdrawn(record)


# --- tasks -----------------------------------------------------------------------------------------------------------


@makes(
    "task.claimed",
    "task.released",
    "task.delegated",
    "task.reassigned",
    "task.commented",
    "task.attached",
    "task.voted",
    "task.amended",
    "task.escalated",
    "task.reminded",
)
def _task_act(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield acted(spans, record, spans.place(record.activity))


@makes("task.amend_failed")
def _amend_failed(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield acted(spans, record, spans.place(record.activity), FAILED)


@makes("task.decided")
def _decided(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield from spans.close(record, record.activity, str(record.data.get("outcome") or "decided"))


# --- children and events ---------------------------------------------------------------------------------------------


@makes("child.requested")
def _child_requested(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    more = about(record)
    opened = spans.open.get(record.activity)
    parent = opened.span_id if opened is not None else spans.root
    if opened is None:
        spans.opening(record, record.activity, f"{names.SPAN_CALL} {low(record.activity)}", more)
    yield sent(spans, record, SAGAS_TOPIC, parent, more)


@makes("child.completed", "child.failed")
def _child_answered(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    error = FAILED if record.type == "child.failed" else ""
    yield answered(spans, record, spans.place(record.activity), error)
    yield from spans.close(record, record.activity, error or "completed", error)


@makes("event.published")
def _published(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    event = record.data["event"]
    more: dict[str, Value] = {**about(record), names.CLOUDEVENTS_TYPE: event["type"]}
    yield sent(spans, record, event["topic"], spans.root, more)


@makes("parent.answered")
def _parent_answered(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield sent(spans, record, SAGAS_TOPIC, spans.root, {})


# --- going back, being stuck, operators -------------------------------------------------------------------------------


@makes("compensation.started")
def _turned(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    kind = record.data["failure"].get("kind") or FAILED
    spans.turning = spans.opening(record, "~", names.SPAN_COMPENSATION, {})
    yield spans.linked(
        record, spans.span(record, f"{names.SPAN_COMPENSATION}{names.OPENED}", INTERNAL, spans.root, {}, str(kind))
    )
    yield from spans.withdrawn(record)


@makes("undo.planned", "scope.undo_planned")
def _planned(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    """How many undos are to come: all outcomes are known now."""
    place = spans.place(record.activity) if record.activity else spans.turning.span_id if spans.turning else ""
    yield moved(spans, record, names.SPAN_PLANNED, {names.SAGA_UNDOS: len(record.data["plan"])}, place)


@makes("subject.erased")
def _erased(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    """Why values are gone from here on; who asked and about whom is in the record."""
    yield acted(spans, record, spans.root)


@makes("compensation.finished")
def _turned_back(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield from spans.close(record, "~", "finished")


@makes("saga.failing", "cancel.refused", "saga.deadline_missed")
def _told(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield acted(spans, record, spans.place(record.activity), FAILED)


@makes("saga.stuck")
def _stuck(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    cause, place = str(record.data.get("cause") or FAILED), record.data["place"]
    step = low(record.activity)
    stuck = spans.opening(record, f"!{place}", f"{names.SPAN_STUCK} {step}".rstrip(), about(record))
    name = f"{names.SPAN_STUCK}{names.OPENED} {step}".rstrip()
    stuck.attributes[names.ERROR_TYPE] = cause
    yield spans.span(record, name, INTERNAL, spans.place(record.activity), about(record), cause)


@makes(
    "operator.proposed",
    "operator.retried",
    "operator.skipped",
    "operator.completed_by_hand",
    "operator.gave_back",
    "operator.settled",
    "evidence.proposed",
    "undo.taken_over",
    "undo.handed",
)
def _operated(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield acted(spans, record, spans.place(record.activity))
    if record.type.endswith(".proposed"):
        return
    for sign in ("!", "?", "+", "-", "~", ""):
        yield from spans.close(record, f"!{sign}{record.activity}", f"moved/{sign}")
    if record.type in ("operator.completed_by_hand", "operator.settled", "operator.skipped") and record.activity:
        yield from spans.close(record, record.activity, "by_hand")
        yield from spans.close(record, f"~{record.activity}", "by_hand/undo")


# --- the end ---------------------------------------------------------------------------------------------------------


@makes("saga.completed", "saga.compensated", "saga.tombstoned")
def _ended(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    if spans.is_child and record.version > 1:  # the answer of one that was called off before it began is its root
        yield sent(spans, record, SAGAS_TOPIC, spans.root, {})
    yield from spans.withdrawn(record)
    if record.type == "saga.compensated":
        yield from spans.close(record, "~", "finished")
    outcome = str(record.data.get("outcome") or record.type.removeprefix("saga."))
    whole = Opened(spans.root, spans.started_at, f"{names.SPAN_SAGA} {spans.name}")
    summary = spans.length(record, whole, "saga", COMPENSATED if record.type == "saga.compensated" else "")
    yield Span(
        summary.trace_id,
        summary.span_id,
        summary.parent_id,
        summary.name,
        summary.kind,
        summary.start_ns,
        summary.end_ns,
        {**spans.common, names.SAGA_OUTCOME: outcome},
        summary.error,
    )
