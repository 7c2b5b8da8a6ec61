"""The list of sagas: one search box, facets with counts, the URL as the whole state.

Rules of this file
- What somebody has in hand, whatever it is, is looked for in find.py; several sagas of one trace end here as a list.
- Facets count the newest sagas up to a limit, and say so; the list itself has no hidden range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.views import Actor, SagaView
from orchestrator.pages.reading import ModelsOf, Office, OfficeOf, own_cursor
from orchestrator.pages.saga_words import state_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.pages.when import instant_of
from orchestrator.store.operations import COUNTED_MAX, Facet
from projections.answers import Complete, Journey
from projections.models import Models

router = office_router()

ROWS = 50
STATES = {
    "": "All", "live": "Under way", "due": "Due next", "stuck": "Stuck", "undoing": "Going back",
    "completed": "Completed", "compensated": "Undone",
}  # fmt: skip
_PHASES = {"live": "forward", "undoing": "compensating", "completed": "completed", "compensated": "compensated"}
_WAITING = {"": "Anything", "task ": "A person", "wait ": "An event", "step ": "A participant", "delay ": "A pause",
            "call ": "Another saga", "operator ": "An operator", "undo ": "An undo"}  # fmt: skip

Text = Annotated[str, Query(max_length=500)]


@dataclass(frozen=True, slots=True)
class Row:
    """One saga of the list. `due`, `sla` and `customer` are known where the read model was asked."""

    saga: SagaView
    state: tuple[str, str]
    due: datetime | None = None
    sla: str = ""
    customer: str = ""


@router.get("/sagas", dependencies=[may("saga.read")])
async def sagas(
    request: Request,
    engine: EngineOf,
    office: OfficeOf,
    models: ModelsOf,
    actor: Acting,
    q: Text = "",
    customer: Text = "",
    name: Text = "",
    state: Text = "",
    waiting: Text = "",
    trace: Text = "",
    cursor: Text = "",
) -> Response:
    """Sagas, newest first; those that are due next, the most urgent first."""
    state = state if state in STATES else ""
    here = {"q": q, "customer": customer, "name": name, "state": state}
    here["waiting"] = waiting if waiting in _WAITING else ""
    here["trace"] = trace
    complete = None
    if trace:
        rows, following = await _of_trace(engine, office, actor, trace), ""
    elif state == "due" or customer:
        with own_cursor():
            known = {**here, "customer": await engine.known_as(actor, customer) or ""}
            rows, following, complete = await _from_model(models, actor, known, cursor)
    else:
        rows, following = await _from_store(engine, actor, here, cursor)
    names, states, counted = _facets(await office.facets(actor), name)
    return page(
        request,
        actor,
        "sagas/list.html",
        rows=rows,
        here=here,
        tabs=[
            (
                label,
                query_text(**{**here, "state": key}) or "?",
                key == state,
                states.get(key) if key != "due" else None,
            )
            for key, label in STATES.items()
        ],
        names=sorted(names.items()),
        waitings=list(_WAITING.items()),
        counted_max=COUNTED_MAX,
        is_counted_all=counted < COUNTED_MAX,
        complete=complete,
        next=query_text(**here, cursor=following) if following else "",
        first=query_text(**here) or "?" if cursor else "",
        opened=datetime.now(UTC).isoformat(),
        fresh=0,
    )


@router.get("/sagas/fresh", dependencies=[may("saga.read")])
async def fresh(
    request: Request, engine: EngineOf, actor: Acting, since: Text = "", name: Text = "", q: Text = ""
) -> Response:
    """How many sagas have begun since a list was opened: they come in when the reader asks, never by themselves."""
    opened = instant_of(since, "UTC")
    found = await engine.sagas(actor, name=name or None, business_key=q or None, limit=ROWS)
    new = sum(1 for saga in found.items if opened is not None and saga.started_at > opened)
    return page(request, actor, "sagas/_fresh.html", here={"name": name, "q": q}, opened=since, fresh=new)


async def _of_trace(engine: Engine, office: Office, actor: Actor, trace: str) -> list[Row]:
    found = [
        await engine.find(saga_id, tenant=actor.tenant)
        for saga_id in await office.finding.by_trace(actor.tenant, trace)
    ]
    sagas = sorted((saga for saga in found if saga is not None), key=lambda saga: saga.started_at, reverse=True)
    return [Row(saga, state_of(saga)) for saga in sagas]


async def _from_store(engine: Engine, actor: Actor, here: dict[str, str], cursor: str) -> tuple[list[Row], str]:
    found = await engine.sagas(
        actor,
        name=here["name"] or None,
        business_key=here["q"] or None,
        phase=_PHASES.get(here["state"]),
        waiting_for=here["waiting"] or None,
        stuck=True if here["state"] == "stuck" else None,
        limit=ROWS,
        cursor=cursor,
    )
    return [Row(saga, state_of(saga)) for saga in found.items], found.next


async def _from_model(
    models: Models, actor: Actor, here: dict[str, str], cursor: str
) -> tuple[list[Row], str, Complete]:
    """By customer, or by what is due next: the read model knows both, and says how far it is complete."""
    if here["state"] == "due" and not here["customer"]:
        answer = await models.timelines.risky(actor.tenant, limit=ROWS, cursor=cursor)
    else:
        answer = await models.timelines.search(
            actor.tenant,
            name=here["name"] or None,
            business_key=here["q"] or None,
            customer=here["customer"],
            phase=_PHASES.get(here["state"]),
            stuck=True if here["state"] == "stuck" else None,
            limit=ROWS,
            cursor=cursor,
        )
    return [_row(one) for one in answer.items], answer.next, answer.complete


def _row(one: Journey) -> Row:
    waiting = f"operator {one.place}" if one.stuck else f"{one.place_kind} {one.place}" if one.place else ""
    saga = SagaView(
        one.saga_id, one.name, one.version, one.business_key, one.phase, one.outcome, waiting, one.stuck,
        one.started_at, one.changed_at, 0,
    )  # fmt: skip
    return Row(saga, state_of(saga), one.due, one.sla, one.customer)


def _facets(facets: Sequence[Facet], name: str) -> tuple[Counter[str], Counter[str], int]:
    """How many there are by definition, and by state (of one definition, if named)."""
    names, states = Counter[str](), Counter[str]()
    for facet in facets:
        names[facet.name] += facet.sagas
        if name in ("", facet.name):
            key = next((key for key, phase in _PHASES.items() if phase == facet.phase), "undoing")
            states.update({key: facet.sagas, "": facet.sagas, "stuck": facet.sagas if facet.is_stuck else 0})
    return names, states, sum(names.values())
