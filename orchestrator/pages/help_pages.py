"""Help: one page, at the same place on every page."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, may
from orchestrator.pages.site import office_router, page

router = office_router()


@router.get("/help", dependencies=[may("office.use")])
async def help_page(request: Request, actor: Acting) -> Response:
    """What is where, what words mean, which keys there are."""
    return page(request, actor, "help.html")
