"""Reading: from the store's rows to the views that routes give, and from a stream to its folded state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.api.problems import ProblemError
from orchestrator.api.task_views import Viewer, lenders_of, view_of
from orchestrator.api.times import instant, optional_instant
from orchestrator.api.views import LetterView, Page, RecordView, RefusedError, SagaView, TaskView
from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.api import fold
from orchestrator.kernel.inputs import Held
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.runtime.identity import trace_id_of
from orchestrator.store import queries
from orchestrator.store.contract import StoreError
from orchestrator.store.desk import Desk
from orchestrator.store.postgres import PostgresStore
from orchestrator.vault.vault import Vault

ANSWER_SECONDS_MAX = 2.0  # for the question whether the database is there
FOLD_RECORDS_SLICE = 4_000  # then others get their turn: some 8 ms

Row = TypeVar("Row")


class Reading:
    """Everything that routes read. Raises StoreError where the database cannot answer."""

    def __init__(self, store: PostgresStore, vault: Vault | None = None) -> None:
        self._queries = queries.ReadQueries(store.pools)
        self._desk = Desk(store.pools)
        self._vault = vault

    async def find(self, tenant: str, reference: str, name: str | None) -> SagaView | None:
        """The saga of this id, or the newest one with this business key."""
        row = await self._queries.find(tenant, reference, name)
        return _saga(row) if row is not None else None

    async def sagas(
        self,
        tenant: str,
        *,
        name: str | None,
        business_key: str | None,
        phase: str | None,
        waiting_for: str | None,
        stuck: bool | None,
        limit: int,
        cursor: str,
    ) -> Page[SagaView]:
        """A page of sagas, newest first."""
        wanted = queries.SagaFilter(
            name=name, business_key=business_key, phase=phase, waiting_for=waiting_for, stuck=stuck
        )
        try:
            page = await self._queries.sagas(tenant, wanted, limit=limit, cursor=cursor)
        except queries.BadCursorError as error:
            raise ProblemError("bad_cursor", str(error)) from error
        return Page(tuple(map(_saga, page.items)), page.next)

    async def records(self, tenant: str, saga_id: str) -> list[RecordView]:
        """A saga's records, in order, with what was sealed in them opened."""
        stored = await self._queries.records(tenant, saga_id)
        plain = [record.data for record in stored] if self._vault is None else await self._vault.for_reading(stored)
        return [
            RecordView(
                saga_id=record.saga_id,
                version=record.version,
                type=record.type,
                activity=record.activity,
                data=data,
                written=record.data,
                actor=record.actor,
                recorded_at=instant(record.recorded_at),
                causation_id=record.causation_id,
                traceparent=record.traceparent,
                hash=record.hash.hex(),
            )
            for record, data in zip(stored, plain, strict=True)
        ]

    async def state(self, tenant: str, saga_id: str) -> tuple[State, str]:
        """A saga's state, folded from its records, and its trace id. Raises RefusedError `not_found`."""
        stored = await self._queries.records(tenant, saga_id)
        if not stored:
            raise RefusedError("not_found", f"There is no saga {saga_id[:80]!r}.")
        records = [Record(record.type, record.activity, record.data) for record in stored]
        # A long stream is folded beside the event loop, which must go on answering others.
        state = fold(records) if len(records) <= FOLD_RECORDS_SLICE else await asyncio.to_thread(fold, records)
        state.version = stored[-1].version
        return state, trace_id_of(stored[0].traceparent, saga_id)

    async def graph(self, name: str, version: int) -> Any:
        """The stored definition as data, or None."""
        stored = await self._queries.definition(name, version)
        return stored.data if stored is not None else None

    async def tasks(
        self, viewer: Viewer, *, state: str | None, saga_id: str | None, mine: bool, limit: int, cursor: str
    ) -> Page[TaskView]:
        """A page of tasks, the one due first first. `mine`: those that this person could decide, by any right."""
        actor = viewer.actor
        try:
            if mine:
                also = [
                    who
                    for absent in viewer.stands_in
                    for who in (f"person:{absent.person}", *(f"role:{role}" for role in absent.roles))
                ]
                page = await self._queries.tasks_for(
                    actor.tenant, actor.id, actor.roles, also=also, limit=limit, cursor=cursor
                )
            else:
                page = await self._queries.tasks(actor.tenant, saga_id=saga_id, state=state, limit=limit, cursor=cursor)
        except queries.BadCursorError as error:
            raise ProblemError("bad_cursor", str(error)) from error
        viewer = await self.with_lenders(viewer, [row.data for row in page.items])
        found = (_task(row, viewer) for row in page.items)
        return Page(tuple(view for view in found if view.may_decide or not mine), page.next)

    async def with_lenders(self, viewer: Viewer, tasks: Iterable[Mapping[str, Any]]) -> Viewer:
        """The viewer, with what those hold now who lent them a right on these tasks; no question where nobody did."""
        lenders = [lender for data in tasks for lender in lenders_of(viewer.actor, data)]
        known = await self._desk.lenders(viewer.actor.tenant, lenders) if lenders else []
        return replace(
            viewer,
            barred=tuple(one.person for one in known if one.out),
            holds=tuple(Held(one.person, one.roles) for one in known if one.roles is not None),
        )

    async def letters(
        self, tenant: str, *, reason: str | None, redriven: bool | None, limit: int, cursor: str
    ) -> Page[LetterView]:
        """A page of dead letters, newest first."""
        try:
            page = await self._queries.letters(tenant, reason=reason, redriven=redriven, limit=limit, cursor=cursor)
        except queries.BadCursorError as error:
            raise ProblemError("bad_cursor", str(error)) from error
        return Page(tuple(map(_letter, page.items)), page.next)

    async def letter(self, tenant: str, letter_id: int) -> tuple[LetterView, IncomingMessage]:
        """One dead letter, as shown and as it came. Raises RefusedError `not_found`."""
        row = await self._queries.letter(tenant, letter_id)
        if row is None:
            raise RefusedError("not_found", f"There is no dead letter {letter_id}.")
        raw = IncomingMessage(row.topic, row.partition, row.offset, row.key, row.value, row.headers, row.kept_at)
        return _letter(row), raw

    async def answers(self) -> bool:
        """True where the database answers soon."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await self._queries.definition("", 0)
        except (StoreError, OSError, TimeoutError):
            return False
        return True


def _saga(row: queries.SagaRow) -> SagaView:
    return SagaView(
        saga_id=row.saga_id,
        name=row.name,
        version=row.definition_version,
        business_key=row.business_key,
        phase=row.phase,
        outcome=row.outcome,
        waiting_for=row.waiting_for,
        stuck=row.stuck,
        started_at=instant(row.started_at),
        updated_at=instant(row.recorded_at),
        record=row.version,
        tenant=row.tenant,
        parent=row.parent,
    )


def _task(row: queries.StoredTask, viewer: Viewer) -> TaskView:
    facts = row.saga_id, row.saga_name, row.business_key, row.activity
    data = {"opened_at": row.opened_at, "expires": row.due, **row.data}
    return view_of(*facts, row.closed or "open", data, viewer)


def _letter(row: queries.StoredLetter) -> LetterView:
    value = row.value if row.value is not None else b""
    try:
        text: str | None = value.decode()
    except UnicodeDecodeError:
        text = None
    return LetterView(
        id=row.id,
        topic=row.topic,
        partition=row.partition,
        offset=row.offset,
        reason=row.reason,
        detail=row.detail,
        message_id=row.message_id,
        received_at=instant(row.kept_at),
        redriven_at=optional_instant(row.redriven_at or 0),
        key=row.key.decode(errors="replace") if row.key is not None else None,
        headers=tuple((name, raw.decode(errors="backslashreplace")) for name, raw in row.headers),
        text=text,
        value_hex="" if text is not None else value.hex(),
    )
