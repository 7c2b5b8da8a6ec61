"""Where work begins: `/` and `/office` lead to the first place that is for whoever asks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse

from orchestrator.api.engine import Acting, may
from orchestrator.pages.shell import places_for

FIRST = ("/office/inbox", "/office/operations", "/office/audit")

router = APIRouter(tags=["pages"], include_in_schema=False)


@router.get("/", dependencies=[may("public")])
async def from_the_root() -> RedirectResponse:
    """A person who types the host's name alone means the back office."""
    return RedirectResponse("/office", 303)


@router.get("/office", dependencies=[may("office.use")])
async def start(request: Request, actor: Acting) -> RedirectResponse:
    """An approver begins with the inbox, an operator with what needs work, an auditor with the audit trail."""
    mine = [place.path for place in places_for(actor, request.app.state.office_paths)]
    return RedirectResponse(next((path for path in FIRST if path in mine), mine[0]), 303)
