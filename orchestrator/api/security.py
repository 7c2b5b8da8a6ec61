"""Routes of the security log: who asked for what, and what was refused. For auditors and administrators."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import EngineOf
from orchestrator.api.identity import Acting, may
from orchestrator.api.shapes import camel, respond
from orchestrator.identity.gate import identity_of

router = APIRouter(prefix="/v1", tags=["security"])


@router.get("/security-log", dependencies=[may("security.read")])
async def security_log(
    request: Request,
    engine: EngineOf,
    actor: Acting,
    outcome: Literal["allowed", "refused", "failed"] | None = None,
    who: Annotated[str | None, Query(max_length=200)] = None,
    action: Annotated[str | None, Query(max_length=100)] = None,
    before: Annotated[int, Query(ge=1, le=2**53)] = 2**53,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Entries of this tenant, newest first; `next` is the next page's `before`.

    Whoever came without a name belongs to no tenant: the first tenant's people see those entries.
    """
    log = identity_of(request).log
    await log.flush()  # what somebody did a moment ago is there when they look
    nameless = actor.tenant == engine.home
    rows = await log.read(
        actor.tenant, outcome=outcome, actor=who, action=action, before=before, limit=limit, nameless=nameless
    )
    items: list[dict[str, Any]] = [{camel(name): value for name, value in row.items()} for row in rows]
    return respond({"items": tuple(items), "next": str(rows[-1]["id"]) if len(rows) == limit else ""})
