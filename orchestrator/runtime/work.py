"""What the coordinator is given, and what it gives back.

Rules of this file
- Everything that can make a saga move is one of five items, whether it came from the broker, a timer, a person or the
  reconciler; there is one path for all of them.
- An item knows its cause: who acts, by which message, in which trace; records cite it.
- Classes are plain slots, not frozen: tens of thousands are made each second, and freezing triples the price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.inputs import Arrived, Input, Refusal, Start, UndoAsked
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.store.contract import DeadLetter, MessageId, SagaStart, Waiting

SYSTEM = "system"

# Whether whoever acts may send an input to a saga (its id, its tenant, its state): a refusal, or None where they may.
Guard = Callable[[Input, str, str, State | None], Refusal | None]


@dataclass(frozen=True, slots=True)
class Opened:
    """What was sealed in a message: by which keys, in which scopes, and what it says (ADR 60)."""

    keys: tuple[str, ...] = ()
    scopes: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()


@dataclass(slots=True)
class Cause:
    """Why something happens. `actor`: system, participant:<name>, person:<id>, service:<name>.

    `message`: identity for the inbox, None for what has its own protection (timers, resumes, checks). `raw`: the
    message as it came, kept where it becomes a dead letter. `redriven`: id of the dead letter that this is, or 0.
    `opened`: what was sealed in the message, None where nothing was.
    `guard`: asked with the loaded saga before an input is decided; None for what no person or service has asked for.
    """

    tenant: str
    actor: str = SYSTEM
    causation_id: str = ""
    traceparent: str = ""
    message: MessageId | None = None
    raw: IncomingMessage | None = None
    redriven: int = 0
    guard: Guard | None = None
    opened: Opened | None = None


@dataclass(slots=True)
class SagaInput:
    """An input for one saga that is known by its id. `reply_type`: wire name of an answer's data, "" for others."""

    saga_id: str
    given: Input
    cause: Cause
    reply_type: str = ""


@dataclass(slots=True)
class SagaBegin:
    """A start, or the parent's wish to undo a child that may not exist yet. `definition_version` 0: the newest.

    `event_id`: tells the runs of a key apart, where the version is ours to choose; "": the parent has named it."""

    start: SagaStart
    given: Start | UndoAsked
    cause: Cause
    definition_version: int = 0
    event_id: str = ""


@dataclass(slots=True)
class DomainEvent:
    """A fact. `begins`: the sagas it starts. `awaited`: some installed graph may wait for its type."""

    event: Arrived
    cause: Cause
    begins: tuple[SagaBegin, ...] = ()
    awaited: bool = True


@dataclass(slots=True)
class EarlyCheck:
    """A wait that was opened without the lock of its key: are there events for it already?"""

    waiting: Waiting
    cause: Cause


@dataclass(slots=True)
class Unprocessable:
    """A message that the router could not read; kept with its reason."""

    letter: DeadLetter
    cause: Cause


Item = SagaInput | SagaBegin | DomainEvent | EarlyCheck | Unprocessable

Fate = Literal["applied", "nothing", "duplicate", "refused", "early", "dead", "failed"]


@dataclass(slots=True)
class Outcome:
    """What became of an item, after its transaction committed.

    applied: `records` were written · nothing: it changed nothing (a stale timer, the very same start again) ·
    duplicate: this message was taken in before · refused: see `refusal` · early: an event kept for a later wait · dead:
    kept as dead letter, `reason` is its code · failed: the kernel raised, `reason` has the end of the traceback.
    An applied one may be refused all the same: then its records say who asked for what. `version`: of the saga's last
    record after it. An event has one outcome, with the first saga that it moved.
    """

    fate: Fate
    saga_id: str = ""
    version: int = 0
    records: Sequence[Record] = ()
    refusal: Refusal | None = None
    reason: str = ""


@dataclass(slots=True)
class Positions:
    """How far a batch brings its partitions: (group, topic, partition) to (next offset, read until in microseconds)."""

    of: dict[tuple[str, str, int], tuple[int, int]] = field(default_factory=dict)


def saga_of(item: Item) -> str:
    """The saga that an item names, "" where it names none."""
    if isinstance(item, SagaInput):
        return item.saga_id
    if isinstance(item, SagaBegin):
        return item.start.saga_id
    return ""
