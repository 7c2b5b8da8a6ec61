"""The part of a batch that needs no database: items and what was loaded in, one BatchWrite and the outcomes out.

Rules of this file
- No await, no clock, no I/O: what is decided here depends on its arguments alone, so a batch can be decided again.
- One bad saga never fails a batch: what the kernel raises becomes a dead letter of that input, and the rest goes on.
- Keys that this batch has locked are kept up to date while it runs: a wait opened by one item takes the event that an
  earlier item brought, and the other way round. A key that is not locked gets a durable check instead.
- A message is never dropped: it moves a saga, is a duplicate, is kept as early event, or is kept as dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.kernel.api import Turn, advance
from orchestrator.kernel.effects import Subscription
from orchestrator.kernel.inputs import (
    Answer,
    Arrived,
    ChildAnswer,
    Input,
    Parent,
    Refusal,
    Resume,
    SendRefused,
    Start,
    TimerDue,
    UndoAsked,
)
from orchestrator.messages.personal import sealing
from orchestrator.runtime.choosing import absent
from orchestrator.runtime.identity import trace_of
from orchestrator.runtime.letters import KEPT_REFUSALS, answer_flaw, last_lines, letter_of
from orchestrator.runtime.stream import Fixed, Loaded, PoisonError, Stream, append_of, encode, take
from orchestrator.runtime.waits import LockedKeys
from orchestrator.runtime.work import (
    SYSTEM,
    Cause,
    DomainEvent,
    EarlyCheck,
    Item,
    Outcome,
    SagaBegin,
    SagaInput,
    Unprocessable,
    saga_of,
)
from orchestrator.store.contract import (
    BatchWrite,
    DeadLetter,
    EarlyEvent,
    MessageFate,
    Position,
    Waiting,
)


class Turns:
    """Decides one batch. Use once: `run`, then `write`; `cut` where the store cannot take a saga's part."""

    def __init__(self, fixed: Fixed, loaded: Loaded) -> None:
        self._fixed = fixed
        self._catalog = fixed.catalog
        self._loaded = loaded
        self._keys = LockedKeys(loaded.keys, loaded.waiting, loaded.early, loaded.heads, fixed.early_max)
        self._item = 0
        self.streams: dict[str, Stream] = {}
        self.outcomes: list[Outcome] = []
        self.letters: list[tuple[int, DeadLetter]] = []
        self._timers: list[tuple[str, str, int]] = []
        self._resumes: list[str] = []
        self._checks: list[tuple[str, str, str, str]] = []
        self._redriven: list[int] = []

    def run(self, items: Sequence[Item], fates: Mapping[int, MessageFate], first: int = 0, count: int = 0) -> None:
        """Decides `count` items (0: all) from place `first`, in order. `fates`: what the inbox says, by the item's
        place; absent means new."""
        for index in range(first, min(first + count, len(items)) if count else len(items)):
            item = items[index]
            self._item = index
            fate = fates.get(index, "new")
            cause = item.cause
            if cause.redriven:
                self._redriven.append(cause.redriven)
            if fate == "seen":
                outcome = Outcome("duplicate", saga_of(item))
            elif fate == "other_body":
                outcome = self._bury(item, "other_body", f"{cause.causation_id} came before with another body")
            else:
                try:
                    outcome = self._decide(item)
                except PoisonError as error:
                    outcome = self._poisoned(item, error)
                except Exception as error:  # a bug of ours must not stop a partition either
                    outcome = self._poisoned(item, PoisonError(last_lines(error)))
            self.outcomes.append(outcome)

    def write(self, positions: Mapping[Position, tuple[int, int]]) -> BatchWrite:
        """Everything that this batch writes."""
        early, letters = self._keys.kept, [letter for _, letter in self.letters]
        if self._fixed.vault is not None:
            early, letters = self._fixed.vault.seal(early, letters, self._loaded.keys_of)
        return BatchWrite(
            appends=[append_of(s, traces=self._fixed.traces) for s in self.streams.values() if s.records],
            early=early,
            dead_letters=letters,
            positions=positions,
            timers_fired=self._timers,
            resumes_done=self._resumes,
            checks_done=self._checks,
            redriven=self._redriven,
        )

    def cut(self, items: Sequence[Item], saga_ids: Iterable[str], reason: str) -> None:
        """Takes sagas out of the batch; their inputs become dead letters (acts of people fail), the rest stays."""
        for saga_id in saga_ids:
            stream = self.streams.pop(saga_id, None)
            for index in dict.fromkeys(stream.items if stream else ()):
                self._item = index
                self.outcomes[index] = self._poisoned(items[index], PoisonError(reason))

    # --- one item -----------------------------------------------------------------------------------------------------

    def _decide(self, item: Item) -> Outcome:
        if isinstance(item, SagaInput):
            return self._input(item)
        if isinstance(item, DomainEvent):
            return self._event(item)
        if isinstance(item, SagaBegin):
            return self._begin(item)
        if isinstance(item, EarlyCheck):
            return self._check(item)
        assert isinstance(item, Unprocessable)
        self.letters.append((self._item, item.letter))
        return Outcome("dead", reason=item.letter.reason)

    def _input(self, item: SagaInput) -> Outcome:
        given, saga_id = item.given, item.saga_id
        # These rows have done their work whatever comes of it: a stale timer, an ended saga, even a poisoned one.
        if isinstance(given, TimerDue):
            self._timers.append((saga_id, given.activity, given.armed))
        elif isinstance(given, Resume):
            self._resumes.append(saga_id)
        stream = self._open(saga_id)
        if stream is None:
            return self._nobody(item)
        if item.cause.actor == SYSTEM:
            item.cause.tenant = stream.head.tenant
        elif item.cause.tenant != stream.head.tenant:
            return self._nobody(item)  # whoever asks from outside does not learn that another tenant has it
        if item.cause.guard is not None:
            refusal = item.cause.guard(given, saga_id, stream.head.tenant, stream.state)
            if refusal is not None:
                return Outcome("refused", saga_id, stream.version, refusal=refusal)
        if isinstance(given, Answer):
            assert stream.state is not None
            flaw = answer_flaw(stream.program, stream.state, given, item.reply_type)
            if flaw is not None:
                return self._bury(item, *flaw)
        return self._outcome(item, stream, self._advance(stream, given, item.cause))

    def _nobody(self, item: SagaInput) -> Outcome:
        text = f"there is no saga {item.saga_id}"
        if isinstance(item.given, TimerDue | Resume | SendRefused):
            return Outcome("nothing", item.saga_id)
        if item.cause.raw is None:
            return Outcome("refused", item.saga_id, refusal=Refusal("not_found", text))
        return self._bury(item, "unknown_saga", text)

    def _begin(self, item: SagaBegin) -> Outcome:
        start, given = item.start, item.given
        if item.cause.guard is not None:
            refusal = item.cause.guard(given, start.saga_id, start.tenant, None)
            if refusal is not None:
                return Outcome("refused", start.saga_id, refusal=refusal)
        parent: Parent | None = given.parent
        if parent is not None and not self._is_there(parent.saga_id, item.cause.tenant):
            # A parent is committed before it calls: what names none would run for nobody, and answer nobody.
            return self._refuse_begin(item, "unknown_saga", f"{start.name} is to be a child of {parent.saga_id}")
        stream = self._open(start.saga_id, item)
        if stream is None:
            return self._refuse_begin(item, *absent(start.name, item.definition_version))
        owner = stream.head.run_owner
        taken = owner is not None and owner != start.saga_id
        if stream.version == 0 and taken and isinstance(given, Start):
            detail = f"saga {start.name} already runs for {start.business_key}: {owner}"
            return self._refuse_begin(item, "already_running", detail)
        return self._outcome(item, stream, self._advance(stream, given, item.cause))

    def _is_there(self, saga_id: str, tenant: str) -> bool:
        head = self._loaded.heads.get(saga_id)
        return head is not None and head.version > 0 and head.tenant == tenant

    def _refuse_begin(self, item: SagaBegin, code: str, detail: str) -> Outcome:
        """A start that cannot be: the parent hears of it in this very transaction, anybody else's start is kept."""
        parent: Parent | None = item.given.parent
        stream = self._open(parent.saga_id) if parent is not None else None
        ours = stream is not None and stream.head.tenant == item.cause.tenant
        if stream is not None and ours and parent is not None and isinstance(item.given, Start):
            answer = ChildAnswer(parent.activity, parent.round, "refused", reason=code)
            turn = self._advance(stream, answer, item.cause)
            return Outcome("refused", parent.saga_id, stream.version, turn.records, Refusal(code, detail))
        if item.cause.raw is not None:
            return self._bury(item, code, detail)
        return Outcome("refused", item.start.saga_id, refusal=Refusal(code, detail))

    def _event(self, item: DomainEvent) -> Outcome:
        event, cause = item.event, item.cause
        self._loaded.check_event(event.event_id)
        outcome: Outcome | None = None
        poison: PoisonError | None = None
        begun = set()
        for begin in item.begins:
            try:
                started = self._begun(begin, event)
            except PoisonError as error:
                poison = error
                continue
            if started.fate == "applied":
                begun.add(begin.start.saga_id)
            if outcome is None or started.fate == "applied":
                outcome = started
        if not item.awaited:
            return self._poisoned(item, poison) if poison is not None else outcome or Outcome("nothing")
        key = (cause.tenant, event.type, event.key)
        taken_by: set[str] = set()
        for saga_id in self._keys.waiting(key):
            if saga_id in begun:
                continue  # a saga does not wait for the event that started it
            try:
                delivered = self._deliver(saga_id, event, cause)
            except PoisonError as error:
                poison = error
                continue
            if delivered is not None:
                taken_by.add(self.streams[saga_id].head.name)
                if outcome is None or outcome.fate != "applied":
                    outcome = delivered
        if poison is None and not self._catalog.routes.may_want_more(event.type, taken_by):
            return outcome or Outcome("nothing")
        # Kept also where a saga choked on it: driven again, it then still knows who has taken it.
        kept = self._keys.keep(
            EarlyEvent(
                cause.tenant, event.type, event.key, event.event_id, event.data, event.arrived_at, cause.traceparent
            )
        )
        if poison is not None:
            return self._poisoned(item, poison)
        if not kept:
            return self._bury(item, "too_many_early", f"{event.type}: more events wait for one key than are kept")
        return outcome if outcome is not None and outcome.fate != "nothing" else Outcome("early")

    def _begun(self, begin: SagaBegin, event: Arrived) -> Outcome:
        """Starts a saga by an event. Where the saga also waits for such events, the first one starts a run and the next
        ones are for its waits; the one that started it counts as taken."""
        start = begin.start
        if start.name not in self._catalog.routes.awaiters.get(event.type, ()):
            return self._begin(begin)
        head, stream = self._loaded.heads.get(start.saga_id), self.streams.get(start.saga_id)
        there = (stream is not None and stream.version) or (head is not None and head.version)
        if there or (head is not None and head.run_owner not in (None, start.saga_id)):
            return Outcome("nothing", start.saga_id)
        started = self._begin(begin)
        stream = self.streams.get(start.saga_id)
        if started.fate == "applied" and stream is not None:
            stream.effects[-1].consumed.append(event.event_id)
            self._keys.consumed(stream.head, event.event_id)
        return started

    def _deliver(self, saga_id: str, event: Arrived, cause: Cause) -> Outcome | None:
        """Gives an event to one waiting saga; None where it did not take it."""
        stream = self._open(saga_id)
        if stream is None or self._keys.has_taken(stream.head, event.event_id):
            return None
        turn = self._advance(stream, event, cause)
        if event.event_id not in turn.effects.consumed:
            return None
        return Outcome("applied", saga_id, stream.version, turn.records)

    def _check(self, item: EarlyCheck) -> Outcome:
        waiting = item.waiting
        stream = self._open(waiting.saga_id)
        if stream is None:
            self._checks.append((waiting.saga_id, waiting.activity, waiting.type, waiting.key))
            return Outcome("nothing", waiting.saga_id)
        before = len(stream.records)
        wanted = Subscription(waiting.activity, waiting.type, waiting.key, waiting.accepts_from)
        self._take_early(stream, [wanted])
        fate = "applied" if len(stream.records) > before else "nothing"
        return Outcome(fate, waiting.saga_id, stream.version)  # type: ignore[arg-type]

    # --- one turn -----------------------------------------------------------------------------------------------------

    def _advance(self, stream: Stream, given: Input, cause: Cause) -> Turn:
        """One turn of the kernel, and the early events that what it opened can take. Raises PoisonError."""
        turn = self._turn(stream, given, cause)
        if self._keys and (turn.effects.waits_opened or turn.effects.waits_closed):
            opened = self._keys.apply(stream.head.tenant, stream.head.saga_id, turn.effects)
            self._take_early(stream, opened)
        return turn

    def _take_early(self, stream: Stream, opened: list[Subscription]) -> None:
        """Early events for subscriptions whose key is locked; what they open in turn is looked at too."""
        head = stream.head
        for _ in range(self._fixed.inputs_max):
            if not opened:
                return
            wanted = opened[0]
            found = self._keys.early_for(head, wanted)
            if found is None:
                del opened[0]
                self._checks.append((head.saga_id, wanted.activity, wanted.type, wanted.key))
                continue
            self._keys.offered(head, found)
            event = Arrived(found.type, found.key, found.data, found.event_id, found.arrived_at)
            cause = Cause(head.tenant, causation_id=found.event_id.rpartition("\n")[2], traceparent=found.traceparent)
            try:
                self._loaded.check_event(event.event_id)
                turn = self._turn(stream, event, cause)
            except PoisonError as error:
                # The event stays kept; what led here has been decided already and stands.
                waiting = Waiting(head.saga_id, wanted.activity, wanted.type, wanted.key, wanted.accepts_from)
                letter = letter_of(cause, error.reason, str(error), EarlyCheck(waiting, cause))
                self.letters.append((self._item, letter))
                continue
            opened += self._keys.apply(head.tenant, head.saga_id, turn.effects)

    def _turn(self, stream: Stream, given: Input, cause: Cause) -> Turn:
        head = stream.head
        now = max(head.recorded_at, self._loaded.now)
        try:
            child = (head.saga_id, head.tenant, head.business_key) if isinstance(given, UndoAsked) else None
            if stream.sealer is not None and self._fixed.vault is not None:
                self._fixed.vault.note_input(stream.sealer, stream.program, given, cause.opened)
            with sealing(stream.sealer):
                turn = advance(stream.program, stream.state, given, now, self._fixed.limits, child=child)
            outgoing = turn.effects.outbox
            rows, refused = encode(self._fixed.encoder, stream, outgoing, cause, now) if outgoing else ([], [])
        except Exception as error:
            raise PoisonError(last_lines(error)) from error
        if turn.records:
            take(stream, turn, cause, rows, self._item)
            for event_id in turn.effects.consumed:
                self._keys.consumed(head, event_id)
        for row in refused:
            self._turn(stream, row, cause)
        return turn

    def _open(self, saga_id: str, begin: SagaBegin | None = None) -> Stream | None:
        """The stream of a saga in this batch; None where nothing is written yet (unless it begins now and may)."""
        if (stream := self.streams.get(saga_id)) is not None:
            return stream
        loaded = self._loaded
        head = loaded.heads.get(saga_id)
        if head is None:
            return None
        loaded.check_saga(saga_id)
        if head.version == 0:
            if begin is None:
                return None
            program = self._catalog.program_for(head.name, begin.definition_version)
            if program is None:
                return None
            stream = Stream(head, program, None, 0, trace_of(begin.cause.traceparent, saga_id, self._fixed.sampler))
        else:
            entry = loaded.entries[saga_id]
            installed = self._catalog.program(head.name, head.definition_version)
            if installed is None:
                raise PoisonError(f"saga {head.name} v{head.definition_version} is not installed here", "not_installed")
            stream = Stream(head, installed, entry.state, head.version, entry.trace, entry.foreign)
        if loaded.keys_of is not None:
            stream.vault, stream.sealer = True, loaded.keys_of.sagas.get(saga_id)
        self.streams[saga_id] = stream
        return stream

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def _outcome(self, item: SagaInput | SagaBegin, stream: Stream, turn: Turn) -> Outcome:
        saga_id = stream.head.saga_id
        refusal = turn.refusal
        if turn.records:  # a refusal may have left its own record: somebody asked, and was told no
            return Outcome("applied", saga_id, stream.version, turn.records, refusal)
        if refusal is None:
            return Outcome("nothing", saga_id, stream.version)
        if item.cause.raw is not None and refusal.code in KEPT_REFUSALS:
            return self._bury(item, KEPT_REFUSALS[refusal.code], refusal.text)
        return Outcome("refused", saga_id, stream.version, refusal=refusal)

    def _bury(self, item: Item, reason: str, detail: str) -> Outcome:
        self.letters.append((self._item, letter_of(item.cause, reason, detail, item)))
        return Outcome("dead", saga_of(item), reason=reason)

    def _poisoned(self, item: Item, error: PoisonError) -> Outcome:
        text = str(error)
        # A person who acted gets the answer; everything else would be lost without a letter.
        by_hand = isinstance(item, SagaInput | SagaBegin) and item.cause.raw is None
        internal = isinstance(item, SagaInput) and isinstance(item.given, TimerDue | Resume)
        if not by_hand or internal:
            self.letters.append((self._item, letter_of(item.cause, error.reason, text, item)))
        return Outcome("failed", saga_of(item), reason=text)
