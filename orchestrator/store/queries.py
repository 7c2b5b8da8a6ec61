"""What people ask the store: pages, HTTP, command line, metrics. Nothing here writes.

Rules of this file
- Every question names its tenant, in the statement and, as a second net, in the session (row level security).
- Lists are keyset pages: what was shown stays where it was while new rows come in. A cursor is opaque text.
- Instants are microseconds since the epoch (UTC), as everywhere below the API.
- A task is (saga id, activity): the id in a URL is the API's matter (`orchestrator.api.views.task_id_of`).
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from orchestrator.store.chain import ChainError, Flaw, verify
from orchestrator.store.connections import Guarded, Pools
from orchestrator.store.contract import EarlyEvent, StoredRecord, Waiting
from orchestrator.store.headers import unpack
from orchestrator.store.reading import early_event, stored_record
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "queries.sql")

PAGE_ROWS_MAX = 1_000
STREAM_RECORDS_MAX = 100_000
BACKLOG_COUNTED_MAX = 100_000
_LAST = 2**63 - 1

Item = TypeVar("Item")


class BadCursorError(ValueError):
    """The cursor is not one that this list has given."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list. `next` is the cursor of the following page, "" at the end."""

    items: tuple[Item, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class SagaRow:
    """A saga's summary. `version` is that of its last record; `recorded_at` is when that was written."""

    saga_id: str
    tenant: str
    name: str
    definition_version: int
    business_key: str
    version: int
    phase: str
    outcome: str
    stuck: int
    waiting_for: str
    ended: bool
    parent: str
    started_at: int
    recorded_at: int


@dataclass(frozen=True, slots=True)
class SagaFilter:
    """Which sagas; None does not count. `waiting_for` is a prefix; `started_before` an instant."""

    name: str | None = None
    definition_version: int | None = None
    business_key: str | None = None
    phase: str | None = None
    outcome: str | None = None
    waiting_for: str | None = None
    parent: str | None = None
    stuck: bool | None = None
    ended: bool | None = None
    started_before: int | None = None


@dataclass(frozen=True, slots=True)
class SagaCount:
    """How many sagas of one version stand in one phase, and how many of them are stuck."""

    name: str
    definition_version: int
    phase: str
    outcome: str
    ended: bool
    sagas: int
    stuck: int


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task. `closed`: "" while it is open, else decided, expired, withdrawn. `data`: what its page shows."""

    saga_id: str
    activity: str
    tenant: str
    saga_name: str
    business_key: str
    opened_at: int
    due: int
    closed_at: int | None
    closed: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter; `redriven_at` once it was processed again. Key, value and headers only where one was asked for."""

    id: int
    tenant: str
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    message_id: str
    kept_at: int
    redriven_at: int | None
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """Where a group reads on in one partition, and how far in time it has read."""

    group: str
    topic: str
    partition: int
    next_offset: int
    read_until: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """A saga definition as it was registered; `data` only where one was asked for."""

    name: str
    version: int
    registered_at: int
    hash: str
    data: Any = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, counted up to BACKLOG_COUNTED_MAX. Ages in microseconds, None where nothing waits.

    `position`: the last global position given; `now`: the database's clock.
    """

    unsent: int
    unsent_age: int | None
    timers_due: int
    timer_age: int | None
    resumes: int
    checks: int
    unsealed_batches: int
    letters: int
    position: int
    now: int


class ReadQueries:
    """Questions of people. `pools`: those of the process's store; only reading connections are used."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    # --- sagas --------------------------------------------------------------------------------------------------------

    async def sagas(
        self, tenant: str, wanted: SagaFilter | None = None, *, limit: int = 50, cursor: str = ""
    ) -> Page[SagaRow]:
        """Sagas, newest first. Raises BadCursorError."""
        chosen = wanted or SagaFilter()
        first = _LAST if chosen.started_before is None else chosen.started_before
        after = _cursor(cursor, (int, str)) or (first, "")
        filters = [getattr(chosen, name) for name in SagaFilter.__slots__ if name != "started_before"]
        rows = await self._fetch(tenant, "sagas", tenant, *after, _rows(limit), *filters)
        items = [SagaRow(*row) for row in rows]
        return _page(items, limit, lambda last: (last.started_at, last.saga_id))

    async def saga(self, tenant: str, saga_id: str) -> SagaRow | None:
        """The saga with this id."""
        rows = await self._fetch(tenant, "saga", tenant, saga_id)
        return SagaRow(*rows[0]) if rows else None

    async def find(self, tenant: str, reference: str, name: str | None = None) -> SagaRow | None:
        """The saga of this id, else the newest run with this business key (of this name, if given)."""
        if "\0" in reference:
            return None
        found = await self.saga(tenant, reference)
        if found is not None and name in (None, found.name):
            return found
        rows = await self._fetch(tenant, "saga_by_key", tenant, reference, name)
        return SagaRow(*rows[0]) if rows else None

    async def records(
        self, tenant: str, saga_id: str, *, after: int = 0, limit: int = STREAM_RECORDS_MAX
    ) -> list[StoredRecord]:
        """A saga's records after a version, in order; `position` is 0 where none is given yet."""
        rows = await self._fetch(tenant, "records_of", tenant, saga_id, after, min(limit, STREAM_RECORDS_MAX))
        return [stored_record(row) for row in rows]

    async def verify(self, tenant: str, saga_id: str) -> Flaw | None:
        """The first record of a saga's stream that is not as it was written, against its head row. None: it is whole.

        The head row stands in the same database; against its owner only a checkpoint kept elsewhere helps.
        """
        # Repeatable: head and stream must be of one moment, or a saga that moves would look broken.
        mode = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
        async with self._pools.connection("read") as connection, as_tenant(connection, tenant, mode):
            heads = await connection.fetch(SQL["head"], tenant, saga_id)
            rows = await connection.fetch(SQL["records_of"], tenant, saga_id, 0, STREAM_RECORDS_MAX)
        if not heads:
            return Flaw(saga_id, 0, "there is no such saga") if not rows else Flaw(saga_id, 0, "its head is missing")
        try:
            stream = [stored_record(row) for row in rows]
        except ChainError as error:
            return Flaw(saga_id, error.version, str(error))
        return verify(stream, saga_id=saga_id, head_version=heads[0]["version"], head_hash=heads[0]["hash"])

    async def counts(self, tenant: str | None = None) -> list[SagaCount]:
        """How many sagas there are, by name, version, phase and outcome; of all tenants where none is named.

        Reads every head: for a page or a metric once in a while.
        """
        return [SagaCount(*row) for row in await self._fetch(tenant, "counts", tenant)]

    # --- tasks --------------------------------------------------------------------------------------------------------

    async def tasks_for(
        self,
        tenant: str,
        person: str,
        roles: Sequence[str],
        *,
        also: Sequence[str] = (),
        limit: int = 50,
        cursor: str = "",
    ) -> Page[StoredTask]:
        """Open tasks that this person may decide now, due first: not those excluded from or already voted on.

        `also`: further candidates (`person:maria`, `role:manager`), of those for whom they stand in.
        """
        after = _cursor(cursor, (int, str, str)) or (-1, "", "")
        candidates = list(dict.fromkeys((f"person:{person}", *(f"role:{role}" for role in roles), *also)))
        rows = await self._fetch(tenant, "tasks_for", tenant, *after, _rows(limit), candidates, person)
        return _task_page(rows, limit)

    async def tasks(
        self,
        tenant: str,
        *,
        saga_id: str | None = None,
        state: str | None = "open",
        limit: int = 50,
        cursor: str = "",
    ) -> Page[StoredTask]:
        """Tasks, due first. `state`: open, decided, expired, withdrawn, or None for all. Raises BadCursorError."""
        after = _cursor(cursor, (int, str, str)) or (-1, "", "")
        return _task_page(await self._fetch(tenant, "tasks", tenant, *after, _rows(limit), saga_id, state), limit)

    async def task(self, tenant: str, saga_id: str, activity: str) -> StoredTask | None:
        """One task, open or closed; closed ones are forgotten after a while (the stream remembers)."""
        rows = await self._fetch(tenant, "task", tenant, saga_id, activity)
        return _task(rows[0]) if rows else None

    # --- messages -----------------------------------------------------------------------------------------------------

    async def letters(
        self,
        tenant: str,
        *,
        reason: str | None = None,
        redriven: bool | None = False,
        limit: int = 50,
        cursor: str = "",
    ) -> Page[StoredLetter]:
        """Dead letters, newest first, without their bytes. `redriven` None: all. Raises BadCursorError."""
        (before,) = _cursor(cursor, (int,)) or (_LAST,)
        rows = await self._fetch(tenant, "letters", tenant, before, _rows(limit), reason, redriven)
        return _page([StoredLetter(*row) for row in rows], limit, lambda last: (last.id,))

    async def letter(self, tenant: str, letter_id: int) -> StoredLetter | None:
        """One dead letter with its bytes."""
        rows = await self._fetch(tenant, "letter", tenant, letter_id)
        if not rows:
            return None
        return StoredLetter(**{**rows[0], "headers": unpack(rows[0]["headers"])})

    async def early_events(
        self, tenant: str, *, type_: str | None = None, limit: int = 50, cursor: str = ""
    ) -> Page[EarlyEvent]:
        """Events that nobody waited for when they came, by type and key, with those who took them since."""
        after = _cursor(cursor, (str, str, str)) or ("", "", "")
        rows = await self._fetch(tenant, "early_events", tenant, *after, _rows(limit), type_)
        return _page([early_event(row) for row in rows], limit, lambda last: (last.type, last.key, last.event_id))

    async def waits(self, tenant: str, *, saga_id: str | None = None, limit: int = PAGE_ROWS_MAX) -> list[Waiting]:
        """Who waits for which event, longest first."""
        rows = await self._fetch(tenant, "waits", tenant, saga_id, min(limit, PAGE_ROWS_MAX))
        return [Waiting(*row) for row in rows]

    # --- operation ----------------------------------------------------------------------------------------------------

    async def positions(self) -> list[StoredPosition]:
        """Every stored position. Lag is the broker's end offset minus `next_offset`."""
        return [StoredPosition(*row) for row in await self._fetch(None, "all_positions")]

    async def definitions(self) -> list[StoredDefinition]:
        """Every definition that was ever registered, without its data."""
        return [StoredDefinition(*row) for row in await self._fetch(None, "all_definitions")]

    async def definition(self, name: str, version: int) -> StoredDefinition | None:
        """One definition with its data."""
        rows = await self._fetch(None, "definition", name, version)
        if not rows:
            return None
        return StoredDefinition(**{**rows[0], "data": orjson.loads(rows[0]["data"])})

    async def backlog(self) -> Backlog:
        """What waits to be sent, fired, resumed, checked, sealed or looked at."""
        return Backlog(*(await self._fetch(None, "backlog", BACKLOG_COUNTED_MAX))[0])

    async def _fetch(self, tenant: str | None, name: str, *args: object) -> list[Any]:
        async with self._pools.connection("read") as connection, as_tenant(connection, tenant):
            return await connection.fetch(SQL[name], *args)


@asynccontextmanager
async def as_tenant(connection: Guarded, tenant: str | None, mode: str = "READ ONLY") -> AsyncIterator[None]:
    """A read-only transaction that sees one tenant's rows (None: all)."""
    await connection.begin(mode)
    try:
        if tenant is not None:
            await connection.fetch(SQL["read_as"], tenant)
        yield
    finally:
        await connection.roll_back()


def _rows(limit: int) -> int:
    """One more than asked for, to know whether there is a next page."""
    return max(1, min(limit, PAGE_ROWS_MAX)) + 1


def _page(items: list[Item], limit: int, key: Any) -> Page[Item]:
    wanted = _rows(limit) - 1
    shown = tuple(items[:wanted])
    if len(items) <= wanted:
        return Page(shown)
    return Page(shown, base64.urlsafe_b64encode(orjson.dumps(key(shown[-1]))).decode().rstrip("="))


def _cursor(text: str, kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    if not text:
        return None
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise BadCursorError(f"cursor {text[:60]!r} is not one that this list has given: leave it out") from error
    well_formed = isinstance(values, list) and [type(value) for value in values] == list(kinds)
    if not well_formed or any("\0" in value if isinstance(value, str) else abs(value) > _LAST for value in values):
        raise BadCursorError(f"cursor {text[:60]!r} belongs to another list: leave it out")
    return tuple(values)


def _task(row: Any) -> StoredTask:
    return StoredTask(**{**row, "data": orjson.loads(row["data"])})


def _task_page(rows: list[Any], limit: int) -> Page[StoredTask]:
    return _page([_task(row) for row in rows], limit, lambda last: (last.due, last.saga_id, last.activity))
