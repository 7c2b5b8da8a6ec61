"""The coordinator: one transaction per batch, whoever brings it.

Rules of this file
- Messages, timers, people's acts, resumes and checks all go through `process`; nothing else writes a stream.
- Order inside the transaction: event keys, heads and inbox, streams that are not in memory, decide, write, commit. What
  is told to others (relay, hints, cache) is told after the commit, and in one step with it.
- A conflict decides the batch again with fresh states. An unknown commit is asked for, never assumed. A saga that the
  kernel or the store cannot take is cut out with a dead letter, and the others go on.
- When the database is away, `process` raises StoreError and has changed nothing: the caller comes again with the batch.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from orchestrator.kernel.inputs import TimerDue
from orchestrator.logs import about
from orchestrator.runtime.choosing import SwitchError, asked_for, chooses, chosen, guarded, switches
from orchestrator.runtime.folds import fold_streams
from orchestrator.runtime.hints import Hints
from orchestrator.runtime.letters import letter_of, told, trace_of
from orchestrator.runtime.states import Entry, StateCache
from orchestrator.runtime.stream import Fixed, Loaded, Stream
from orchestrator.runtime.turns import Turns
from orchestrator.runtime.work import DomainEvent, EarlyCheck, Item, Outcome, SagaBegin, SagaInput, Unprocessable
from orchestrator.store.contract import (
    Batch,
    BatchWrite,
    CommitUnknownError,
    ConflictError,
    EventKey,
    Head,
    InvalidAppendError,
    MessageFate,
    MessageId,
    OutboxRow,
    Position,
    PresumedWrongError,
    SagaStart,
    Store,
    StoreError,
    StoreUnavailableError,
)
from orchestrator.vault.sealer import Person

Ends = Mapping[Position, tuple[int, int]]  # how far a batch brings its partitions
NO_POSITIONS: Ends = {}
DECIDE_ITEMS_SLICE = 100  # the same: some 10 ms
PRESUMED_MAX = 50  # sagas and messages: in a larger batch asking is a small part of the price, and one wrong guess dear
LETTERS_TOLD = 5  # dead letters of one batch with a line of their own in the log; all of them are kept
ASK_BATCHES = 10  # after a presumption that was wrong: others work on the same sagas, or messages come again

log = structlog.get_logger("orchestrator.coordinator")


class Outlet(Protocol):
    """Where committed messages go; the relay."""

    def accept(self, saga_id: str, rows: Sequence[OutboxRow], foreign: bool) -> None:
        """Takes rows of one saga right after their commit."""


class Observer(Protocol):
    """Who counts what was committed. It must not raise."""

    def committed(
        self, streams: Mapping[str, Stream], write: BatchWrite, left: Mapping[str, Head], inputs: int
    ) -> None:
        """One batch right after its commit; `left`: the heads as it left them."""


class Coordinator:
    """Advances sagas. One per process; `process` may run several times side by side."""

    def __init__(
        self,
        store: Store,
        fixed: Fixed,
        hints: Hints,
        *,
        tenants: Iterable[str],
        cache_sagas_max: int,
        conflict_retries_max: int,
    ) -> None:
        self._store = store
        self._fixed = fixed
        self._hints = hints
        self._tenants = tuple(tenants)
        self._retries_max = conflict_retries_max
        self.outlet: Outlet | None = None  # set where a relay runs in this process
        self.observer: Observer | None = None
        self.cache = StateCache(cache_sagas_max)
        self._asking = 0  # batches that are still to ask before anything is presumed again
        self.counts: Counter[str] = Counter()  # batches, records, messages, conflicts, unknown_commits, fates, reasons

    async def process(self, items: Sequence[Item], positions: Ends = NO_POSITIONS) -> list[Outcome]:
        """Decides and commits a batch; one outcome per item, in order. `positions`: how far it brings intake.

        Raises StoreError when the database cannot do it now; then nothing is stored.
        """
        given_up: dict[str, str] = {}
        attempt, switching = 0, False
        while True:
            attempt += 1
            try:
                outcomes = await self._attempt(items, positions, given_up, switching=switching)
            except SwitchError:
                if len(items) > 1 and chooses(self._fixed.catalog, items):  # one batch is on one side of a switch
                    return await self._halved(items, positions)
                attempt, switching = attempt - 1, True
                continue
            except PresumedWrongError:
                attempt -= 1  # nobody was there first: it was only not asked for
                self.counts["presumed_wrong"] += 1
                self._asking = ASK_BATCHES
                continue
            except ConflictError as error:
                self.counts["conflicts"] += 1
                for saga_id in error.sagas or self._sagas_of(items):
                    self.cache.drop(saga_id)
                    if attempt >= self._retries_max:
                        given_up[saga_id] = f"decided {attempt} times, and each time: {error}"
                if attempt > 2 * self._retries_max:
                    return await self._apart(items, positions, error)
                continue
            except StoreUnavailableError:
                # The next connection may reach a server that was restored to an earlier day.
                self.cache.clear()
                raise
            except StoreError as error:
                if error.retriable:
                    raise
                return await self._apart(items, positions, error)
            if outcomes is not None:
                return outcomes

    async def _halved(self, items: Sequence[Item], positions: Ends) -> list[Outcome]:
        half = len(items) // 2
        # Positions go with the last part: a crash in between costs duplicates, which the inbox knows.
        return await self.process(items[:half]) + await self.process(items[half:], positions)

    async def _apart(self, items: Sequence[Item], positions: Ends, error: StoreError) -> list[Outcome]:
        """The store cannot take this batch, and trying again does not help: it is halved until the culprit is alone."""
        self.counts["taken_apart"] += 1
        if len(items) > 1:
            return await self._halved(items, positions)
        if not items:
            raise error
        (item,) = items
        saga_id = next(iter(self._sagas_of(items)), "")
        log.error("the store cannot take an input", error=str(error), **about(saga_id, item.cause.traceparent))
        given_up = dict.fromkeys(self._sagas_of(items), f"the store cannot take it: {error}")
        if given_up and not isinstance(item, DomainEvent):
            outcomes = await self._attempt(items, positions, given_up)
        else:
            letter = letter_of(item.cause, "poison", str(error), item)
            outcomes = await self._attempt([Unprocessable(letter, item.cause)], positions, {})
        if outcomes is None:
            raise error
        return outcomes

    async def _attempt(
        self, items: Sequence[Item], positions: Ends, given_up: Mapping[str, str], *, switching: bool = False
    ) -> list[Outcome] | None:
        """One transaction. None: its commit is known not to have happened. Raises SwitchError where it makes a version
        active and has not waited alone for that (`switching`)."""
        write, turns, used = BatchWrite(), None, None
        messages: list[MessageId] = []
        try:
            async with self._store.batch() as batch:
                used = batch
                choosing = switching or chooses(self._fixed.catalog, items)
                if choosing:
                    items = chosen(self._fixed.catalog, items, await batch.active(alone=switching))
                loaded, fates, messages = await self._load(batch, items, given_up, ask=choosing)
                if switching:
                    items = guarded(self._fixed.catalog, items, await batch.lacking(asked_for(loaded.entries)))
                vault = self._fixed.vault
                if vault is not None:
                    keys_of = await vault.prepare(items, loaded.heads, loaded.entries)
                    early = await vault.open_early(loaded.early, keys_of)
                    standing = {**loaded.standing, **keys_of.broken}
                    loaded = replace(loaded, early=early, keys_of=keys_of, standing=standing)
                turns = Turns(self._fixed, loaded)
                for first in range(0, len(items), DECIDE_ITEMS_SLICE):
                    if first:
                        await asyncio.sleep(0)  # heartbeats and people's requests share this event loop
                    turns.run(items, fates, first, DECIDE_ITEMS_SLICE)
                write = self._written(turns, positions, switching=switching)
                while True:
                    try:
                        await batch.write(write)
                        break
                    except InvalidAppendError as error:
                        if not error.sagas:
                            raise
                        turns.cut(items, error.sagas, str(error))
                        write = self._written(turns, positions, switching=switching)
        except CommitUnknownError as error:
            self.counts["unknown_commits"] += 1
            # The database may have been restored or replaced meanwhile: nothing in memory is to be believed.
            self.cache.clear()
            log.warning("commit unknown, asking the database", error=str(error), sagas=len(write.appends))
            if not await self._store.committed(write.appends, messages, used.late_until if used is not None else 0):
                return None
        assert turns is not None
        assert used is not None
        self._hints.clock.observe(used.clock)
        self._committed(turns, write, used.left)
        return turns.outcomes

    @staticmethod
    def _written(turns: Turns, positions: Ends, *, switching: bool) -> BatchWrite:
        found = switches(turns.streams)
        if found and not switching:
            raise SwitchError
        write = turns.write(positions)
        return replace(write, switches=found) if found else write

    # --- before ---------------------------------------------------------------------------------------------------

    async def _load(
        self, batch: Batch, items: Sequence[Item], given_up: Mapping[str, str], *, ask: bool
    ) -> tuple[Loaded, dict[int, MessageFate], list[MessageId]]:
        """Locks and reads what the items need: keys, then heads and inbox, then the streams that are not in memory.

        Where all of it is in memory, nothing is asked: the write verifies it. `ask`: something was asked already.
        """
        wanted = _Wanted(self._fixed, self._tenants)
        for index, item in enumerate(items):
            wanted.add(index, item)
        presumed = None if given_up or ask else self._presume(batch, wanted)
        if presumed is not None:
            return presumed
        keys = frozenset(wanted.keys)
        waiting, early = await batch.lock_keys(sorted(keys)) if keys else ([], [])
        sagas = wanted.sagas | {wait.saga_id for wait in waiting}
        heads, fates = await batch.claim(list(sagas), wanted.starts, wanted.messages)
        self._hints.clock.observe(batch.now)
        fate_of = dict(zip(wanted.message_items, fates, strict=True))
        entries: dict[str, Entry] = {}
        missing: list[Head] = []
        for saga_id, head in heads.items():
            if head.version:
                entry = self.cache.get(head)
                if entry is None:
                    missing.append(head)
                else:
                    entries[saga_id] = entry
        broken, standing = dict(given_up), dict[str, str]()
        if missing:
            streams = await batch.streams([head.saga_id for head in missing])
            persons: Mapping[str, Person] = {}
            if self._fixed.vault is not None:
                streams, persons, closed, standing = await self._fixed.vault.open_streams(streams)
                broken.update(closed)
            await fold_streams(missing, streams, entries, broken, self._fixed.sampler)
            for saga_id, person in persons.items():
                if saga_id in entries:
                    entries[saga_id].person = person
        new = [message for message, fate in zip(wanted.messages, fates, strict=True) if fate == "new"]
        loaded = Loaded(batch.now, heads, entries, broken, keys, waiting, early, standing=standing)
        return loaded, fate_of, new

    def _presume(self, batch: Batch, wanted: _Wanted) -> tuple[Loaded, dict[int, MessageFate], list[MessageId]] | None:
        """A small batch decided from memory; None where something has to be asked for."""
        if self._asking:
            self._asking -= 1
            return None
        clock = self._hints.clock
        if not (clock.known and wanted.small and wanted.plain):
            return None
        entries = self.cache.believed(wanted.sagas)
        if entries is None:
            return None
        heads, fates = batch.presume([e.head for e in entries.values()], wanted.starts, wanted.messages, clock.now())
        new = [message for message, fate in zip(wanted.messages, fates, strict=True) if fate == "new"]
        self.counts["presumed"] += 1
        return Loaded(batch.now, heads, entries), dict(zip(wanted.message_items, fates, strict=True)), new

    # --- after ----------------------------------------------------------------------------------------------------

    def _committed(self, turns: Turns, write: BatchWrite, left: Mapping[str, Head]) -> None:
        """Tells cache, relay and loops. No await here: who sees the new state in memory also sees its messages sent."""
        hints, counts = self._hints, self.counts
        earliest = 0
        done = set(write.checks_done)
        for append in write.appends:
            stream = turns.streams[append.saga_id]
            assert stream.state is not None
            counts["records"] += len(append.records)
            if append.outbox and self.outlet is not None:
                self.outlet.accept(append.saga_id, append.outbox, stream.foreign)
            if append.ended:
                self.cache.drop(append.saga_id)  # hardly anything comes any more, and memory is for the living
            else:
                # Once a foreign saga's rows went by way of the table, the relay knows it and keeps the order.
                foreign = stream.foreign and not append.outbox
                person = stream.sealer.person if stream.sealer is not None else None
                self.cache.put(append.saga_id, Entry(stream.state, left[append.saga_id], stream.trace, foreign, person))
            effects = append.effects
            for timer in effects.timers_set:
                if not earliest or timer.due < earliest:
                    earliest = timer.due
            if effects.waits_opened and not done.issuperset(
                [(append.saga_id, wait.activity, wait.type, wait.key) for wait in effects.waits_opened]
            ):
                hints.checks.give()
            if effects.resume:
                hints.resumes.give()
        if earliest:
            hints.timer_set(earliest)
        counts["batches"] += 1
        counts["inputs"] += len(turns.outcomes)
        if self.observer is not None:
            self.observer.committed(turns.streams, write, left, len(turns.outcomes))
        if write.dead_letters:
            reasons = Counter(letter.reason for letter in write.dead_letters)
            counts.update({f"dead_{reason}": count for reason, count in reasons.items()})
            log.warning("dead letters kept", **reasons)
            for item, letter in turns.letters[:LETTERS_TOLD]:
                log.warning("a dead letter", **told(letter), **about(turns.outcomes[item].saga_id, trace_of(letter)))

    @staticmethod
    def _sagas_of(items: Sequence[Item]) -> list[str]:
        found = []
        for item in items:
            if isinstance(item, SagaInput):
                found.append(item.saga_id)
            elif isinstance(item, SagaBegin):
                found.append(item.start.saga_id)
            elif isinstance(item, DomainEvent):
                found += [begin.start.saga_id for begin in item.begins]
            elif isinstance(item, EarlyCheck):
                found.append(item.waiting.saga_id)
        return found


class _Wanted:
    """What a batch has to lock and to look up."""

    def __init__(self, fixed: Fixed, tenants: tuple[str, ...]) -> None:
        self._own_key = fixed.catalog.routes.own_key
        self._tenants = tenants
        self.keys: set[EventKey] = set()
        self.sagas: set[str] = set()
        self.starts: list[SagaStart] = []
        self.messages: list[MessageId] = []
        self.message_items: list[int] = []
        self._timed = False  # something that is due by the database's clock

    @property
    def plain(self) -> bool:
        """Nothing in it has to be asked for, but sagas: no event keys, nothing that only the clock decides, no two
        starts that could be one."""
        runs = {(start.tenant, start.name, start.business_key) for start in self.starts}
        return not self.keys and not self._timed and len(runs) == len(self.starts)

    @property
    def small(self) -> bool:
        """Few enough for one call (ADR 10)."""
        return len(self.sagas) + len(self.starts) <= PRESUMED_MAX and len(self.messages) <= PRESUMED_MAX

    def add(self, index: int, item: Item) -> None:
        """Takes one item in."""
        message = item.cause.message
        if message is not None:
            self.messages.append(message)
            self.message_items.append(index)
        if isinstance(item, SagaInput):
            self.sagas.add(item.saga_id)
            self._timed = self._timed or isinstance(item.given, TimerDue)
        elif isinstance(item, DomainEvent):
            if item.awaited:
                self.keys.add((item.cause.tenant, item.event.type, item.event.key))
            for begin in item.begins:
                self._begin(begin)
        elif isinstance(item, SagaBegin):
            self._begin(item)
        elif isinstance(item, EarlyCheck):
            waiting = item.waiting
            self.sagas.add(waiting.saga_id)
            # A subscription does not name its tenant, and the saga is not read yet: tenants are few: lock for all.
            self.keys.update((tenant, waiting.type, waiting.key) for tenant in self._tenants)

    def _begin(self, begin: SagaBegin) -> None:
        start = begin.start
        self.starts.append(start)
        parent = begin.given.parent
        if parent is not None:
            self.sagas.add(parent.saga_id)  # it hears in this transaction where its child may not start
        # Waits that open in the very first turn then take early events without a later check.
        for type_ in self._own_key.get(start.name, ()):
            self.keys.add((start.tenant, type_, start.business_key))
