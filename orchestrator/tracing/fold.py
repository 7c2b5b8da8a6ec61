"""Records of one saga to spans: a pure fold, so the same records are the same spans in any process, at any time.

How the tree is made
- The first record is the root: the handling of what started the saga, short, sent at once. Upstream's span is its
  parent.
- What is waited for (a step, a task, an event, a delay, a child) opens with a short span under the root: for a step
  that is its `send`. It is sent at once, so whoever looks while the saga waits sees what for. Nothing is held open.
- All that comes of it hangs under that opening: further attempts, answers, votes, and, when it is over, the span of its
  true length, from the opening to the end. The saga's own length comes as one more span at its end.
- So a parent is always of the same or an earlier record, and sending in order of records never leaves a gap. What other
  processes measure (participants, HTTP) hangs below these spans, and never holds one of them.
- Ids come from record ids. The context that an answer or a vote came with is a link, never a parent: whoever sent it
  may lose its spans in a crash.

Rules of this file
- No clock, no I/O. Instants are those of the records; where several have the same, each comes a microsecond after the
  one before, so that order stays visible and nothing has no length.
- No payload: names of a definition, numbers, codes. Reasons are free text and stay out; ids of people too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator import telemetry as names
from orchestrator.messages.protocol import SAGAS_TOPIC, replies_topic
from orchestrator.runtime.identity import context_of, parent_of, span_id_of, trace_id_of
from orchestrator.telemetry import CONSUMER, INTERNAL, PRODUCER
from orchestrator.tracing.span import Span, Value
from orchestrator.tracing.words import low

TopicOf = Callable[[str], str]
"""From a message's wire name to the topic of such events, "" where it is not known."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What spans say of the broker. `group`: the consumer group of the coordinators, "" where it is not known."""

    system: str = names.KAFKA
    group: str = ""


_US = 1_000
_PARTICIPANT = "participant:"
_API = "/api/"


@dataclass(slots=True)
class Opened:
    """Something that is waited for: its opening span, when it was, and how its true length is called."""

    span_id: str
    at: int
    title: str
    participant: str = ""
    attempt_at: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Fields:
    """What a record says, as far as spans need it."""

    version: int
    type: str
    activity: str
    data: Mapping[str, Any]
    actor: str
    causation: str
    traceparent: str
    recorded_at: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Fields:
        """From a record's stored body, parsed."""
        return cls(
            body["version"],
            body["type"],
            body["activity"],
            body["data"],
            body["actor"],
            body["causation"],
            body["traceparent"],
            body["recorded_at"],
        )


class SagaSpans:
    """The fold of one saga. `take` its records in order, from the first on."""

    def __init__(self, saga_id: str, topic_of: TopicOf, wire: Wire) -> None:
        self.saga_id = saga_id
        self.version = 0
        self.trace_id = ""
        self.at = 0  # of the last record, microseconds
        self.root = ""
        self.name = ""
        self.started_at = 0
        self.is_child = False
        self.common: dict[str, Value] = {}
        self.depths: dict[str, int] = {}  # of spans that others hang under
        self.open: dict[str, Opened] = {}
        self.known: dict[str, Opened] = {}  # by activity, also what is over: late answers and undos hang there
        self.turning: Opened | None = None
        self.topic_of, self.wire = topic_of, wire

    def take(self, record: Fields) -> list[Span]:
        """The spans of the next record. Raises ValueError where it is not the next one."""
        if record.version != self.version + 1:
            raise ValueError(f"saga {self.saga_id}: record {record.version} follows {self.version}")
        self.version = record.version
        self.at = max(record.recorded_at, self.at + 1)
        if record.version == 1:
            root = self._root(record)
            return [root, *MAKERS[record.type](self, record)] if record.type in ALSO_ROOTS else [root]
        maker = MAKERS.get(record.type)
        return list(maker(self, record)) if maker is not None else []

    def _root(self, record: Fields) -> Span:
        data = record.data
        self.trace_id = trace_id_of(record.traceparent, self.saga_id)
        self.name, self.started_at, self.root = str(data.get("name", "")), self.at, span_id_of(f"{self.saga_id}/1")
        self.is_child = bool(data.get("parent"))
        self.common = {names.SAGA_ID: self.saga_id, names.SAGA_NAME: self.name}
        more: dict[str, Value] = {
            names.SAGA_VERSION: int(data.get("version", 0)),
            names.SAGA_TENANT: str(data.get("tenant", "")),
        }
        if self.is_child:
            more[names.SAGA_PARENT] = str(data["parent"]["saga_id"])
        topic = SAGAS_TOPIC if self.is_child else self.topic_of(str(data.get("type", "")))
        if record.causation.startswith(_API) or not topic:
            name, kind = f"{names.SPAN_START} {self.name}", INTERNAL
        else:
            name, kind = names.operation_name(names.PROCESS, topic), CONSUMER
            more |= messaging(self, names.PROCESS, topic, record.causation)
            more[names.CLOUDEVENTS_TYPE] = str(data.get("type", ""))
        return self.span(record, name, kind, parent_of(record.traceparent, self.saga_id), more)

    # --- what makers use ----------------------------------------------------------------------------------------------

    def span(
        self, record: Fields, name: str, kind: int, parent: str, more: Mapping[str, Value], error: str = ""
    ) -> Span:
        """The short span of a record itself; its id is that of the record, which messages cite.

        It is as many microseconds long as it is deep: Jaeger takes a span that is shorter than its parent, and lies
        outside of it, for one with a wrong clock, and says so beside it.
        """
        start = self.at * _US
        depth = self.depths.get(parent, 0) + 1
        id_ = span_id_of(f"{self.saga_id}/{record.version}")
        if record.version == 1 or record.type in OPENING:
            self.depths[id_] = depth
        return Span(
            self.trace_id,
            id_,
            parent,
            name,
            kind,
            start,
            start + depth * _US,
            {**self.common, **more, names.SAGA_RECORD: record.type, names.SAGA_RECORD_VERSION: record.version},
            error,
        )

    def length(
        self, record: Fields, opened: Opened, end: str, error: str = "", *, name: str = "", begin: int = 0
    ) -> Span:
        """The span of true length of something that is over. `end`: tells several of one record apart."""
        return Span(
            self.trace_id,
            span_id_of(f"{self.saga_id}/{record.version}#{end}"),
            opened.span_id,
            name or opened.title,
            INTERNAL,
            (begin or opened.at) * _US,
            max(self.at, (begin or opened.at) + 1) * _US,
            {**self.common, **opened.attributes, names.SAGA_OUTCOME: end.partition("/")[0]},
            error,
        )

    def opening(self, record: Fields, key: str, title: str, more: Mapping[str, Value], participant: str = "") -> Opened:
        """Notes that something is waited for from this record on."""
        opened = Opened(
            span_id_of(f"{self.saga_id}/{record.version}"), self.at, title, participant, self.at, dict(more)
        )
        self.open[key] = opened
        if not key.startswith(_INNER):
            self.known[key] = opened
        return opened

    def close(self, record: Fields, key: str, end: str, error: str = "") -> Iterator[Span]:
        """The true length of what was waited for, where it was."""
        opened = self.open.pop(key, None)
        if opened is not None:
            yield self.length(record, opened, end, error)

    def withdrawn(self, record: Fields) -> Iterator[Span]:
        """What a record takes back unfinished."""
        for activity in record.data.get("withdrawn") or ():
            yield from self.close(record, activity, f"withdrawn/{activity}")

    def place(self, activity: str) -> str:
        """The span under which something of an activity hangs."""
        opened = self.known.get(activity)
        return opened.span_id if opened is not None else self.root

    def linked(self, record: Fields, span: Span) -> Span:
        """With a link to the context that the record's cause came with, unless that is this span or its parent."""
        context = context_of(record.traceparent)
        if context is not None and context[1] not in (span.parent_id, span.span_id):
            span.links = (context,)
        return span


OPENING = frozenset(
    {"step.requested", "child.requested", "event.awaited", "timer.set", "scope.entered", "task.opened", "saga.stuck"}
    | {"undo.requested", "compensation.started"}
)
ALSO_ROOTS = frozenset({"saga.tombstoned"})  # the first record and the last one
_INNER = ("?", "~", "!")  # keys of fences, undos and stuck places, which are no openings of the activity itself


def messaging(spans: SagaSpans, operation: tuple[str, str, int], topic: str, message_id: str) -> dict[str, Value]:
    """The attributes that every messaging span has."""
    found: dict[str, Value] = {
        names.MESSAGING_SYSTEM: spans.wire.system,
        names.MESSAGING_OPERATION_NAME: operation[0],
        names.MESSAGING_OPERATION_TYPE: operation[1],
        names.MESSAGING_DESTINATION: topic,
        names.MESSAGING_MESSAGE_ID: message_id,
        names.MESSAGING_CONVERSATION_ID: spans.saga_id,
    }
    if operation is names.PROCESS and spans.wire.group:
        found[names.MESSAGING_GROUP] = spans.wire.group
    return found


def about(record: Fields) -> dict[str, Value]:
    """Which step or task a span is about."""
    found: dict[str, Value] = {names.SAGA_STEP_NAME: low(record.activity)}
    if found[names.SAGA_STEP_NAME] != record.activity:
        found[names.SAGA_ACTIVITY] = record.activity
    attempt = record.data.get("attempt")
    if isinstance(attempt, int):
        found[names.SAGA_STEP_ATTEMPT] = attempt
    return found


def sent(spans: SagaSpans, record: Fields, topic: str, parent: str, more: Mapping[str, Value]) -> Span:
    """The `send` of a record that means a message."""
    message = messaging(spans, names.SEND, topic, f"{spans.saga_id}/{record.version}")
    return spans.span(record, names.operation_name(names.SEND, topic), PRODUCER, parent, {**message, **more})


def answered(spans: SagaSpans, record: Fields, parent: str, error: str = "") -> Span:
    """The handling of an answer, or the instant at which something happened without one."""
    if record.actor.startswith(_PARTICIPANT):
        topic = replies_topic(record.actor.removeprefix(_PARTICIPANT))
    elif record.type.startswith("child."):
        topic = SAGAS_TOPIC
    else:
        return acted(spans, record, parent, error)
    more = {**messaging(spans, names.PROCESS, topic, record.causation), **about(record)}
    name = names.operation_name(names.PROCESS, topic)
    return spans.linked(record, spans.span(record, name, CONSUMER, parent, more, error))


def acted(spans: SagaSpans, record: Fields, parent: str, error: str = "") -> Span:
    """The instant of a record that is no message: an act of a person, a limit that passed."""
    name = f"saga.{record.type.removeprefix('saga.')}"
    more: dict[str, Value] = {names.SAGA_ACTOR_KIND: record.actor.partition(":")[0]}
    if record.activity:
        name = f"{name} {low(record.activity)}"
        more |= about(record)
    return spans.linked(record, spans.span(record, name, INTERNAL, parent, more, error))


Maker = Callable[[SagaSpans, Fields], Iterable[Span]]
MAKERS: dict[str, Maker] = {}


def makes(*types: str) -> Callable[[Maker], Maker]:
    """Registers what makes the spans of these record types."""

    def register(maker: Maker) -> Maker:
        for type_ in types:
            MAKERS[type_] = maker
        return maker

    return register
