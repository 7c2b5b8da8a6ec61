"""What one batch writes, as changes of the tables. Effects are net: what is cleared goes first, what is set stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.messages.canonical import NotCanonicalError, canonical_bytes
from orchestrator.store.chain import data_bytes, seal
from orchestrator.store.contract import Append, BatchWrite, ConflictError, Head, InvalidAppendError, StoreError
from tests.simulation.tables import HeadRow, SentRow, Tables, TimerRow, WaitRow

Change = Callable[[], None]
Name = tuple[object, ...]


def refuse(kind: type[StoreError], blamed: Mapping[str, str], why: str = "") -> None:
    """Raises where somebody is to blame, naming all of them."""
    if blamed:
        saga_id, reason = next(iter(blamed.items()))
        raise kind(f"saga {saga_id} {reason} {why} ({len(blamed)} in all)", tuple(blamed))


class Writing:
    """One BatchWrite, checked when it is made. Raises ConflictError or InvalidAppendError, naming sagas."""

    def __init__(self, tables: Tables, heads: Mapping[str, Head], now: int, number: int, write: BatchWrite) -> None:
        self._tables, self._heads, self._now, self._number, self._write = tables, heads, now, number, write
        self.left: dict[str, Head] = {}  # the heads as `changes` leave them
        self._appends = [append for append in write.appends if append.records]
        self._refuse()
        for s in write.switches:
            stored, active = tables.definitions.get((s.name, s.version)), tables.active.get(s.name, 0)
            if (stored, active) != (s.hash, s.replaces):
                raise StoreError(f"{s.name} v{s.version} cannot replace v{s.replaces}: v{active} is active")
        self._data = [self._bytes(append) for append in self._appends]
        for append in write.appends:
            _stored(append.saga_id, [task.data for task in append.effects.tasks_open], canonical_bytes)
        _stored("", [event.data for event in write.early], canonical_bytes)

    def _refuse(self) -> None:
        ids = [append.saga_id for append in self._write.appends]
        refuse(InvalidAppendError, {i: "is appended to twice in one batch" for i in ids if ids.count(i) > 1})
        moved: dict[str, str] = {}
        for append in self._write.appends:
            head = self._heads.get(append.saga_id)
            if head is None:
                moved[append.saga_id] = "is not claimed by this batch"
            elif head.version != append.expected_version:
                moved[append.saga_id] = f"is at version {head.version}, expected {append.expected_version}"
            elif head.tenant != append.tenant:
                text = f"belongs to tenant {head.tenant!r}, its records name {append.tenant!r}"
                refuse(InvalidAppendError, {append.saga_id: text})
            elif not head.version and append.records and not append.ended:
                owner = head.run_owner
                if owner not in (None, append.saga_id):
                    text = f"cannot start: {owner} is the live run of {append.name} {append.business_key!r}"
                    refuse(InvalidAppendError, {append.saga_id: text})
        refuse(ConflictError, moved, "another process wrote first")

    def _bytes(self, append: Append) -> list[bytes]:
        return _stored(append.saga_id, [record.data for record in append.records], data_bytes)

    def locks(self) -> list[Name]:
        """The rows that the statements lock, in their order, beyond what the batch has locked already."""
        write = self._write
        names: list[Name] = [("timer", *place) for place in self._timers_gone() if place in self._tables.timers]
        names += [("run", a.tenant, a.name, a.business_key) for a in write.appends if a.ended]
        names += [("consumed", a.tenant, e, a.name, a.business_key) for a in write.appends for e in a.effects.consumed]
        names += [("position", *place) for place in sorted(write.positions)]
        return names

    def changes(self) -> list[Change]:
        """What COMMIT carries out, in the order of the statements."""
        return [*self._records(), self._timers, self._runs, self._waits, self._tasks, self._messages, self._switches]

    def _switches(self) -> None:
        self._tables.active |= {switch.name: switch.version for switch in self._write.switches}

    # --- streams and outbox -------------------------------------------------------------------------------------------

    def _records(self) -> list[Change]:
        changes: list[Change] = []
        lines: list[tuple[str, int]] = []
        count = 0
        for append, data in zip(self._appends, self._data, strict=True):
            head = self._heads[append.saga_id]
            at = max(head.recorded_at, self._now)
            bodies, hashes = seal(
                append.records, data, tenant=append.tenant, saga_id=append.saga_id, version=head.version,
                previous=head.hash, recorded_at=at,
            )  # fmt: skip
            lines += [(append.saga_id, head.version + place + 1) for place in range(len(bodies))]
            changes.append(partial(self._append, append, list(zip(bodies, hashes, strict=True))))
            self.left[append.saga_id] = Head(
                head.saga_id, head.tenant, head.name, append.definition_version, head.business_key,
                head.version + len(bodies), hashes[-1], at, append.ended,
            )  # fmt: skip
            changes.append(partial(self._outbox, append, count))
            count += len(append.outbox)
        if lines:
            changes.append(partial(self._tables.unsealed.__setitem__, self._number, lines))
        return changes

    def _append(self, append: Append, lines: list[tuple[bytes, bytes]]) -> None:
        stream = self._tables.streams.setdefault(append.saga_id, [])
        if len(stream) != append.expected_version:
            raise AssertionError(f"{append.saga_id}: version {len(stream)} moved under its lock")
        stream += lines
        head = self.left[append.saga_id]
        self._tables.heads[append.saga_id] = HeadRow(
            head, append.phase, append.outcome, append.stuck, append.waiting_for, append.parent
        )

    def _outbox(self, append: Append, first: int) -> None:
        for place, row in enumerate(append.outbox):
            name = (row.saga_id, row.version)
            self._tables.outbox[name] = SentRow(row, (self._number, first + place), self._now)
            self._tables.unsent.add(name)

    # --- what comes next ----------------------------------------------------------------------------------------------

    def _timers_gone(self) -> dict[tuple[str, str], int]:
        gone = {(saga_id, name): armed for saga_id, name, armed in self._write.timers_fired}
        for append in self._write.appends:
            gone.update(dict.fromkeys(((append.saga_id, name) for name in append.effects.timers_cleared), 0))
            gone.update(dict.fromkeys(((append.saga_id, timer.activity) for timer in append.effects.timers_set), 0))
        return gone

    def _timers(self) -> None:
        timers = self._tables.timers
        for place, armed in self._timers_gone().items():
            if place in timers and armed in (0, timers[place].armed):
                del timers[place]
        for append in self._write.appends:
            versions = {row.version for row in append.outbox}
            for timer in append.effects.timers_set:
                asked = timer.command_version
                command = (append.saga_id, asked) if asked in versions else None
                row = TimerRow(timer.due, max(timer.due - self._now, 0), timer.armed, command)
                timers[append.saga_id, timer.activity] = row

    def _runs(self) -> None:
        tables = self._tables
        for append in self._write.appends:
            run = (append.tenant, append.name, append.business_key)
            if append.ended and tables.runs.get(run) == append.saga_id:
                del tables.runs[run]
        for saga_id in self._write.resumes_done:
            tables.resumes.pop(saga_id, None)
        for append in self._write.appends:
            if append.effects.resume:
                tables.resumes.setdefault(append.saga_id, self._now)

    def _waits(self) -> None:
        tables, write = self._tables, self._write
        done = set(write.checks_done)
        for check in write.checks_done:
            tables.checks.pop(check, None)
        for append in write.appends:
            reopened = [wait.activity for wait in append.effects.waits_opened]
            for name in (*append.effects.waits_closed, *reopened):
                for check in [c for c in tables.waits if c[:2] == (append.saga_id, name)]:
                    del tables.waits[check]
                    tables.checks.pop(check, None)
        for append in write.appends:
            for wait in append.effects.waits_opened:
                check = (append.saga_id, wait.activity, wait.type, wait.key)
                tables.waits[check] = WaitRow(append.tenant, wait.accepts_from, self._now)
                if check not in done:
                    tables.checks[check] = self._now
            for event_id in append.effects.consumed:
                taken = (append.tenant, event_id, append.name, append.business_key)
                tables.consumed.setdefault(taken, append.saga_id)

    def _tasks(self) -> None:
        for append in self._write.appends:
            for activity, _ in append.effects.tasks_closed:
                self._tables.tasks.pop((append.saga_id, activity), None)
            for task in append.effects.tasks_open:
                self._tables.tasks[append.saga_id, task.activity] = task.data

    def _messages(self) -> None:
        tables, write = self._tables, self._write
        for event in write.early:
            tables.early.setdefault((event.tenant, event.type, event.key, event.event_id), event)
        for letter in write.dead_letters:
            tables.letters[len(tables.letters) + 1] = letter
        tables.redriven.update(write.redriven)
        for place, (offset, until) in sorted(write.positions.items()):
            stored = tables.positions.get(place, (0, 0))
            tables.positions[place] = (max(stored[0], offset), max(stored[1], until))


def _stored(saga_id: str, values: Sequence[Any], encode: Callable[[Any], bytes]) -> list[bytes]:
    try:
        return [encode(value) for value in values]
    except NotCanonicalError as error:
        whose = f"saga {saga_id}" if saga_id else "an early event"
        raise InvalidAppendError(f"{whose} cannot be stored: {error}", (saga_id,) if saga_id else ()) from error
