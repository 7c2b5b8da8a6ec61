"""What somebody has decided: their votes with the evidence that was kept, newest first."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.pages.site import office_router, page
from orchestrator.pages.subject import title

PATH = "/office/decisions"
PAGE_ROWS = 50

router = office_router()


@router.get("/decisions", dependencies=[may("own")])
async def decisions(
    request: Request, engine: EngineOf, actor: Acting, cursor: Annotated[str, Query(max_length=500)] = ""
) -> Response:
    """One's own votes. The list says how far it reaches: it is a read model."""
    answer = await engine.models.approvals.decided_by(actor.tenant, actor.id, limit=PAGE_ROWS, cursor=cursor)
    return page(
        request, actor, "decisions.html",
        answer=answer, headline=lambda activity: title(activity).capitalize(), cursor=cursor,
        next_url=f"{PATH}?{urlencode({'cursor': answer.next})}" if answer.next else "",
    )  # fmt: skip
