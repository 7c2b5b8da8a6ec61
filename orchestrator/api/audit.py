"""Routes of the audit trail: search, export, and what was pending or decided when.

Rules of this file
- An answer says how far it reaches (`complete`). `after=<saga id>@<record>`, as an act's answer names them, waits a
  moment for that record; `caughtUp` false: it is not in yet.
- An approver is shown what concerns them, whatever they ask for; who may see all tasks is `identity/rules.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime

from orchestrator.api.acts import log
from orchestrator.api.engine import Acting, Actor, Engine, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond, shape
from orchestrator.api.views import task_of
from orchestrator.identity.rules import sees_all_tasks
from orchestrator.store.queries import BadCursorError
from projections.answers import Answer, AuditFilter

router = APIRouter(prefix="/v1", tags=["audit"])

PAGE_ITEMS_MAX = 500
WAIT_SECONDS_MAX = 2.0
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}

Text = Annotated[str | None, Query(max_length=500)]
PageSize = Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)]
Instant = Annotated[AwareDatetime | None, Query()]


@contextmanager
def in_problems() -> Iterator[None]:
    """What a read model refuses, as a problem."""
    try:
        yield
    except BadCursorError as error:
        raise ProblemError("bad_cursor", str(error)) from error
    except ValueError as error:
        raise ProblemError("invalid", str(error)) from error


async def caught_up(engine: Engine, actor: Actor, after: str | None, *projections: str) -> bool:
    """Waits a moment for what an act wrote; True where nothing was asked for."""
    if not after:
        return True
    return await engine.models.wait_for(
        after, projections=projections, seconds_max=WAIT_SECONDS_MAX, tenant=actor.tenant
    )


def answered(answer: Answer[Any], *, is_caught_up: bool = True) -> Response:
    """A page of a read model as JSON."""
    return respond({**shape(answer), "caughtUp": is_caught_up})


def chosen_records(
    saga: Text = None,
    key: Text = None,
    by: Text = None,
    customer: Text = None,
    action: Text = None,
    outcome: Text = None,
    name: Text = None,
    since: Instant = None,
    until: Instant = None,
) -> AuditFilter:
    """Which records: `action` is a type, or its first word with a dot (`task.`); `by` is as records name them."""
    return AuditFilter(saga, key, by, customer, action, outcome, name, since, until)


Chosen = Annotated[AuditFilter, Depends(chosen_records)]


@router.get("/audit", dependencies=[may("audit.read")])
async def search(
    engine: EngineOf,
    actor: Acting,
    chosen: Chosen,
    as_of: Instant = None,
    count: bool = False,
    after: Text = None,
    limit: PageSize = 50,
    cursor: Text = None,
) -> Response:
    """Records, newest first."""
    with in_problems():
        is_caught_up = await caught_up(engine, actor, after, "audit")
        chosen = replace(chosen, customer=await engine.known_as(actor, chosen.customer))
        answer = await engine.models.audit.search(
            actor.tenant, chosen, as_of=as_of, limit=limit, cursor=cursor or "", count=count
        )
    return answered(answer, is_caught_up=is_caught_up)


@router.get("/audit/export", dependencies=[may("audit.export")])
async def export(
    engine: EngineOf,
    actor: Acting,
    chosen: Chosen,
    as_of: Instant = None,
    format: Literal["csv", "jsonl"] = "csv",
) -> Response:
    """The same as a file, streamed; its last line is a manifest with filter, count, checksum and reach."""
    chosen = replace(chosen, customer=await engine.known_as(actor, chosen.customer))
    parts = engine.models.audit.export(actor.tenant, chosen, format_=format, as_of=as_of)
    first = await anext(parts)  # what cannot be answered is refused before the file begins

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    log.info("audit trail exported", by=actor.id, tenant=actor.tenant, format=format)
    headers = {"Content-Disposition": f'attachment; filename="audit.{format}"', "Cache-Control": "no-store"}
    return StreamingResponse(all_parts(), media_type=MEDIA_TYPES[format], headers=headers)


@router.get("/approvals", dependencies=[may("task.read")])
async def approvals(
    engine: EngineOf,
    actor: Acting,
    as_of: Instant = None,
    candidate: Annotated[list[str] | None, Query(max_length=50)] = None,
    name: Text = None,
    after: Text = None,
    limit: PageSize = 50,
    cursor: Text = None,
) -> Response:
    """What is pending, or was at an instant, due first. `candidate`: `person:maria`, `role:manager`, repeatable."""
    candidates = list(candidate or ())
    if not sees_all_tasks(actor):
        own = [f"person:{actor.id}", *(f"role:{role}" for role in actor.roles)]
        candidates = [known for known in own if not candidates or known in candidates]
        if not candidates:
            candidates = own[:1]
    with in_problems():
        is_caught_up = await caught_up(engine, actor, after, "approvals")
        answer = await engine.models.approvals.as_of(
            actor.tenant, as_of, candidates=candidates, name=name, limit=limit, cursor=cursor or ""
        )
    return answered(answer, is_caught_up=is_caught_up)


@router.get("/approvals/decided", dependencies=[may("task.read")])
async def decided(
    engine: EngineOf,
    actor: Acting,
    person: Text = None,
    since: Instant = None,
    after: Text = None,
    limit: PageSize = 50,
    cursor: Text = None,
) -> Response:
    """The votes of a person, newest first, with their evidence; of oneself where nobody is named."""
    whose = (person or actor.id) if sees_all_tasks(actor) else actor.id
    with in_problems():
        is_caught_up = await caught_up(engine, actor, after, "approvals")
        answer = await engine.models.approvals.decided_by(
            actor.tenant, whose, since=since, limit=limit, cursor=cursor or ""
        )
    return answered(answer, is_caught_up=is_caught_up)


@router.get("/approvals/{task_id}/history", dependencies=[may("audit.read")])
async def history(task_id: str, engine: EngineOf, actor: Acting) -> Response:
    """Every state of one task, oldest first."""
    saga_id, activity = task_of(task_id)
    return answered(await engine.models.approvals.history(actor.tenant, saga_id, activity))
