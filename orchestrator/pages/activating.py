"""Asking that a version takes new sagas: what would change and for whom stands before the button (ADR 67).

Rules of this file
- Nothing is switched here: a request becomes a task in somebody else's inbox, and what is shown here is shown there.
- The form carries a key of its own: a double click is one request.
"""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from fastapi import Path, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.activation.asking import Standing
from orchestrator.api.definitions import AskingOf
from orchestrator.api.engine import Acting, Actor, may
from orchestrator.api.problems import PROBLEMS
from orchestrator.api.views import RefusedError
from orchestrator.definition.draw import difference
from orchestrator.pages.acts import KEY_CHARACTERS_MAX, reason_errors
from orchestrator.pages.reading_forms import form_of
from orchestrator.pages.site import office_router, page

router = office_router()

Version = Annotated[int, Path(ge=1, le=1_000_000)]


@router.get("/definitions/{name}/{version}/activate", dependencies=[may("definition.activate")])
async def look(request: Request, asking: AskingOf, actor: Acting, name: str, version: Version) -> Response:
    """What the version would change, and the form to ask."""
    return await _page(request, asking, actor, name, version)


@router.post("/definitions/{name}/{version}/activate", dependencies=[may("definition.activate")])
async def ask(request: Request, asking: AskingOf, actor: Acting, name: str, version: Version) -> Response:
    """Asks."""
    form = await form_of(request)
    reason = form.one("reason").strip()
    errors = reason_errors(reason)
    if errors:
        return await _page(request, asking, actor, name, version, reason=reason, errors=errors, status=422)
    try:
        key = form.one("key")[:KEY_CHARACTERS_MAX]
        await asking.ask(actor, name, version, reason, message_id=key)
    except RefusedError as error:
        status = PROBLEMS[error.code].status if error.code in PROBLEMS else 409
        return await _page(request, asking, actor, name, version, reason=reason, refused=error, status=status)
    return RedirectResponse(f"/office/definitions/{name}/{version}?said=asked", 303)


async def _page(
    request: Request,
    asking: AskingOf,
    actor: Actor,
    name: str,
    version: int,
    *,
    reason: str = "",
    errors: list[tuple[str, str]] | None = None,
    refused: RefusedError | None = None,
    status: int = 200,
) -> Response:
    after = await asking.graph(name, version)
    standing = await asking.standing(actor, name)
    changes, told = [], ""
    if standing.active and standing.active != version:
        changes = difference(await asking.graph(name, standing.active), after)
        told = (await asking.preflight(actor, name, standing.active, version)).sentence()
    return page(
        request, actor, "definitions/activate.html", status=status, name=name, version=version, standing=standing,
        wanted=next(one for one in standing.versions if one.version == version), changes=changes, told=told,
        reason=reason, errors=errors or [], wrong=dict(errors or []), refused=refused, key=str(uuid4()),
        can_ask=_can_ask(standing, version),
    )  # fmt: skip


def _can_ask(standing: Standing, version: int) -> bool:
    wanted = next(one for one in standing.versions if one.version == version)
    is_free = standing.activation == "approval" and standing.request is None
    return is_free and wanted.state != "active" and wanted.installed and not wanted.lacking
