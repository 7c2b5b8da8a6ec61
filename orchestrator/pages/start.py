"""Where work begins: `/` and `/office` lead to the first place that is for whoever asks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from orchestrator.api.engine import Acting, may
from orchestrator.pages.shell import places_for

router = APIRouter(tags=["pages"], include_in_schema=False)


@router.get("/", dependencies=[may("public")])
async def from_the_root() -> RedirectResponse:
    """A person who types the host's name alone means the back office."""
    return RedirectResponse("/office", 303)


@router.get("/office", dependencies=[may("office.use")])
async def start(request: Request, actor: Acting) -> RedirectResponse:
    """An approver begins with the inbox, an auditor with the audit trail."""
    return RedirectResponse(places_for(actor, request.app.state.office_paths)[0].path, 303)
