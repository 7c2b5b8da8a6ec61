"""One saga during a batch, and what a batch is decided from.

Rules of this file: no I/O; a `Stream` collects the turns of one saga until they are written as one `Append`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.kernel.api import Limits, Turn
from orchestrator.kernel.effects import Effects, Outgoing
from orchestrator.kernel.graph import Program
from orchestrator.kernel.inputs import SendRefused
from orchestrator.kernel.state import State
from orchestrator.messages.personal import SUBJECT_KEY
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import is_sampled, traceparent_of
from orchestrator.runtime.letters import KEY_BROKEN
from orchestrator.runtime.merge import merged
from orchestrator.runtime.outgoing import Encoder, OversizeError
from orchestrator.runtime.states import Entry
from orchestrator.runtime.summary import waiting_for
from orchestrator.runtime.work import Cause
from orchestrator.store.contract import Append, EarlyEvent, EventKey, Head, NewRecord, OutboxRow, Waiting
from orchestrator.tracing.sampling import PARENT_ALONE, Sampler
from orchestrator.vault.sealer import Sealer, harmless
from orchestrator.vault.vault import Prepared, Vault


class PoisonError(Exception):
    """One saga cannot take one input: the kernel raised, its stream cannot be folded, or its code is not installed."""

    def __init__(self, text: str, reason: str = "poison") -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fixed:
    """What is the same for all batches of a process. `early_max`: events kept for one key. `inputs_max`: early events
    that one saga takes in one batch. `sampler`: which sagas' traces are kept. `traces`: their records become spans."""

    catalog: Catalog
    encoder: Encoder
    limits: Limits
    early_max: int
    inputs_max: int
    vault: Vault | None = None
    sampler: Sampler = PARENT_ALONE
    traces: bool = False


@dataclass(slots=True)
class Loaded:
    """What one transaction has locked and read. `broken`: sagas whose stream cannot be folded, with the reason;
    `standing`: sagas whose person's key does not open, with what to do."""

    now: int
    heads: Mapping[str, Head]
    entries: Mapping[str, Entry]
    broken: Mapping[str, str] = field(default_factory=dict)
    keys: frozenset[EventKey] = frozenset()
    waiting: Sequence[Waiting] = ()
    early: Sequence[EarlyEvent] = ()
    keys_of: Prepared | None = None
    standing: Mapping[str, str] = field(default_factory=dict)

    def check_saga(self, saga_id: str) -> None:
        """Raises PoisonError for a saga that can take nothing now."""
        if saga_id in self.standing:
            raise PoisonError(self.standing[saga_id], KEY_BROKEN)
        if saga_id in self.broken:
            raise PoisonError(self.broken[saga_id])

    def check_event(self, event_id: str) -> None:
        """Raises PoisonError for an event that cannot be kept, or given, since its person's key does not open."""
        if self.keys_of is not None and event_id in self.keys_of.broken_early:
            raise PoisonError(self.keys_of.broken_early[event_id], KEY_BROKEN)


@dataclass(slots=True)
class Stream:
    """One saga during a batch. `trace`: its trace's id and flags. `foreign`: its earlier outbox rows may be another
    process's and still unsent."""

    head: Head
    program: Program
    state: State | None
    version: int
    trace: str
    foreign: bool = False
    sealer: Sealer | None = None
    vault: bool = False
    records: list[NewRecord] = field(default_factory=list)
    effects: list[Effects] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    items: list[int] = field(default_factory=list)


def encode(
    encoder: Encoder, stream: Stream, outgoing: Sequence[Outgoing], cause: Cause, now: int
) -> tuple[list[OutboxRow], list[SendRefused]]:
    """The outbox rows of a turn, and an input for each message that is too large to be one."""
    head = stream.head
    rows, refused = [], []
    for out in outgoing:
        try:
            if stream.sealer is not None:
                out = _sealed(out, stream.sealer)
            row = encoder.encode(out, head.saga_id, head.tenant, head.name, stream.trace, cause.causation_id, now)
        except OversizeError as error:
            refused.append(SendRefused(out.version, str(error)))
        else:
            rows.append(row)
    return rows, refused


def _sealed(out: Outgoing, sealer: Sealer) -> Outgoing:
    """A message that names its subject's key; its data was sealed when it was built, a child's answer is now."""
    body = sealer.record(out.body) if out.kind == "answer" else out.body
    return replace(out, body=body, attributes={**out.attributes, SUBJECT_KEY: sealer.key.key_id})


def take(stream: Stream, turn: Turn, cause: Cause, rows: list[OutboxRow], item: int) -> None:
    """Makes a turn part of the batch. Raises PoisonError, before anything is changed, where it does not fit."""
    head, version = stream.head, stream.version + len(turn.records)
    if turn.state.version != version:
        raise PoisonError(f"the state is at version {turn.state.version}, its stream at {version}")
    traceparent = cause.traceparent
    if not stream.version and not traceparent:
        traceparent = traceparent_of(stream.trace, f"{head.saga_id}/1")
    actor, cause_id = cause.actor, cause.causation_id
    written = _written(stream)
    if stream.sealer is not None:
        actor = stream.sealer.actor(actor)
    stream.records += [
        NewRecord(record.type, record.activity, written(record.data), actor, cause_id, traceparent)
        for record in turn.records
    ]
    effects = turn.effects
    if effects.tasks_open and written is not _as_it_is:
        rows_open = [replace(task, data=written(task.data)) for task in effects.tasks_open]
        effects = replace(effects, tasks_open=rows_open)
    stream.effects.append(effects)
    stream.outbox += rows
    stream.items.append(item)
    stream.state, stream.version = turn.state, version


def _as_it_is(data: dict[str, Any]) -> dict[str, Any]:
    return data


def _written(stream: Stream) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """How the data of records is written: sealed, harmless where nothing is sealed, or as it is without a vault."""
    if stream.sealer is not None:
        return stream.sealer.record
    return harmless if stream.vault else _as_it_is


def append_of(stream: Stream, *, traces: bool = False) -> Append:
    """What one saga writes in this batch. `traces`: sampled ones are noted for whoever sends spans."""
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
        traced=traces and is_sampled(stream.trace),
    )
