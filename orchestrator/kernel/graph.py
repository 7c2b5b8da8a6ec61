"""The compiled saga definition: a graph as data, and the functions that it names.

Rules of this file
- A **node** has a path (`lines/reserve`, `manager_approval/on_reject/fail`), unique and stable. Blocks of a node are
  lists of nodes, joined by `next`; the saga's own block and its `on_failed` path are blocks of the graph itself.
- An **activity id** is a node path with the index of every loop on the way: `lines[2]/reserve`.
- The graph is JSON and hashable; bodies of functions are not in it. `Program` pairs it with the functions and codecs of
  the code that is installed; folding a stream needs neither.
- Durations are milliseconds, instants microseconds since the epoch (UTC).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

Json = Any

_INDEX = re.compile(r"\[\d+\]")
_LAST_INDEX = re.compile(r"\[(\d+)\]")


@lru_cache(maxsize=65536)
def node_path(activity: str) -> str:
    """The graph node that an activity runs: its id without indices."""
    return _INDEX.sub("", activity) if "[" in activity else activity


def indices(activity: str) -> tuple[int, ...]:
    """The loop indices of an activity id, outermost first."""
    return tuple(int(text) for text in _LAST_INDEX.findall(activity))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a command is sent again. `attempts` 0 means without end (after the pivot)."""

    attempts: int = 3
    first_ms: int = 500
    factor: float = 2.0
    ceiling_ms: int = 60_000
    jitter: float = 0.1  # share of the delay, drawn from a hash, so that deciding twice gives the same


@dataclass(frozen=True, slots=True)
class Limit:
    """A time limit: a constant, or the name of a function that gives a timedelta or an aware datetime.

    Where it names a calendar, the constant is working time of that business calendar.
    """

    ms: int | None = None
    function: str | None = None
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """What every kind has. `blocks` maps a block's name to its first node (None: an empty path, go on)."""

    path: str
    name: str
    next: str | None = None
    parent: str | None = None  # None: in the saga's flow or its on_failed path
    block: str = ""  # the block of the parent that it stands in; "" is the body
    blocks: Mapping[str, str | None] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True, slots=True)
class StepNode(Node):
    """Asks one participant. Blocks: on_refused, on_exhausted, then."""

    build: str = ""  # function names: for people and for the hash; called as `<path>#build`
    command: str = ""
    participant: str = ""
    reply: str = ""
    retry: RetryPolicy = RetryPolicy()
    within_ms: int = 30_000  # for one attempt, from the moment its command was published
    reads: bool = False
    pivot: bool = False
    undo: str | None = None  # `<path>#undo`
    undo_command: str = ""
    undo_participant: str = ""
    undo_reply: str = ""
    undo_retry: RetryPolicy = RetryPolicy()
    undo_within_ms: int = 30_000
    kind: str = "step"


@dataclass(frozen=True, slots=True)
class CallNode(Node):
    """A child saga. Blocks: on_refused, on_timeout, then. `<path>#build` gives its start command."""

    build: str = ""
    child: str = ""
    child_version: int = 0
    command: str = ""
    reply: str = ""
    within: Limit | None = None
    pivot: bool = False
    kind: str = "call"


@dataclass(frozen=True, slots=True)
class Escalation:
    """One level: after so many ms since the task opened (working time of a calendar), also these people."""

    after_ms: int
    to: Json  # [{"role": name}] or [{"person": id}]
    reset_sla: bool = False
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class Reminder:
    """After so many ms (working time, where it names a calendar) since the task opened, people are reminded."""

    after_ms: int
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class TaskNode(Node):
    """A decision asked of a person. Blocks: on/<outcome>, otherwise, on_timeout, then.

    `<path>#shown` builds what is shown; `<path>#to`, `<path>#within`, `<path>#exclude<i>` where they are functions.
    """

    shown: str = ""
    shown_type: str = ""
    help: str = ""
    form: str = ""
    form_schema: Json = None
    outcomes: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()  # outcomes of which one vote decides
    to: Json = None  # constant people, or {"function": name}
    within: Limit = Limit()
    votes: int = 1
    exclude: tuple[str, ...] = ()  # function names, called as #exclude<i>
    exclude_tasks: tuple[str, ...] = ()  # paths of tasks whose voters are excluded
    escalate: tuple[Escalation, ...] = ()
    amend_on: str = ""
    remind: tuple[Reminder, ...] = ()
    catch_up: str = "each"  # each | last: what happens of several levels (or reminders) that are overdue at once
    amount: str = ""  # name of the function that reads the amount out of what is shown: `<path>#amount`
    limits: tuple[Json, ...] = ()  # [{"role"|"person": who, "amount", "currency"}], no amount: without limit
    confirm: tuple[Json, ...] = ()  # [{"amount", "currency"}]: from where on a second look is asked for; [{}]: always
    kind: str = "task"


@dataclass(frozen=True, slots=True)
class WaitNode(Node):
    """Waits for an event. Blocks: on_timeout, then. `<path>#match` gives another key than the saga's own."""

    event: str = ""
    match: str | None = None
    within: Limit | None = None
    early: bool = True
    since: str | None = None  # path of a step: only what arrived after that step was asked
    kind: str = "wait"


@dataclass(frozen=True, slots=True)
class DelayNode(Node):
    """A durable pause."""

    within: Limit = Limit()
    kind: str = "delay"


@dataclass(frozen=True, slots=True)
class ComputeNode(Node):
    """A pure derivation, recorded once: `<path>#value`."""

    function: str = ""
    kind: str = "compute"


@dataclass(frozen=True, slots=True)
class ChooseNode(Node):
    """A fork: `<path>#test` gives a label that names a block (`true`, `false`, an enum's value), else `otherwise`.

    Where `present` names a type, the test is "is a result of that type there?" and needs no function of the author's.
    """

    test: str = ""
    present: bool = False
    kind: str = "choose"


@dataclass(frozen=True, slots=True)
class ParallelNode(Node):
    """Branches side by side, in this order; over when all are over."""

    branches: tuple[str, ...] = ()  # block names
    kind: str = "parallel"


@dataclass(frozen=True, slots=True)
class ForEachNode(Node):
    """One run of block "body" per item of `<path>#items`; the item is injected inside."""

    items: str = ""
    at_once: int = 1
    kind: str = "for_each"


@dataclass(frozen=True, slots=True)
class RepeatNode(Node):
    """Rounds of block "body" until leave() or `at_most`; then block otherwise."""

    at_most: int = 1
    kind: str = "repeat"


@dataclass(frozen=True, slots=True)
class ScopeNode(Node):
    """A part with its own interruptions and its own undo.

    Blocks: body, on/<event wire name>, on_timeout, on_failed, then. A block `on/<event>` or `on_timeout` that is
    nothing but fail(...) on a scope that has `on_failed` is that scope's own failure (listed in `own_failures`).
    """

    within: Limit | None = None
    events: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()  # events that count only from the entry on (early=False)
    own_failures: tuple[str, ...] = ()
    kind: str = "scope"


@dataclass(frozen=True, slots=True)
class PublishNode(Node):
    """A domain event: `<path>#event`."""

    function: str = ""
    event: str = ""
    topic: str = ""
    kind: str = "publish"


@dataclass(frozen=True, slots=True)
class EnterNode(Node):
    """A state of the business life cycle."""

    state: str = ""
    kind: str = "enter"


@dataclass(frozen=True, slots=True)
class EndNode(Node):
    """Ends the saga; `<path>#result` builds the reply that a parent gets."""

    outcome: str = "completed"
    result: str | None = None
    kind: str = "end"


@dataclass(frozen=True, slots=True)
class FailNode(Node):
    """Turns back. The reason is a constant or `<path>#reason`."""

    reason: str = ""
    function: str | None = None
    kind: str = "fail"


@dataclass(frozen=True, slots=True)
class LeaveNode(Node):
    """Leaves the innermost repeat (`loop`)."""

    loop: str = ""
    kind: str = "leave"


@dataclass(frozen=True, slots=True)
class KeepNode(Node):
    """What the innermost scope or item has done so far stays (`within_node` "": never happens at top level)."""

    within_node: str = ""
    kind: str = "keep"


@dataclass(frozen=True, slots=True)
class Graph:
    """One version of one saga. `hash` is SHA-256 (hex) over the canonical bytes of `data`."""

    name: str
    version: int
    starts_on: tuple[str, ...]
    nodes: Mapping[str, Node]
    first: str | None
    on_failed: str | None = None
    has_on_failed: bool = False
    within_ms: int | None = None
    forward_only: bool = False
    rerun: bool = False
    early_age_ms: int = 3_600_000
    initial_state: str = ""
    transitions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    has_pivot: bool = False
    hash: str = ""
    data: Json = None  # the JSON form, as stored and served


Origin = Literal["start", "result", "item"]


@dataclass(frozen=True, slots=True)
class Source:
    """One place where a parameter's value may come from.

    `start`: the start message, if its wire name is `type`. `result`: what the activity of node `path` gave (a reply, a
    decision, an event, a computed value), if `type` is "" or the recorded type. `item`: the current item of for_each
    `path`. `codec` names the entry of Program.codecs that reads it.
    """

    origin: Origin
    path: str
    codec: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Param:
    """How one parameter of a user function is filled.

    `one`: a value that is there (the newest visible of several sources). `optional`: that or None. `many`: all in flow
    order, out of loops too. `context` and `failure` are built in.
    """

    name: str
    want: Literal["one", "optional", "many", "context", "failure"]
    sources: tuple[Source, ...] = ()


class Codec(Protocol):
    """Reads and writes one type to plain JSON values."""

    def load(self, raw: Json) -> Any:
        """The Python value of recorded data. Raises ContractError or ValueError when it does not fit."""

    def dump(self, value: Any) -> Json:
        """Plain JSON values in canonical normal form."""


@dataclass(frozen=True, slots=True)
class Function:
    """A user function with its injection plan; `returns` names the codec of what it gives ("" for none)."""

    name: str
    call: Callable[..., Any]
    params: tuple[Param, ...] = ()
    returns: str = ""


@dataclass(frozen=True)
class Program:
    """A graph with the installed code: functions by `<path>#<role>`, codecs by name (a node's path for its result)."""

    graph: Graph
    functions: Mapping[str, Function]
    codecs: Mapping[str, Codec]
