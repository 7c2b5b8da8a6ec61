"""Pending approvals: every state of every task with the time in which it stood, and every vote with its evidence.

Rules of this file
- A task's state is folded by the kernel's own folds, from the records that concern tasks alone: what a task is, stands
  in one place.
- A row stands from the record that brought it about to the record that changed it. Two changes at one instant leave a
  row that stood for no time: history shows it, no instant does.
- `due` is when something happens next (a level, the end), `expires` when nobody may decide any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import orjson

from orchestrator.kernel.evolve import settle
from orchestrator.kernel.folding import FOLDS
from orchestrator.kernel.state import Activity, State
from orchestrator.store.sql import load_queries
from projections.contract import FOREVER, Connection, Facts, FeedRecord, UnreadableRecordError, in_slot
from projections.feed import streams_before

SQL = load_queries("projections", "approvals.sql")
SAGAS_KEPT = 20_000
TEXT_CHARACTERS_MAX = 2_000

# They change nothing of who may decide, until when, or how it stands: the audit trail has them.
_REMARKS = frozenset({"task.commented", "task.attached", "task.reminded"})

COLUMNS = (
    "position", "valid_from", "valid_to", "opened_at", "due", "expires", "version", "level", "round", "votes",
    "votes_needed", "reach", "tenant", "saga_id", "activity", "name", "business_key", "customer", "state", "change",
    "actor", "outcome", "claimed_by", "delegated_to", "candidates", "excluded",
)  # fmt: skip
VOTE_COLUMNS = (
    "position", "voted_at", "version", "round", "decided", "counted", "tenant", "person", "saga_id", "activity", "name",
    "business_key", "customer", "outcome", "reason", "on_behalf_of", "authentication", "subject_hash", "roles",
)  # fmt: skip


@dataclass(slots=True)
class Standing:
    """A task's state from one record on."""

    position: int
    valid_from: int
    valid_to: int
    opened_at: int
    due: int
    expires: int
    version: int
    level: int
    round: int
    votes: int
    votes_needed: int
    reach: int
    tenant: str
    saga_id: str
    activity: str
    name: str
    business_key: str
    customer: str
    state: str
    change: str
    actor: str
    outcome: str
    claimed_by: str
    delegated_to: str
    candidates: bytes
    excluded: bytes

    def end(self, at: int) -> None:
        """It stood until then."""
        self.valid_to = max(at, self.valid_from)
        self.reach = (self.valid_to - self.valid_from).bit_length()


@dataclass(slots=True)
class _Vote:
    position: int
    voted_at: int
    version: int
    round: int
    decided: bool
    counted: bool
    tenant: str
    person: str
    saga_id: str
    activity: str
    name: str
    business_key: str
    customer: str
    outcome: str
    reason: str
    on_behalf_of: str
    authentication: str
    subject_hash: str
    roles: bytes


class ApprovalsProjection:
    """The projection `approvals`."""

    name = "approvals"
    version = 1
    tables = ("approvals", "approval_votes")

    def __init__(self) -> None:
        self._tasks: dict[str, SagaTasks] = {}  # of sagas with open tasks

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        """Takes in what concerns tasks."""
        concerning = [record for record in records if _concerns(record)]
        if not concerning:
            return
        await self._load(connection, slot, concerning)
        changes = _Changes()
        for record in concerning:
            tasks = self._tasks.get(record.saga_id)
            if tasks is None:
                if not record.type.startswith("task."):
                    continue  # nothing of it is open
                tasks = self._tasks[record.saga_id] = SagaTasks()
            try:
                tasks.take(record, facts[record.saga_id], changes)
            except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
                raise UnreadableRecordError(self.name, record, f"{type(error).__name__}: {error}") from error
            if not tasks.standing:
                del self._tasks[record.saga_id]
        await changes.write(connection, slot)
        if len(self._tasks) > SAGAS_KEPT:
            self._tasks.clear()

    def forget(self) -> None:
        """Drops the tasks that are kept in memory."""
        self._tasks.clear()

    async def _load(self, connection: Connection, slot: str, records: Sequence[FeedRecord]) -> None:
        """Tasks of sagas that are not in memory: folded from their streams, with the rows in which they stand."""
        first: dict[str, int] = {}
        for record in records:
            if record.saga_id not in self._tasks and record.version > 1:
                first.setdefault(record.saga_id, record.version)
        if not first:
            return
        rows = await connection.fetch(in_slot(SQL["standing"], slot), sorted(first))
        places = {(saga_id, activity): (position, since) for position, since, saga_id, activity in rows}
        asked = {saga_id: below for saga_id, below in first.items() if any(key[0] == saga_id for key in places)}
        if not asked:
            return  # nothing of theirs is open: a closed task is of no further interest
        votes = await connection.fetch(in_slot(SQL["last_votes"], slot), sorted(asked))
        last = {(saga_id, activity): position for saga_id, activity, position in votes}
        for saga_id, stream in (await streams_before(connection, asked)).items():
            tasks = SagaTasks()
            forgotten = _Changes()
            for earlier in filter(_concerns, stream):
                tasks.take(earlier, _NOBODY, forgotten)
            for activity in list(tasks.standing):
                place = places.get((saga_id, activity))
                if place is not None:
                    tasks.standing[activity] = place
                    tasks.voted[activity] = last.get((saga_id, activity), 0)
            if tasks.standing:
                self._tasks[saga_id] = tasks


_NOBODY = Facts("", "", 0, "", "", 0)


class SagaTasks:
    """The open tasks of one saga. `standing`: position and beginning of the row in which each stands."""

    def __init__(self) -> None:
        self.state = State()
        self.standing: dict[str, tuple[int, int]] = {}
        self.voted: dict[str, int] = {}  # position of the last vote

    def take(self, record: FeedRecord, saga: Facts, changes: _Changes) -> None:
        """Folds one record and notes what it changes."""
        self.state.version = record.version
        for activity in record.data.get("withdrawn", ()):
            if activity in self.standing:
                settle(self.state, activity, "withdrawn")
                self._stand(activity, "withdrawn", "", record, saga, changes)
        activity = record.activity
        fold = FOLDS.get(record.type)
        if fold is None or not record.type.startswith("task."):
            return
        if record.type != "task.opened" and activity not in self.standing:
            return  # said of a closed task: the audit trail has it
        fold(self.state, activity, record.data)
        if record.type == "task.voted":
            self._vote(activity, record.data["vote"], record, saga, changes)
        elif record.type in ("task.amended", "task.amend_failed"):
            found = self._task(activity)
            below = (found.task.round if found.task else 1) + (record.type == "task.amend_failed")
            changes.voided.append((record.saga_id, activity, below))
        elif record.type == "task.decided":
            changes.deciding.append(self.voted.pop(activity, 0))
        status, outcome = self.state.activities[activity].status, str(record.data.get("outcome", ""))
        if record.type in _REMARKS:
            return
        name = {"open": "open", "succeeded": "decided", "expired": "expired", "withdrawn": "withdrawn"}[status]
        self._stand(activity, name, outcome if name == "decided" else "", record, saga, changes)

    def _task(self, activity: str) -> Activity:
        return self.state.activities[activity]

    def _stand(
        self, activity: str, name: str, outcome: str, record: FeedRecord, saga: Facts, changes: _Changes
    ) -> None:
        """It stands differently from this record on."""
        before = self.standing.pop(activity, None)
        if before is not None:
            changes.end(record.saga_id, activity, before, record.recorded_at)
        if name == "open":
            self.standing[activity] = (record.position, record.recorded_at)
        changes.add(_standing(self._task(activity), activity, name, outcome, record, saga))

    def _vote(self, activity: str, cast: Mapping[str, Any], record: FeedRecord, saga: Facts, changes: _Changes) -> None:
        task = self._task(activity).task
        self.voted[activity] = record.position
        changes.votes.append(
            _Vote(
                position=record.position,
                voted_at=record.recorded_at,
                version=record.version,
                round=task.round if task is not None else 1,
                decided=False,
                counted=True,
                tenant=saga.tenant,
                person=cast["by"],
                saga_id=record.saga_id,
                activity=activity,
                name=saga.name,
                business_key=saga.business_key,
                customer=saga.customer,
                outcome=str(cast["outcome"]),
                reason=str(cast.get("reason", "")),
                on_behalf_of=str(cast.get("on_behalf_of") or ""),
                authentication=str(cast.get("authentication", "")),
                subject_hash=str(cast.get("hash", "")),
                roles=orjson.dumps(list(cast.get("roles", ()))),
            )
        )


def _concerns(record: FeedRecord) -> bool:
    """Tasks change by their own records and by what withdraws them; nobody but their voters decides them."""
    return record.type.startswith("task.") or bool(record.data.get("withdrawn"))


def _standing(found: Activity, activity: str, name: str, outcome: str, record: FeedRecord, saga: Facts) -> Standing:
    task = found.task
    assert task is not None
    forever_due = FOREVER - 1  # a task without an end comes last in lists, and is still there in a keyset page
    return Standing(
        position=record.position,
        valid_from=record.recorded_at,
        valid_to=FOREVER,
        opened_at=task.opened_at,
        due=min([task.expires or forever_due, *(level["at"] for level in task.levels[:1])]),
        expires=task.expires or forever_due,
        version=record.version,
        level=task.level,
        round=task.round,
        votes=len(task.votes),
        votes_needed=task.votes_needed,
        reach=63,
        tenant=saga.tenant,
        saga_id=record.saga_id,
        activity=activity,
        name=saga.name,
        business_key=saga.business_key,
        customer=saga.customer,
        state=name,
        change=record.type,
        actor=record.actor,
        outcome=outcome,
        claimed_by=_person(getattr(task, "claim", None)),
        delegated_to=_delegate(getattr(task, "delegations", None)),
        candidates=orjson.dumps(sorted({name for entry in task.to for name in _names(entry)})),
        excluded=orjson.dumps(sorted(task.excluded)),
    )


def _names(entry: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("person", "role", "group"):
        if kind in entry:
            yield f"{kind}:{entry[kind]}"


def _person(claim: Any) -> str:
    """Who has claimed it: kept as an id, or with when."""
    if isinstance(claim, Mapping):
        return str(claim.get("by", ""))
    return str(claim or "")


def _delegate(delegations: Any) -> str:
    """To whom it was handed last."""
    if isinstance(delegations, Mapping):
        delegations = list(delegations.values())
    last = delegations[-1] if delegations else None
    return str(last.get("to", "")) if isinstance(last, Mapping) else str(last or "")


class _Changes:
    """What a batch of records changes."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, int], Standing] = {}
        self.ends: list[tuple[str, str, int, int, int]] = []
        self.votes: list[_Vote] = []
        self.voided: list[tuple[str, str, int]] = []
        self.deciding: list[int] = []

    def add(self, row: Standing) -> None:
        """A new state."""
        self.rows[row.saga_id, row.activity, row.position] = row

    def end(self, saga_id: str, activity: str, before: tuple[int, int], at: int) -> None:
        """The state before stood until now: a row of this batch, or of an earlier one."""
        position, since = before
        row = self.rows.get((saga_id, activity, position))
        if row is not None:
            row.end(at)
        else:
            until = max(at, since)
            self.ends.append((saga_id, activity, position, until, (until - since).bit_length()))

    async def write(self, connection: Connection, slot: str) -> None:
        """Four statements at most, whatever the size of the batch."""
        if self.ends:
            await connection.execute(in_slot(SQL["end"], slot), *_columns(self.ends))
        if self.rows:
            read = attrgetter(*COLUMNS)
            rows = [_texts(read(row)) for row in self.rows.values()]
            await connection.execute(in_slot(SQL["add"], slot), *_columns(rows))
        if self.votes:
            read = attrgetter(*VOTE_COLUMNS)
            await connection.execute(
                in_slot(SQL["add_votes"], slot), *_columns([_texts(read(vote)) for vote in self.votes])
            )
        if self.voided:
            await connection.execute(in_slot(SQL["void_votes"], slot), *_columns(self.voided))
        deciding = [position for position in self.deciding if position]
        if deciding:
            await connection.execute(in_slot(SQL["deciding_votes"], slot), deciding)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _texts(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """JSON as text, and texts without what PostgreSQL cannot hold, within a length."""
    return tuple(
        _text(value) if type(value) is str else value.decode() if type(value) is bytes else value for value in row
    )


def _text(value: str) -> str:
    return value.replace("\0", "�")[:TEXT_CHARACTERS_MAX]
