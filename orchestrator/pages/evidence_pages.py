"""The button of an auditor: one saga's evidence pack as a download, made as the API makes it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.evidence import packed
from orchestrator.pages.site import office_router

router = office_router()


@router.get("/sagas/{reference}/evidence", dependencies=[may("audit.export")])
async def evidence(
    request: Request, engine: EngineOf, actor: Acting, reference: str, related: Annotated[bool, Query()] = False
) -> Response:
    """The pack of a saga; `related`: with the sagas that it called, and those that called it."""
    saga = await engine.saga(reference, actor)
    return await packed(request, saga, actor, related=related)
