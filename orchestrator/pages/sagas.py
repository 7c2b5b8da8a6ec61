"""The list of sagas: one search box, facets with counts, the URL as the whole state.

Rules of this file
- `find` takes whatever somebody has in hand: a saga id, a business key, a task id. An exact hit opens it.
- Facets count the newest sagas up to a limit, and say so; the list itself has no hidden range.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.views import task_of
from orchestrator.pages.reading import OfficeOf
from orchestrator.pages.saga_words import state_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.store.operations import COUNTED_MAX

router = office_router()

ROWS = 50
STATES = {
    "": "All", "live": "Under way", "stuck": "Stuck", "undoing": "Going back", "completed": "Completed",
    "compensated": "Undone",
}  # fmt: skip
_PHASES = {"live": "forward", "undoing": "compensating", "completed": "completed", "compensated": "compensated"}
_WAITING = {"": "Anything", "task ": "A person", "wait ": "An event", "step ": "A participant", "delay ": "A pause",
            "call ": "Another saga", "operator ": "An operator", "undo ": "An undo"}  # fmt: skip

Text = Annotated[str, Query(max_length=500)]


@router.get("/sagas", dependencies=[may("saga.read")])
async def sagas(
    request: Request,
    engine: EngineOf,
    office: OfficeOf,
    actor: Acting,
    q: Text = "",
    name: Text = "",
    state: Text = "",
    waiting: Text = "",
    cursor: Text = "",
) -> Response:
    """Sagas, newest first."""
    state = state if state in STATES else ""
    waiting = waiting if waiting in _WAITING else ""
    found = await engine.sagas(
        actor,
        name=name or None,
        business_key=q or None,
        phase=_PHASES.get(state),
        waiting_for=waiting or None,
        stuck=True if state == "stuck" else None,
        limit=ROWS,
        cursor=cursor,
    )
    facets = await office.facets(actor)
    names, states = Counter[str](), Counter[str]()
    for facet in facets:
        names[facet.name] += facet.sagas
        key = next((key for key, phase in _PHASES.items() if phase == facet.phase), "undoing")
        if not name or name == facet.name:
            states[key] += facet.sagas
            states["stuck"] += facet.sagas if facet.is_stuck else 0
            states[""] += facet.sagas
    here = {"q": q, "name": name, "state": state, "waiting": waiting}
    return page(
        request,
        actor,
        "sagas/list.html",
        rows=[(saga, state_of(saga)) for saga in found.items],
        here=here,
        tabs=[
            (label, query_text(**{**here, "state": key}) or "?", key == state, states[key] if facets else None)
            for key, label in STATES.items()
        ],
        names=sorted(names.items()),
        waitings=list(_WAITING.items()),
        counted_max=COUNTED_MAX,
        is_counted_all=sum(names.values()) < COUNTED_MAX,
        next=query_text(**here, cursor=found.next) if found.next else "",
        first=query_text(**here) or "?" if cursor else "",
    )


@router.get("/find", dependencies=[may("office.use")])
async def find(request: Request, engine: EngineOf, actor: Acting, q: Text = "") -> Response:
    """Opens what is named, or shows what there is by that name."""
    wanted = q.strip()
    saga_id, activity = task_of(wanted)
    saga = await engine.find(wanted, tenant=actor.tenant) if wanted else None
    if saga is None and activity:
        owner = await engine.find(saga_id, tenant=actor.tenant)
        if owner is not None:
            return RedirectResponse(f"/office/tasks/{wanted}", 303)
    if saga is not None:
        return RedirectResponse(f"/office/sagas/{saga.saga_id}", 303)
    return RedirectResponse(f"/office/sagas{query_text(q=wanted)}", 303)
