"""One saga during a batch, and what a batch is decided from.

Rules of this file: plain data; a `Stream` collects the turns of one saga until they are written as one `Append`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.kernel.api import Limits
from orchestrator.kernel.effects import Effects
from orchestrator.kernel.graph import Program
from orchestrator.kernel.state import State
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.merge import merged
from orchestrator.runtime.outgoing import Encoder
from orchestrator.runtime.states import Entry
from orchestrator.runtime.summary import waiting_for
from orchestrator.store.contract import Append, EarlyEvent, EventKey, Head, NewRecord, OutboxRow, Waiting


class PoisonError(Exception):
    """One saga cannot take one input: the kernel raised, its stream cannot be folded, or its code is not installed."""

    def __init__(self, text: str, reason: str = "poison") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fixed:
    """What is the same for all batches of a process. `early_max`: events kept for one key. `inputs_max`: early events
    that one saga takes in one batch."""

    catalog: Catalog
    encoder: Encoder
    limits: Limits
    early_max: int
    inputs_max: int


@dataclass(slots=True)
class Loaded:
    """What one transaction has locked and read. `broken`: sagas whose stream cannot be folded, with the reason."""

    now: int
    heads: Mapping[str, Head]
    entries: Mapping[str, Entry]
    broken: Mapping[str, str] = field(default_factory=dict)
    keys: frozenset[EventKey] = frozenset()
    waiting: Sequence[Waiting] = ()
    early: Sequence[EarlyEvent] = ()


@dataclass(slots=True)
class Stream:
    """One saga during a batch. `foreign`: its earlier outbox rows may be another process's and still unsent."""

    head: Head
    program: Program
    state: State | None
    version: int
    trace_id: str
    foreign: bool = False
    records: list[NewRecord] = field(default_factory=list)
    effects: list[Effects] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    items: list[int] = field(default_factory=list)


def append_of(stream: Stream) -> Append:
    """What one saga writes in this batch."""
    head, state = stream.head, stream.state
    assert state is not None, "records without a state"
    return Append(
        saga_id=head.saga_id,
        tenant=head.tenant,
        name=head.name,
        definition_version=state.definition_version,
        business_key=head.business_key,
        expected_version=head.version,
        records=stream.records,
        effects=merged(stream.effects),
        outbox=stream.outbox,
        phase=state.phase,
        outcome=state.outcome,
        stuck=len(state.stuck),
        waiting_for=waiting_for(state),
        ended=state.ended,
        parent=state.parent.saga_id if state.parent is not None else "",
    )
