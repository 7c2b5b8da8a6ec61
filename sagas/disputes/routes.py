"""Disputes over HTTP: raising one, following it, taking it on, and what the regulator was told.

Rules of this file
- A customer sees their own case, in few fields and plain words; to anybody else but staff it is not there.
- Only the manager to whom a case is assigned takes it on. Whether that came in time, the saga decides: an
  acknowledgement is an event like any other, and may as well come from another system.
- The case's document id is its business key: raised twice, it is one case.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from events.disputes import (
    Amount,
    Currency,
    CustomerId,
    DisputeRaised,
    DocId,
    Email,
    Priority,
    RmAcknowledged,
    Summary,
)
from orchestrator.api.engine import Acting, Actor, Engine, EngineOf, RefusedError, may
from orchestrator.participants import open_pool
from sagas.disputes.definition import DisputeState
from sagas.disputes.participants import SQL, case_desk
from sagas.disputes.settings import dispute_settings
from sagas.disputes.tracking import Case, read_case

SAGA = "dispute"
ANSWER_SECONDS_MAX = 3.0  # how long a request waits for what comes of it
POLL_SECONDS = 0.05
CONNECTIONS_MAX = 4
PAGE_ITEMS_MAX = 500
STAFF = frozenset({"viewer", "operator", "auditor", "service"})  # capacities that may look at anybody's case

CaseId = Annotated[str, Path(min_length=1, max_length=100)]
MessageKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with open_pool(app.state.engine.database_url, CONNECTIONS_MAX) as pool:
        app.state.case_desk = pool
        yield


router = APIRouter(tags=["disputes"], lifespan=_lifespan)


class DisputeBody(BaseModel):
    """What a customer disputes."""

    model_config = ConfigDict(extra="forbid")

    doc_id: DocId
    customer_id: CustomerId
    rm_email: Email
    case_summary: Summary
    dispute_amount: Amount
    priority: Priority = Priority.MEDIUM
    currency: Currency = "GBP"


@router.post("/disputes", status_code=201, dependencies=[may("own")])
async def raise_dispute(
    body: DisputeBody, request: Request, response: Response, engine: EngineOf, actor: Acting, key: MessageKey = None
) -> dict[str, Any]:
    """Raises a dispute: 201, or 200 where this very dispute was raised before."""
    if body.customer_id != actor.id and not actor.capacities & {"service", "operator"}:
        raise RefusedError("not_eligible", "Customers raise their own disputes.", {"field": "customer_id"})
    raised = DisputeRaised.from_plain(body.model_dump())
    started = await engine.start(SAGA, raised, actor, message_id=key.strip('"') if key else "", action="own")
    response.status_code = 201 if started.created else 200
    return {"workflowId": started.saga_id, "trackingUrl": _tracking_url(request, body.doc_id)}


@router.get("/disputes/{doc_id}", dependencies=[may("own")])
async def track(doc_id: CaseId, engine: EngineOf, actor: Acting) -> dict[str, Any]:
    """Where a case stands, in plain words."""
    case = await _case(engine, doc_id, actor)
    if case.request.customer_id != actor.id and not actor.capacities & STAFF:
        raise _unknown()
    return case.shown()


@router.post("/disputes/{doc_id}/acknowledge", dependencies=[may("own")])
async def acknowledge(doc_id: CaseId, response: Response, engine: EngineOf, actor: Acting) -> dict[str, Any]:
    """The relationship manager takes the case on: 200 once it is theirs, 202 while that takes longer."""
    case = await _case(engine, doc_id, actor)
    if case.assigned is None or case.assigned.manager != actor.id:
        if case.request.customer_id != actor.id and not actor.capacities & STAFF:
            raise _unknown()
        raise RefusedError("not_eligible", "This case is assigned to somebody else, or not yet assigned.")
    if case.state is DisputeState.ASSIGNED:
        event = RmAcknowledged(doc_id=doc_id, acknowledged_by=actor.id)
        await engine.emit(event, actor, event_id=f"{case.saga.saga_id}/acknowledged")
        case = await _taken_on(engine, doc_id, actor)
    if case.state is DisputeState.WITH_BRANCH:
        raise RefusedError("expired", "The time to take this case on is over; the branch manager has it now.")
    if case.state in (DisputeState.CLOSED, DisputeState.REFERRED):
        raise RefusedError("ended", "This case is over.", saga_id=case.saga.saga_id)
    if case.state is DisputeState.ASSIGNED:
        response.status_code = 202
    return {"doc_id": doc_id, "acknowledged": case.state is not DisputeState.ASSIGNED, "status": case.shown()["status"]}


@router.get("/regulatory/notifications", dependencies=[may("audit.read")])
async def regulatory(
    request: Request,
    actor: Acting,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = 50,
    before: Annotated[datetime | None, Query()] = None,
    before_id: Annotated[str, Query(max_length=100)] = "",
) -> dict[str, Any]:
    """What the regulator was told, the newest first. The next page: `before` and `before_id` of the last item."""
    if before is not None and before.tzinfo is None:
        raise RefusedError("invalid", "before needs a time zone, as in the items.", {"field": "before"})
    async with case_desk.own_schema.transaction(request.app.state.case_desk) as connection:
        rows = await connection.fetch(SQL["notifications"], actor.tenant, before, before_id, limit)
    items = [
        {
            "notification_id": row["notification_id"],
            "doc_id": row["doc_id"],
            "category": row["category"],
            "severity": row["severity"],
            "dispute_amount": f"{row['amount']:.2f}",
            "currency": row["currency"],
            "reason": row["reason"],
            "notified_at": row["notified_at"].isoformat(),
            "delivered_at": row["delivered_at"].isoformat() if row["delivered_at"] is not None else None,
        }
        for row in rows
    ]
    return {"items": items}


async def _case(engine: Engine, doc_id: str, actor: Actor) -> Case:
    saga = await engine.find(doc_id, SAGA, tenant=actor.tenant)
    if saga is None:
        raise _unknown()
    records = await engine.records(saga.saga_id, actor)
    return read_case(saga, records, await engine.tasks(saga_id=saga.saga_id, tenant=saga.tenant))


async def _taken_on(engine: Engine, doc_id: str, actor: Actor) -> Case:
    """The case once it is no longer just assigned, or as it is when that takes too long."""
    over_at = time.monotonic() + ANSWER_SECONDS_MAX
    while True:
        case = await _case(engine, doc_id, actor)
        if case.state is not DisputeState.ASSIGNED or time.monotonic() >= over_at:
            return case
        await asyncio.sleep(POLL_SECONDS)


def _tracking_url(request: Request, doc_id: str) -> str:
    base = dispute_settings().tracking_url or str(request.base_url)
    return f"{base.rstrip('/')}/disputes/{doc_id}"


def _unknown() -> RefusedError:
    return RefusedError("not_found", "There is no such case.")
