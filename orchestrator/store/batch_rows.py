"""What a batch writes, as columns: one list per column and table.

Rules of this file
- No database here. `Rows` checks and seals everything when it is made, so that errors come before the first statement.
- Effects are net: what is cleared or closed comes first, what is set or opened then stands.
- Building rows is on the hot path (two records, one message, two timers an input): plain loops over plain lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from orchestrator.messages.canonical import NotCanonicalError, canonical_bytes
from orchestrator.store.chain import data_bytes, seal
from orchestrator.store.columns import BATCH_RECORDS_MAX, SEQ_BITS, slot, texts
from orchestrator.store.contract import Append, BatchWrite, ConflictError, Head, InvalidAppendError
from orchestrator.store.headers import pack

# Tables that rows are only added to: by COPY, column by column in this order.
COPIED = {
    "inbox": ("key", "body_hash", "received_at"),
    "records_stored": ("seq", "version", "saga_id", "tenant", "hash", "body"),
    "outbox": ("seq", "written_at", "version", "saga_id", "topic", "key", "headers", "value"),
    "outbox_unsent": ("seq", "written_at", "slot"),
    "timers": ("saga_id", "activity", "due", "period", "armed", "command_seq"),
}

Statement = tuple[str, Sequence[Any]]  # a query or a table of COPIED, and its columns


class Rows:
    """The statements of one batch. `now`: microseconds; `number`: the batch's number.

    Raises ConflictError for sagas that are not at their expected version, InvalidAppendError for those that cannot be
    stored; both name all the sagas concerned.
    """

    def __init__(self, write: BatchWrite, heads: Mapping[str, Head], now: int, number: int) -> None:
        self.numbers: dict[tuple[str, int], int] = {}  # seq by (saga, version) of the messages among the statements
        self.left: dict[str, Head] = {}  # the heads as the statements leave them
        self._write = write
        self._heads = heads
        self._now = now
        self._base = number << SEQ_BITS
        self._number = number
        self._appends = [append for append in write.appends if append.records]
        _refuse_doubles(write.appends)
        _refuse_conflicts(write.appends, heads)
        self._data = [_bytes_of(a.saga_id, [record.data for record in a.records], data_bytes) for a in self._appends]
        if self.records > BATCH_RECORDS_MAX:
            raise InvalidAppendError(f"a batch holds at most {BATCH_RECORDS_MAX} records: split it")
        self._tasks_data = _tasks_data(write.appends)
        self._early_data = _bytes_of("", [event.data for event in write.early], canonical_bytes)

    @property
    def records(self) -> int:
        """How many records are added."""
        return sum(map(len, self._data))

    @property
    def sagas(self) -> int:
        """How many sagas get records."""
        return len(self._appends)

    def statements(self) -> Iterator[Statement]:
        """Name and columns of each statement that has something to write, in the order to run them.

        Whoever runs them asks for the next one while the server works on the last. So what is dear to build here stands
        behind what is dear to do there: records behind the timers that go, messages behind the heads.
        """
        yield from self._timers_gone()
        last_hashes: list[str] = []
        records: Sequence[Any] = ((),)
        if self._appends:
            records = self._sealed(last_hashes)
            yield "records_stored", records
            yield "advance_heads", self._advanced(last_hashes)
        yield from self._outbox()
        yield from self._timers_set()
        if self._appends:
            yield "announce_batch", (self._number, len(records[0]))
            places = self._traced()
            if places:
                yield "trace_batch", (self._number, places)
        yield from self._runs_and_resumes()
        yield from self._waits()
        yield from self._tasks()
        yield from self._messages()

    def _sealed(self, last_hashes: list[str]) -> Sequence[Any]:
        versions: list[int] = []
        saga_ids: list[str] = []
        tenants: list[str] = []
        hashes: list[bytes] = []
        bodies: list[bytes] = []
        for append, data in zip(self._appends, self._data, strict=True):
            head = self._heads[append.saga_id]
            recorded_at = max(head.recorded_at, self._now)
            sealed, digests = seal(
                append.records,
                data,
                tenant=append.tenant,
                saga_id=append.saga_id,
                version=head.version,
                previous=head.hash,
                recorded_at=recorded_at,
            )
            count = len(sealed)
            self.left[append.saga_id] = Head(
                head.saga_id, head.tenant, head.name, append.definition_version, head.business_key,
                head.version + count, digests[-1], recorded_at, append.ended,
            )  # fmt: skip
            bodies += sealed
            hashes += digests
            versions += range(head.version + 1, head.version + count + 1)
            saga_ids += repeat(append.saga_id, count)
            tenants += repeat(append.tenant, count)
            last_hashes.append(digests[-1].hex())
        return range(self._base, self._base + len(versions)), versions, saga_ids, tenants, hashes, bodies

    def _traced(self) -> list[int]:
        """Where in the batch records of sampled sagas lie: pairs of first and last place."""
        places: list[int] = []
        first = 0
        for append in self._appends:
            after = first + len(append.records)
            if append.traced:
                if places and places[-1] == first - 1:
                    places[-1] = after - 1
                else:
                    places += (first, after - 1)
            first = after
        return places

    def _advanced(self, last_hashes: list[str]) -> Sequence[Any]:
        appends = self._appends
        return (
            [append.saga_id for append in appends],
            [append.expected_version + len(append.records) for append in appends],
            [append.definition_version for append in appends],
            last_hashes,
            [append.phase for append in appends],
            texts([append.outcome for append in appends]),
            [append.stuck for append in appends],
            texts([append.waiting_for for append in appends]),
            [append.ended for append in appends],
            [append.parent for append in appends],
            self._now,
        )

    def _outbox(self) -> Iterator[Statement]:
        rows = [row for append in self._write.appends for row in append.outbox]
        if rows:
            numbers, now = range(self._base, self._base + len(rows)), repeat(self._now, len(rows))
            saga_ids = [row.saga_id for row in rows]
            self.numbers = {(row.saga_id, row.version): seq for row, seq in zip(rows, numbers, strict=True)}
            yield "outbox_unsent", (numbers, now, map(slot, saga_ids))
            yield (
                "outbox",
                (
                    numbers,
                    repeat(self._now, len(rows)),
                    [row.version for row in rows],
                    saga_ids,
                    [row.topic for row in rows],
                    texts([row.key for row in rows]),
                    [pack(row.headers) for row in rows],
                    [row.value for row in rows],
                ),
            )

    def _timers_gone(self) -> Iterator[Statement]:
        """All that go are deleted, then all that come are added: cheaper than an upsert."""
        gone: dict[tuple[str, str], int] = {(saga_id, name): armed for saga_id, name, armed in self._write.timers_fired}
        for append in self._write.appends:
            for activity in append.effects.timers_cleared:
                gone[append.saga_id, activity] = 0
            for timer in append.effects.timers_set:
                gone[append.saga_id, timer.activity] = 0
        if gone:
            yield "clear_timers", ([key[0] for key in gone], texts([key[1] for key in gone]), list(gone.values()))

    def _timers_set(self) -> Iterator[Statement]:
        rows: dict[tuple[str, str], tuple[str, str, int, int, int, int]] = {}
        seq = self._base
        for append in self._write.appends:
            for timer in append.effects.timers_set:
                command_seq = 0
                if timer.command_version:
                    versions = [row.version for row in append.outbox]
                    if timer.command_version in versions:
                        command_seq = seq + versions.index(timer.command_version)
                period = max(timer.due - self._now, 0)
                row = (append.saga_id, timer.activity, timer.due, period, timer.armed, command_seq)
                rows[append.saga_id, timer.activity] = row
            seq += len(append.outbox)
        if rows:
            yield "timers", list(zip(*rows.values(), strict=True))

    def _runs_and_resumes(self) -> Iterator[Statement]:
        ended = [(a.tenant, a.name, a.business_key, a.saga_id) for a in self._write.appends if a.ended]
        if ended:
            yield "free_runs", _text_columns(ended)
        resumes = [append.saga_id for append in self._write.appends if append.effects.resume]
        done = sorted(set(self._write.resumes_done))
        if done:
            yield "clear_resumes", (done,)
        if resumes:
            yield "set_resumes", (resumes, self._now)

    def _waits(self) -> Iterator[Statement]:
        appends = self._write.appends
        closed = [(append.saga_id, activity) for append in appends for activity in append.effects.waits_closed]
        opened = {
            (append.tenant, wait.type, wait.key, append.saga_id, wait.activity): wait.accepts_from
            for append in appends
            for wait in append.effects.waits_opened
        }
        consumed = [
            (a.tenant, event_id, a.name, a.business_key, a.saga_id) for a in appends for event_id in a.effects.consumed
        ]
        if self._write.checks_done:
            yield "checks_done", _text_columns(self._write.checks_done)
        # A wait that opens anew has no older subscriptions, also none of another key; a new saga has none at all.
        new = {append.saga_id for append in appends if not append.expected_version}
        closed += dict.fromkeys((saga_id, name) for _, _, _, saga_id, name in opened if saga_id not in new)
        if closed:
            yield "close_waits", _text_columns(closed)
        if opened:
            done = set(self._write.checks_done)
            unchecked = [(saga_id, name, type_, key) not in done for _, type_, key, saga_id, name in opened]
            yield "open_waits", (*_text_columns(list(opened)), list(opened.values()), self._now, unchecked)
        if consumed:
            yield "consume", (*_text_columns(consumed), self._now)

    def _tasks(self) -> Iterator[Statement]:
        appends = self._write.appends
        closed = {
            (append.saga_id, activity): how for append in appends for activity, how in append.effects.tasks_closed
        }
        opened = {(a.saga_id, task.activity): (a.tenant, task) for a in appends for task in a.effects.tasks_open}
        if not closed and not opened:
            return
        yield "drop_candidates", _text_columns([*closed, *opened])
        if closed:
            yield "close_tasks", (*_text_columns([(*key, how) for key, how in closed.items()]), self._now)
        if opened:
            rows = [(key, tenant, task) for key, (tenant, task) in opened.items()]
            yield (
                "open_tasks",
                (
                    [task.due for _, _, task in rows],
                    *_text_columns([(*key, tenant) for key, tenant, _ in rows]),
                    [self._tasks_data[key] for key, _, _ in rows],
                    self._now,
                ),
            )
            people = [
                (task.due, (tenant, candidate, *key, out))
                for key, tenant, task in rows
                for candidate, out in _places(task.data)
            ]
            if people:
                yield "add_candidates", ([due for due, _ in people], *_text_columns([keys for _, keys in people]))

    def _messages(self) -> Iterator[Statement]:
        write = self._write
        if write.early:
            yield (
                "keep_early",
                (
                    [event.arrived_at for event in write.early],
                    *_text_columns([(e.tenant, e.type, e.key, e.event_id, e.traceparent) for e in write.early]),
                    self._early_data,
                    self._now,
                ),
            )
        if write.dead_letters:
            letters = write.dead_letters
            yield (
                "keep_dead_letters",
                (
                    [letter.offset for letter in letters],
                    [letter.partition for letter in letters],
                    *_text_columns([(e.tenant, e.topic, e.reason, e.detail, e.message_id) for e in letters]),
                    [letter.key for letter in letters],
                    [letter.value for letter in letters],
                    [pack(letter.headers) for letter in letters],
                    self._now,
                ),
            )
        if write.redriven:
            yield "redriven", (list(write.redriven), self._now)
        if write.positions:
            places = sorted(write.positions.items())
            yield (
                "move_positions",
                (
                    [place[0] for place, _ in places],
                    [place[1] for place, _ in places],
                    [place[2] for place, _ in places],
                    [reached[0] for _, reached in places],
                    [reached[1] for _, reached in places],
                    self._now,
                ),
            )


def candidates(task: Mapping[str, Any]) -> list[str]:
    """Who a task is for, as `person:maria` and `role:manager`: those asked, and substitutes whom they named."""
    found = [
        f"{kind}:{who[kind]}"
        for who in task.get("to") or ()
        if isinstance(who, Mapping)
        for kind in ("person", "role")
        if who.get(kind)
    ]
    found += [f"person:{one['to']}" for one in task.get("delegations") or () if isinstance(one, Mapping)]
    return sorted(set(found))


def _places(task: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lists that a task stands in, each with whom it is hidden from: theirs who decide, and theirs who may not."""
    out = barred(task)
    yield from ((candidate, out) for candidate in candidates(task))
    yield from ((f"barred:{person}", "") for person in out.split("\n") if person)


def barred(task: Mapping[str, Any]) -> str:
    """Who may not decide a task, one name a line: excluded, voted already, or whoever chose who decides it."""
    voted = [
        vote.get(name, "")
        for vote in task.get("votes") or ()
        if isinstance(vote, Mapping)
        for name in ("by", "on_behalf_of")
    ]
    out = (task.get(name) or () for name in ("excluded", "earlier", "steered"))
    return "\n".join(dict.fromkeys(str(name) for names in (*out, voted) for name in names if name))


def _bytes_of(saga_id: str, values: Sequence[Any], encode: Callable[[Any], bytes]) -> list[bytes]:
    """The bytes of a saga's values, or of early events (saga ""). Raises InvalidAppendError naming the saga."""
    try:
        return [encode(value) for value in values]
    except NotCanonicalError as error:
        whose = f"saga {saga_id}" if saga_id else "an early event"
        raise InvalidAppendError(f"{whose} cannot be stored: {error}", (saga_id,) if saga_id else ()) from error


def _tasks_data(appends: Sequence[Append]) -> dict[tuple[str, str], bytes]:
    return {
        (append.saga_id, task.activity): _bytes_of(append.saga_id, [task.data], canonical_bytes)[0]
        for append in appends
        for task in append.effects.tasks_open
    }


def _text_columns(rows: Sequence[tuple[str, ...]]) -> list[Sequence[str]]:
    """Rows of texts, turned into columns."""
    return [texts(list(column)) for column in zip(*rows, strict=True)]


def _refuse_doubles(appends: Sequence[Append]) -> None:
    if len({append.saga_id for append in appends}) < len(appends):
        seen: set[str] = set()
        doubled = [a.saga_id for a in appends if a.saga_id in seen or seen.add(a.saga_id)]  # type: ignore[func-returns-value]
        raise InvalidAppendError(
            f"saga {doubled[0]} is appended to twice in one batch: join its turns, with net effects", tuple(doubled)
        )


def _refuse_conflicts(appends: Sequence[Append], heads: Mapping[str, Head]) -> None:
    conflicts: dict[str, str] = {}
    for append in appends:
        head = heads.get(append.saga_id)
        if head is None:
            conflicts[append.saga_id] = "is not claimed by this batch, or does not exist"
        elif head.version != append.expected_version:
            conflicts[append.saga_id] = f"is at version {head.version}, expected {append.expected_version}"
        elif head.tenant != append.tenant:
            raise InvalidAppendError(
                f"saga {append.saga_id} belongs to tenant {head.tenant!r}, its records name {append.tenant!r}",
                (append.saga_id,),
            )
        elif head.version == 0 and append.records and not append.ended and head.run_owner not in (None, append.saga_id):
            raise InvalidAppendError(
                f"saga {append.saga_id} cannot start: {head.run_owner} is the live run of {append.name} "
                f"{append.business_key!r}. Refuse the start (already_running)",
                (append.saga_id,),
            )
    if conflicts:
        saga_id, reason = next(iter(conflicts.items()))
        raise ConflictError(
            f"{len(conflicts)} sagas moved, first: saga {saga_id} {reason}. Cause: another process wrote first, or "
            "a cached state is behind. Drop the cached states, reload, decide again; the others may be written now",
            tuple(conflicts),
        )
