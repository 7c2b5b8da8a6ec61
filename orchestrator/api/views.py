"""What routes get and give: plain frozen values, without store, kernel or HTTP in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeVar

Act = Literal["retry", "value", "done", "not_done", "skip", "take_over", "give_back", "settle"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `id` is the person or service, `roles` those held now, `authentication` how we know.

    `roles` are what a task's `Role("manager")` means; `capacities` are what the product lets them do: out of viewer,
    approver, operator, auditor, admin, service. `actions`, where there are any: these alone (a key made for one thing).
    `fresh_above`: amounts by currency ("*": any) from which a decision takes a recent sign-in, see `authenticated_at`.
    """

    id: str
    roles: tuple[str, ...] = ()
    authentication: str = ""
    on_behalf_of: str = ""
    tenant: str = "main"
    name: str = ""
    capacities: frozenset[str] = frozenset()
    authenticated_at: datetime | None = None
    actions: frozenset[str] = frozenset()
    fresh_above: tuple[tuple[str, Decimal], ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """A start. `created` is False where the very same start was there before."""

    saga_id: str
    name: str
    business_key: str
    created: bool


@dataclass(frozen=True, slots=True)
class SagaView:
    """A saga as lists show it; `phase`: forward, compensating, completed, compensated; `stuck`: how many places."""

    saga_id: str
    name: str
    version: int
    business_key: str
    phase: str
    outcome: str
    waiting_for: str
    stuck: int
    started_at: datetime
    updated_at: datetime
    record: int  # version of the last record
    tenant: str = "main"
    parent: str = ""
    trace_id: str = ""  # where one saga was asked for; lists leave it out

    @property
    def ended(self) -> bool:
        """No record will follow, except late replies."""
        return self.phase in ("completed", "compensated", "tombstoned")


@dataclass(frozen=True, slots=True)
class StuckPlace:
    """A place that only a person can move. `version`: the record that says so, to be named by an operator's act.

    `proposal`: one person's act or evidence that another must confirm, naming the proposal's own `version`.
    """

    place: str
    version: int
    reason: str
    cause: str
    proposal: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ActivityView:
    """One step, task, wait or child of a saga. `settled` is the record that gave its outcome, 0 while it has none.

    `undo`: where its way back stands, "" where it has not begun.
    """

    activity: str
    kind: str
    status: str
    attempt: int
    round: int
    opened: int
    settled: int
    due: datetime | None
    undo: str = ""


@dataclass(frozen=True, slots=True)
class SagaDetail:
    """One saga in full. `failure`: why it goes back. `undo_plan`: what a turn back now would undo, in order."""

    saga: SagaView
    state: str  # in words
    start: Mapping[str, Any]
    activities: tuple[ActivityView, ...]
    stuck_places: tuple[StuckPlace, ...]
    handed_places: tuple[StuckPlace, ...]  # undos that somebody took over; `version` is that of the take-over
    undo_plan: tuple[str, ...]
    pivot: str
    failure: Mapping[str, Any] | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class LetterView:
    """A message that nobody could process. `text` is its value where that is UTF-8, else `value_hex` has it."""

    id: int
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    message_id: str
    received_at: datetime
    redriven_at: datetime | None
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    value_hex: str = ""


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list. `next` is the cursor of the following page, "" at the end."""

    items: tuple[Item, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task asked of people. `shown` is what they decide on; its hash must come back with a vote.

    delegated: {by, to, until}. comments: {id, by, at, text, edits: [{text, at}]}. attachments: {by, at, url, title}.
    escalations: {level, at, to, done, reset_sla}. reminders: {at, done}. sla: in time, at risk, overdue, or "" where it
    is closed. position: "first of two" of a chain. authority: the amount and the limits that it is held against, in
    words. may_decide and why: whether this actor could vote, by which right, or why not; "" where nobody asked.
    may_decide_for: everybody by whose right they could, themselves among them.
    """

    id: str
    saga_id: str
    saga_name: str
    business_key: str
    activity: str
    state: str  # open | decided | expired | withdrawn
    shown: Any
    form_schema: Any
    outcomes: tuple[str, ...]
    to: tuple[Mapping[str, str], ...]
    excluded: tuple[str, ...]
    votes: tuple[Mapping[str, Any], ...]
    votes_needed: int
    subject_hash: str
    opened_at: datetime
    due: datetime | None
    help: str = ""
    decision: Any = None  # of a decided task
    claimed_by: str = ""
    claimed_at: datetime | None = None
    delegated: tuple[Mapping[str, Any], ...] = ()
    comments: tuple[Mapping[str, Any], ...] = ()
    attachments: tuple[Mapping[str, Any], ...] = ()
    escalations: tuple[Mapping[str, Any], ...] = ()
    reminders: tuple[Mapping[str, Any], ...] = ()
    expires: datetime | None = None
    sla: str = ""
    position: str = ""
    amount: Mapping[str, str] | None = None
    limits: tuple[Mapping[str, str], ...] = ()
    authority: str = ""
    round: int = 1
    void_votes: int = 0  # of earlier rounds
    amended_at: datetime | None = None
    may_decide: bool = False
    why: str = ""
    may_decide_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """What a person has filled in of a task's form and not sent: theirs alone, and no evidence of anything."""

    task_id: str
    form: Mapping[str, Any]
    subject_hash: str  # of what they saw when it was saved
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class Substitution:
    """Somebody stands in for an absent person on all tasks. `ended_at`: when it was taken back before its time."""

    id: int
    person: str
    substitute: str
    since: datetime
    until: datetime
    reason: str
    made_at: datetime
    made_by: str
    ended_at: datetime | None = None
    ended_by: str = ""


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record of a saga's stream. `written`: its data as recorded, where `data` shows what was sealed in it."""

    saga_id: str
    version: int
    type: str
    activity: str
    data: Mapping[str, Any]
    actor: str
    recorded_at: datetime
    causation_id: str = ""
    traceparent: str = ""
    hash: str = ""
    written: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, metadata={"inside": True})


@dataclass(frozen=True, slots=True)
class Voted:
    """A vote that was recorded. `decided`: it settled the task, with `outcome`; else more votes are needed."""

    task_id: str
    saga_id: str
    outcome: str
    decided: bool
    record: int


class RefusedError(Exception):
    """What was asked for may not be. `code` and `facts` are the kernel's refusal; nothing was recorded.

    Codes: those of `orchestrator.kernel.inputs.Refusal`.
    """

    def __init__(self, code: str, text: str, facts: Mapping[str, Any] | None = None, saga_id: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.facts = dict(facts or {})
        self.saga_id = saga_id


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A domain event as a client sent it: CloudEvents attributes and plain JSON data, not yet checked."""

    id: str
    source: str
    type: str
    data: Mapping[str, Any]
    time: str = ""
    subject: str = ""
    dataschema: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published:
    """An event that the broker has."""

    id: str
    source: str
    type: str
    topic: str
    key: str


def task_id_of(saga_id: str, activity: str) -> str:
    """The id of a task in URLs: one path segment, readable, reversible."""
    return f"{saga_id}:{activity.replace('~', '~0').replace('/', '~1')}"


def task_of(task_id: str) -> tuple[str, str]:
    """Saga id and activity of a task id; activity "" where it is not one of ours."""
    saga_id, _, rest = task_id.partition(":")
    return saga_id, rest.replace("~1", "/").replace("~0", "~")
