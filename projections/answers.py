"""What read models answer with: frozen values for pages, HTTP and the command line.

Rules of this file
- Every answer says how far it reaches (`Complete`): a list that lags says so, and never passes for the present.
- Instants are aware datetimes in UTC; a duration is a number of seconds. A rate comes with what it is a rate of.
- A cursor is opaque; it keeps what the first page could see, so later rows never shift a list under its reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

Item = TypeVar("Item")

Sla = Literal["in time", "at risk", "overdue", "none"]


@dataclass(frozen=True, slots=True)
class Complete:
    """How far an answer reaches. `position`: every record up to it is in; `head`: the last position that was given.

    `at`: when the newest record that is in was written. `age_seconds`: how old the oldest record is that is not in.
    """

    position: int
    head: int
    at: datetime | None
    age_seconds: float = 0.0

    @property
    def lag(self) -> int:
        """Records that are there and not yet in the answer."""
        return max(0, self.head - self.position)


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are. `exact` False: at least so many, nobody counted on."""

    value: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Answer(Generic[Item]):
    """A page of a read model. `next`: cursor of the following page, "" at the end. `as_of`: the past it shows."""

    items: tuple[Item, ...]
    complete: Complete
    next: str = ""
    as_of: datetime | None = None
    count: Count | None = None


@dataclass(frozen=True, slots=True)
class PendingApproval:
    """A task as it stood at an instant. `to` and `candidates`: `person:maria`, `role:manager`. `since`: of this state.

    `change`: the record that brought it there. `until`: when it stopped being so, None where it still is.
    """

    task_id: str
    saga_id: str
    saga_name: str
    business_key: str
    customer: str
    activity: str
    state: str  # open | decided | expired | withdrawn
    change: str
    opened_at: datetime
    since: datetime
    until: datetime | None
    due: datetime | None
    expires: datetime | None
    sla: Sla
    to: tuple[str, ...]
    claimed_by: str
    delegated_to: str
    level: int
    round: int
    votes: int
    votes_needed: int
    outcome: str
    actor: str
    record: int
    position: int


@dataclass(frozen=True, slots=True)
class Decision:
    """One vote with its evidence. `counted` False: a change of the subject made it void."""

    task_id: str
    saga_id: str
    saga_name: str
    business_key: str
    customer: str
    activity: str
    person: str
    at: datetime
    outcome: str
    decided: bool
    counted: bool
    reason: str
    on_behalf_of: str
    authentication: str
    roles: tuple[str, ...]
    subject_hash: str
    round: int
    record: int
    position: int


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records. None does not count. `action`: a record type, or its first word with a dot (`task.`).

    `saga`: the id of a saga. `actor`: as records name it, `person:maria`. `until` is not included.
    """

    saga: str | None = None
    business_key: str | None = None
    actor: str | None = None
    customer: str | None = None
    action: str | None = None
    outcome: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One record, with what is known of its saga. `data` and `hash` are the record's own."""

    position: int
    at: datetime
    saga_id: str
    record: int
    saga_name: str
    saga_version: int
    business_key: str
    customer: str
    type: str
    activity: str
    actor: str
    outcome: str
    causation_id: str = ""
    hash: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export holds. `sha256`: of its bytes before the manifest. `rows`: of records, the heading not counted."""

    format: str
    filter: Mapping[str, Any]
    as_of: datetime
    rows: int
    sha256: str
    complete_up_to: int
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a saga stands. `usual_seconds`: what this takes half of all sagas; None where nobody has been through."""

    activity: str
    node: str
    kind: str
    since: datetime
    due: datetime | None
    attempts: int
    usual_seconds: float | None
    sla: Sla


@dataclass(frozen=True, slots=True)
class Passed:
    """What a saga has behind it."""

    activity: str
    node: str
    kind: str
    opened_at: datetime
    closed_at: datetime
    outcome: str
    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Remaining:
    """What lies ahead. `certain` False: on some of the paths only."""

    node: str
    name: str
    kind: str
    certain: bool
    quick_seconds: float | None
    usual_seconds: float | None
    slow_seconds: float | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """One saga in time. `earliest` and `latest`: when it will probably have ended, None where it cannot be told.

    `bottleneck`: the node that will take longest, or takes longest now. `deadline`: the saga's own.
    """

    saga_id: str
    name: str
    version: int
    business_key: str
    customer: str
    phase: str
    outcome: str
    started_at: datetime
    changed_at: datetime
    ended_at: datetime | None
    deadline: datetime | None
    sla: Sla
    places: tuple[Place, ...]
    passed: tuple[Passed, ...]
    remaining: tuple[Remaining, ...]
    earliest: datetime | None
    latest: datetime | None
    bottleneck: str
    complete: Complete


@dataclass(frozen=True, slots=True)
class Journey:
    """A saga as lists of the read model show it. `place`: the node where it stands longest; `due`: what is due next."""

    saga_id: str
    name: str
    version: int
    business_key: str
    customer: str
    phase: str
    outcome: str
    place: str
    place_kind: str
    place_since: datetime | None
    due: datetime | None
    sla: Sla
    stuck: int
    started_at: datetime
    changed_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """A node where sagas stand. `usual_seconds`, `slow_seconds`: half and 95 of 100 were through by then.

    `exact` False: at least `waiting` stand there, nobody counted on.
    """

    name: str
    node: str
    kind: str
    waiting: int
    overdue: int
    oldest_since: datetime | None
    usual_seconds: float | None
    slow_seconds: float | None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class ProgressStep:
    """A step in the customer's words. `state`: done | now | later | undone."""

    text: str
    state: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What a customer may see of a saga: words and fields that its definition exposes, nothing else."""

    business_key: str
    title: str
    state: str
    facts: Mapping[str, Any]
    steps: tuple[ProgressStep, ...]
    started_at: datetime
    changed_at: datetime
    ended_at: datetime | None
    complete: Complete


@dataclass(frozen=True, slots=True)
class Level:
    """One service level over a window. `value` None: nothing to measure yet. `good`: value meets target.

    `part` of `whole`: the two numbers behind a rate; for a duration `whole` is how many were measured. `unit`: "rate"
    (0 to 1) or "seconds". `target` None: shown without one. `at_least`: higher is better.
    """

    key: str
    label: str
    meaning: str
    unit: str
    value: float | None
    part: int
    whole: int
    target: float | None
    at_least: bool

    @property
    def good(self) -> bool | None:
        """Meets its target; None where there is no target or nothing was measured."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(frozen=True, slots=True)
class Tiles:
    """The service levels of a window. `name` "": of all definitions."""

    name: str
    since: datetime
    until: datetime
    levels: tuple[Level, ...]
    complete: Complete


@dataclass(frozen=True, slots=True)
class Point:
    """One bucket of a trend."""

    at: datetime
    level: Level


@dataclass(frozen=True, slots=True)
class Series:
    """A trend of one level. `bucket_seconds`: the width of a point."""

    key: str
    name: str
    bucket_seconds: int
    points: tuple[Point, ...]
    complete: Complete


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """How a projection is. `state`: running | behind | stopped | rebuilding | outdated. `reason`: why it stopped."""

    name: str
    state: str
    slot: str
    version: int
    code_version: int
    complete: Complete
    records: int
    checksum: str
    reason: str
    stopped_position: int
    updated_at: datetime | None
