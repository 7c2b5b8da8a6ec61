"""The state of one saga: what `evolve` folds its records into.

Rules of this file
- Plain data. No graph, no user code, no clock. A state can be built for a saga whose code is not installed.
- `fork` gives a state that may be changed while the old one stays as it was; an activity is cloned when first touched
  (`touch`), and `owned` tells which were: the effects of a turn follow from them.
- Instants are microseconds since the epoch (UTC), 0 means none. `settled` and `opened` are record versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

from orchestrator.kernel.inputs import Parent

C = TypeVar("C")


def _copier(cls: type[C]) -> Callable[[C], C]:
    """A shallow copy of a slotted dataclass, several times faster than copy.copy: all fields read in one C call."""
    read = attrgetter(*cls.__slots__)  # type: ignore[attr-defined]

    def copy(one: C) -> C:
        return cls(*read(one))

    return copy


# Blocks whose names may not be used as names of nodes: they separate a scope's body from its handlers (S5).
HANDLER_BLOCKS = frozenset({"on", "on_timeout", "on_failed", "then"})
UNSETTLED = frozenset({"requested", "backoff", "unknown"})


@dataclass(slots=True)
class TaskState:
    """What is special about a task: what is shown, who may decide, what was voted."""

    shown: Any
    shown_type: str
    hash: str
    round: int
    to: list[dict[str, str]]
    excluded: list[str]
    outcomes: list[str]
    rejects: list[str]
    votes_needed: int
    expires: int
    levels: list[dict[str, Any]]  # [{"at": instant, "to": [...]}] not yet reached
    level: int = 0
    opened_at: int = 0
    votes: list[dict[str, Any]] = field(default_factory=list)
    help: str = ""
    form: str = ""
    form_schema: Any = None
    void: list[dict[str, Any]] = field(default_factory=list)  # votes of earlier rounds: they decide nothing any more
    earlier: list[str] = field(default_factory=list)  # who voted on the tasks that this one excludes, when it opened
    reminders: list[int] = field(default_factory=list)  # instants not yet reached
    reminded: list[int] = field(default_factory=list)
    escalated: list[dict[str, Any]] = field(default_factory=list)  # [{"level", "at", "to"}] that happened
    claim: dict[str, Any] | None = None  # {"by", "at"}
    delegations: list[dict[str, Any]] = field(default_factory=list)  # [{"by", "roles", "to", "until", "reason", "at"}]
    steered: list[str] = field(default_factory=list)  # who reassigned it: they do not decide it
    comments: list[dict[str, Any]] = field(default_factory=list)  # [{"id", "by", "at", "text", "edits": [...]}]
    attachments: list[dict[str, Any]] = field(default_factory=list)  # [{"by", "at", "url", "title"}]
    amount: dict[str, str] | None = None  # {"amount", "currency"} of what is shown
    limits: list[dict[str, str]] = field(default_factory=list)  # [{"role"|"person", "amount", "currency"}]
    chain: list[int] = field(default_factory=list)  # [position, length] among the approvals of one chain
    catch_up: str = "each"
    amended_at: int = 0

    def clone(self) -> TaskState:
        """A copy whose lists may be changed; what is in them is replaced, never changed."""
        copy = _copy_task(self)
        copy.to, copy.levels, copy.votes = list(self.to), list(self.levels), list(self.votes)
        return copy


@dataclass(slots=True)
class UndoState:
    """The way back of one activity: ""|asked|backoff|stuck|done|skipped|by_hand|taken|handed."""

    status: str = ""
    round: int = 1
    attempt: int = 0
    base: int = 0
    command: dict[str, Any] | None = None
    taken_by: str = ""
    taken_at: int = 0  # version of the take-over


@dataclass(slots=True)
class Activity:
    """One run of a node. `status`: requested|backoff|unknown|open|succeeded|refused|expired|withdrawn|left."""

    kind: str
    status: str
    opened: int
    round: int = 1
    attempt: int = 0
    base: int = 0
    due: int = 0
    armed: int = 0
    command: dict[str, Any] | None = None
    result: Any = None
    result_type: str = ""
    settled: int = 0
    undoable: bool = False
    pivot: bool = False
    reads: bool = False
    kept: bool = False
    gone: bool = False  # its scope was taken back: it counts as not done (S6)
    fence: str = ""  # ""|asked|backoff|stuck|owed
    fence_attempt: int = 0
    fence_base: int = 0
    after: str = ""  # why it is fenced outside of a closing: exhausted | expired
    requested_at: int = 0  # when the command of this round was first asked
    wants: list[dict[str, Any]] = field(default_factory=list)  # [{"type", "key", "from"}]
    undo: UndoState | None = None
    task: TaskState | None = None
    failure: dict[str, str] | None = None
    proposal: dict[str, Any] | None = None  # one person's evidence, waiting for a second
    earlier: list[str] = field(default_factory=list)  # keys of earlier rounds that are owed a fence
    owed: int = 0  # round whose fence is owed after evidence
    early: dict[str, Any] | None = None  # {"result"}: a child completed while it was asked to undo itself

    def clone(self) -> Activity:
        """A copy for a forked state."""
        copy = _copy_activity(self)
        if self.undo is not None:
            copy.undo = _copy_undo(self.undo)
        if self.task is not None:
            copy.task = self.task.clone()
        return copy

    @property
    def unsettled(self) -> bool:
        """A step or call whose outcome is not known yet."""
        return self.status in UNSETTLED

    @property
    def undo_status(self) -> str:
        """Where its way back stands; "" where it has not begun."""
        return self.undo.status if self.undo else ""

    @property
    def stands(self) -> bool:
        """Its result is there: it succeeded, was not undone, and its scope was not taken back."""
        return self.status == "succeeded" and not self.gone and self.undo_status not in ("done", "by_hand")


_copy_activity = _copier(Activity)
_copy_undo = _copier(UndoState)
_copy_task = _copier(TaskState)


@dataclass(slots=True)
class Join:
    """Concurrent runs of a parallel or for_each. Over when done = total."""

    total: int
    started: int
    done: int


@dataclass(slots=True)
class ScopeState:
    """One open entry of a scope. mode: open|interrupted|failing|undoing. `then`: what goes on after closing."""

    mode: str
    entered: int
    then: str = ""
    plan: list[str] = field(default_factory=list)

    def clone(self) -> ScopeState:
        """A copy whose plan may be changed."""
        return ScopeState(self.mode, self.entered, self.then, list(self.plan))


@dataclass(frozen=True, slots=True)
class Stuck:
    """A place that only a person can move. `version`: the record that says so."""

    version: int
    reason: str
    cause: str  # function | size | refused | exhausted | unknown | never | undo | ...
    function: str = ""  # `<path>#<role>` of the function that raised
    activity: str = ""  # for which activity it was called


@dataclass(slots=True)
class State:
    """All of one saga.

    `phase`: new|forward|compensating|on_failed|completed|compensated|tombstoned. `pivot`: none|open|passed.
    `pending`: a failure that waits for the pivot in flight. `failure`: why the saga goes back.
    """

    saga_id: str = ""
    tenant: str = ""
    name: str = ""
    definition_version: int = 0
    business_key: str = ""
    version: int = 0
    phase: str = "new"
    activities: dict[str, Activity] = field(default_factory=dict)
    tokens: dict[str, None] = field(default_factory=dict)
    joins: dict[str, Join] = field(default_factory=dict)
    scopes: dict[str, ScopeState] = field(default_factory=dict)
    plan: list[str] | None = None
    undoing: dict[str, None] = field(default_factory=dict)  # undos asked or in backoff
    stuck: dict[str, Stuck] = field(default_factory=dict)
    items: dict[str, list[Any]] = field(default_factory=dict)
    pivot: str = "none"
    pivot_at: str = ""
    pending: dict[str, str] | None = None
    failure: dict[str, str] | None = None
    deadline: int = 0
    deadline_armed: int = 0
    forward_only: bool = False
    entered: str = ""
    start_type: str = ""
    start_data: Any = None
    started_at: int = 0
    parent: Parent | None = None
    unwound_by_parent: bool = False
    outcome: str = ""
    result: Any = None
    result_type: str = ""
    by_hand: dict[str, Any] = field(default_factory=dict)  # "<function key>@<activity>" -> value typed by an operator
    proposed: dict[str, dict[str, Any]] = field(default_factory=dict)  # place -> one person's act, waiting for a second
    erasures: tuple[str, ...] = ()  # requests under which its subject was erased
    owned: set[str] = field(default_factory=set)
    cache: dict[Any, Any] = field(default_factory=dict)  # decoded results; never part of what a state is

    def fork(self) -> State:
        """A state that may be changed; this one stays as it is. Costs one shallow copy of each container."""
        copy = _copy_state(self)
        copy.activities = dict(self.activities)
        copy.tokens = dict(self.tokens)
        copy.joins = {key: Join(j.total, j.started, j.done) for key, j in self.joins.items()} if self.joins else {}
        copy.scopes = {key: s.clone() for key, s in self.scopes.items()} if self.scopes else {}
        copy.plan = None if self.plan is None else list(self.plan)
        copy.undoing = dict(self.undoing)
        copy.stuck = dict(self.stuck)
        copy.items = dict(self.items)
        copy.by_hand = dict(self.by_hand)
        copy.proposed = dict(self.proposed) if self.proposed else {}
        copy.owned = set()
        copy.cache = dict(self.cache)  # what a discarded fork decoded must not outlive it
        return copy

    def touch(self, activity: str) -> Activity:
        """The activity, cloned first if an older state may still use it. Raises KeyError for an unknown one."""
        found = self.activities[activity]
        if activity not in self.owned:
            found = self.activities[activity] = found.clone()
            self.owned.add(activity)
        return found

    def add(self, activity: str, new: Activity) -> Activity:
        """Puts a new activity (or a new round of one) in place."""
        self.activities[activity] = new
        self.owned.add(activity)
        return new

    @property
    def ended(self) -> bool:
        """Nothing more happens by itself (a completed child may still be asked to undo)."""
        return self.phase in ("completed", "compensated", "tombstoned")

    def inside(self, prefix: str) -> Iterator[tuple[str, Activity]]:
        """Activities in the body of a scope (`prefix`: its id), or of a loop's round."""
        return ((key, found) for key, found in self.activities.items() if in_body(key, prefix))

    def summary(self) -> dict[str, Any]:
        """Everything that makes two states equal, as plain data: for tests and for refolding checks."""
        skipped = {"owned", "cache"}
        return {name: getattr(self, name) for name in _STATE_FIELDS if name not in skipped}


_STATE_FIELDS = tuple(State.__slots__)
_copy_state = _copier(State)


def in_body(activity: str, scope: str) -> bool:
    """True where `activity` lies in the body of `scope` (its handlers lie outside it, S5). "" is the whole saga."""
    if not scope:
        return True
    if not activity.startswith(scope) or len(activity) <= len(scope):
        return False
    rest = activity[len(scope) :]
    if rest[0] == "[":
        return True
    return rest[0] == "/" and rest[1:].split("/", 1)[0] not in HANDLER_BLOCKS
