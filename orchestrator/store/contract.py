"""The store's port: what the runtime needs of a database, and nothing else.

Rules of this file
- A **batch** is one transaction: locks, inbox, reads, one write, commit. Lock order is fixed: which versions are
  active, event keys, saga heads in id order, so two batches never deadlock.
- `PRIMARY KEY (saga_id, version)` decides who wrote. Nothing is updated in a stream, ever.
- A commit whose outcome is unknown raises CommitUnknownError; `Store.committed` answers what happened. Never retry
  blindly.
- Instants are microseconds since the epoch (UTC), read from the database's clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from typing import Any, Literal, Protocol

from orchestrator.kernel.effects import Effects
from orchestrator.messages.value import value

PRESUMED_US = 1_000_000  # how long after its `now` a presumed batch can still be written, microseconds

EventKey = tuple[str, str, str]  # tenant, event type, key
Position = tuple[str, str, int]  # consumer group, topic, partition


class StoreError(Exception):
    """Base of what the store raises. `retriable`: doing the whole batch again may help.

    `sagas`: ids of those that are to blame, so that the caller can cut them out and go on with the others; empty where
    the whole batch is concerned.
    """

    retriable = False

    def __init__(self, message: str, sagas: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.sagas = tuple(sagas)


class ConflictError(StoreError):
    """Another process wrote one of these sagas first, although its head was locked or believed unchanged.

    Raised before anything is written, so the same batch may be written without the sagas it names.
    """

    retriable = True


class InvalidAppendError(StoreError):
    """What these sagas want to append cannot be stored (no canonical form, not claimed, ...). Raised before anything is
    written. Trying again does not help; the runtime makes the place stuck."""


class PresumedWrongError(StoreError):
    """Something is not as this batch had presumed. Nothing of it is stored: decide it again, on what `claim` reads."""

    retriable = True


class StoreUnavailableError(StoreError):
    """The database cannot be reached, is busy, or gave up on this transaction. Nothing of the batch is stored."""

    retriable = True


class CommitUnknownError(StoreError):
    """The connection died in COMMIT. Ask `Store.committed` before anything else."""


@value
class MessageId:
    """Identity of a message for the inbox: source + id, and SHA-256 of its bytes (same id, other body is refused)."""

    tenant: str
    source: str
    id: str
    body_hash: bytes


MessageFate = Literal["new", "seen", "other_body"]


@value
class SagaStart:
    """A saga that this batch may start. The store makes its head (version 0) and tries to take the live run."""

    saga_id: str
    tenant: str
    name: str
    business_key: str


@value
class Head:
    """The last line of a stream, locked. version 0: nothing written yet.

    `run_owner`: for starts, the saga id that holds the live run of its name and business key, or None.
    """

    saga_id: str
    tenant: str
    name: str
    definition_version: int
    business_key: str
    version: int
    hash: bytes
    recorded_at: int
    ended: bool = False
    run_owner: str | None = None


@value
class StoredRecord:
    """One line of a stream as stored. `body` is the canonical JSON that is hashed; data is parsed from it."""

    saga_id: str
    version: int
    type: str
    activity: str
    data: dict[str, Any]
    actor: str
    causation_id: str
    correlation_id: str
    traceparent: str
    recorded_at: int
    previous_hash: bytes
    hash: bytes
    body: bytes
    tenant: str = ""
    position: int = 0  # global position, where the reader asked for it


@value
class NewRecord:
    """A record to append; the store seals it (canonical bytes, hash chain) with the head that it locked."""

    type: str
    activity: str
    data: dict[str, Any]
    actor: str  # "system", "participant:accounts", "person:maria", "service:..."
    causation_id: str
    traceparent: str = ""


@value
class OutboxRow:
    """A message decided and committed. `id` = saga id + "/" + version; sent in version order per saga."""

    saga_id: str
    version: int
    topic: str
    key: str
    headers: tuple[tuple[str, bytes], ...]
    value: bytes


@value
class Append:
    """One saga's part of a batch; a saga has at most one. Phase, outcome, stuck and waiting_for are what lists show.

    `effects` are net, over all turns of the saga in this batch: what is cleared or closed goes first, what is set or
    opened then stands.
    """

    saga_id: str
    tenant: str
    name: str
    definition_version: int
    business_key: str
    expected_version: int
    records: Sequence[NewRecord]
    effects: Effects  # timers, waits, tasks, consumed events, resume
    outbox: Sequence[OutboxRow] = ()  # the encoded form of effects.outbox
    phase: str = "forward"
    outcome: str = ""
    stuck: int = 0
    waiting_for: str = ""
    ended: bool = False  # frees the live run
    parent: str = ""  # saga id of the parent, or ""
    traced: bool = False  # its records are to become spans


@value
class EarlyEvent:
    """An event that nobody waits for yet, kept."""

    tenant: str
    type: str
    key: str
    event_id: str  # source + "\n" + id
    data: Any
    arrived_at: int
    traceparent: str = ""
    # (saga name, business key) of the runs that took it: no later run of the same may take it again (kernel rule 23)
    consumed_by: frozenset[tuple[str, str]] = frozenset()


@value
class Waiting:
    """A stored subscription: which saga waits for a key, at which activity, since which opening."""

    saga_id: str
    activity: str
    type: str
    key: str
    accepts_from: int


@value
class DeadLetter:
    """A message nobody can process, with its original bytes and the reason."""

    tenant: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    reason: str  # a code: unreadable, unknown_type, invalid, oversized, null_value, wrong_tenant, other_body, ...
    detail: str
    message_id: str = ""


@value
class Switch:
    """A version becomes the one for new sagas, by the saga whose records say who asked and who agreed (ADR 67).

    `hash`: of the version's shape, as they saw it. `replaces`: the version that took new sagas until now; 0: none.
    """

    name: str
    version: int
    replaces: int
    hash: str
    saga_id: str


@value
class BatchWrite:
    """Everything one batch writes. `positions`: next offset and how far in time intake has read (microseconds)."""

    appends: Sequence[Append] = ()
    early: Sequence[EarlyEvent] = ()
    dead_letters: Sequence[DeadLetter] = ()
    positions: Mapping[Position, tuple[int, int]] = field(default_factory=dict)
    timers_fired: Sequence[tuple[str, str, int]] = ()  # saga id, activity, armed: rows of handled or stale timers
    resumes_done: Sequence[str] = ()  # saga ids whose due resume was handled
    checks_done: Sequence[tuple[str, str, str, str]] = ()  # saga id, activity, type, key of handled early checks
    redriven: Sequence[int] = ()  # ids of dead letters that were processed now
    switches: Sequence[Switch] = ()  # only where `active` was asked for alone


class Batch(Protocol):
    """One transaction. Leaving it normally commits; an exception rolls back. Never cancelled half-way."""

    now: int  # what is decided with, microseconds: the database's clock after the locks of `claim`, or as presumed
    clock: int  # the database's clock when it was last read in this batch, microseconds; 0 before that
    late_until: int  # until when, by the database's clock, a lost write may still arrive there; 0: it cannot
    left: Mapping[str, Head]  # the heads of the sagas that were written, as this batch leaves them; valid after `write`

    async def active(self, *, alone: bool = False) -> dict[str, int]:
        """The version that takes new sagas, by name, for definitions under approval; 0: none. Before everything else.

        It stays so until the transaction ends: who switches (`alone`) waits for those who have asked, and they for it.
        """

    async def lacking(self, sagas: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[str]]:
        """Which running processes have not got these versions, as far as they said lately."""

    async def lock_keys(self, keys: Sequence[EventKey]) -> tuple[list[Waiting], list[EarlyEvent]]:
        """Locks event keys; gives who waits for them and what is kept for them. At most once, before `claim`."""

    async def claim(
        self, sagas: Sequence[str], starts: Sequence[SagaStart], messages: Sequence[MessageId]
    ) -> tuple[dict[str, Head], list[MessageFate]]:
        """Locks the heads in id order (missing sagas are absent), makes heads for starts, writes the inbox, sets now.

        A start takes the live run if it is free and the saga is new. A head at version 0 to which nothing is written
        vanishes with the batch, and so does its live run.
        """

    def presume(
        self, heads: Sequence[Head], starts: Sequence[SagaStart], messages: Sequence[MessageId], now: int
    ) -> tuple[dict[str, Head], list[MessageFate]]:
        """Instead of `claim`, and without asking: these heads stand, the starts and messages are new, it is `now`.

        `write` verifies all of it under the locks and raises PresumedWrongError, with nothing stored, where it is not
        so; also where `now` is ahead of the database's clock, PRESUMED_US behind it, or where something of these sagas
        has become due since. A presumed batch may be committed when `write` returns, so CommitUnknownError may come
        from there. Every start must be written. No event keys.
        """

    async def streams(self, saga_ids: Sequence[str]) -> dict[str, list[StoredRecord]]:
        """The whole streams, in version order."""

    async def write(self, write: BatchWrite) -> None:
        """Appends and writes everything. Raises ConflictError where a head is not at its expected version."""


class Store(Protocol):
    """A database of sagas. Reading methods are for the runtime; queries for people live in `store/queries`."""

    def batch(self) -> AbstractAsyncContextManager[Batch]:
        """Opens one transaction."""

    async def committed(self, appends: Sequence[Append], messages: Sequence[MessageId], late_until: int = 0) -> bool:
        """After CommitUnknownError: did that batch commit? Asked on a new connection until answered for good.

        `late_until`: the batch's own. A "no" is given only once that has passed.
        """

    async def unsent(self, shard: int, shards: int, limit: int) -> list[OutboxRow]:
        """Outbox rows not yet marked sent, in (saga, version) order, of sagas whose hash falls into the shard."""

    async def mark_sent(self, rows: Sequence[tuple[str, int]]) -> None:
        """Marks (saga id, version) as durably on the broker."""

    async def due_timers(self, until: int | None, limit: int) -> list[tuple[str, str, int]]:
        """(saga id, activity, armed) due by the database's clock, and not later than `until`.

        Timers of an attempt whose command is still unsent are moved on instead: the attempt's clock starts at
        publication. The command must have been written by the append that set the timer.
        """

    async def due_resumes(self, limit: int) -> list[str]:
        """Sagas that stopped at the record limit of a turn."""

    async def due_checks(self, limit: int) -> list[Waiting]:
        """Subscriptions whose early events were not looked for yet under the key's lock."""

    async def positions(self, group: str, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        """Next offsets of a group; None where nothing is stored."""

    async def read_until(self, group: str) -> int | None:
        """How far in time intake has read: the minimum over all its partitions (kernel rule 31)."""

    async def register_definition(self, name: str, version: int, hash_: str, data: Any) -> str:
        """Stores a definition; gives the stored hash, which differs where the code was changed under one version."""

    def records(self, after: int, limit: int) -> AsyncIterator[StoredRecord]:
        """Records in safe global order: none can appear later at or before a position already given."""
