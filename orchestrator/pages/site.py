"""`page(request, actor, "template.html", **facts)`: every page of the back office is made here.

Rules of this file
- Templates escape by default and fail on a name that is not there (StrictUndefined): a page is right or not at all.
- Each page says as of when it speaks: the server's clock, and the last record that readers may see (its position).
- Routes of pages are put on a router from `office_router()`: it loads the reader's profile once for each request.
- Nothing here is cached by a browser; assets are, see assets.py.

A page:

    router = office_router()

    @router.get("/sagas", dependencies=[may("saga.read")])
    async def sagas(request: Request, engine: EngineOf, actor: Acting) -> Response:
        return page(request, actor, "sagas/list.html", sagas=await engine.sagas(actor))

In a template: `{% extends "base.html" %}`, then blocks `title`, `content`; the macros of ui.html are there as `ui`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.routing import iter_route_contexts
from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.api.engine import Acting
from orchestrator.api.views import Actor
from orchestrator.identity.rules import may
from orchestrator.pages.assets import asset_url
from orchestrator.pages.formats import Reader
from orchestrator.pages.keeping import Keeping
from orchestrator.pages.odd_text import is_odd, marked
from orchestrator.pages.profile import Profile
from orchestrator.pages.shell import Place, places_for

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Shell:
    """What stands around a page: where we are, who looks, as of when."""

    environment: str
    tenant: str
    actor: Actor
    name: str
    capacities: frozenset[str]
    places: Sequence[Place]
    path: str
    here: str  # path and query of this page
    profile: Profile
    as_of: datetime
    position: int  # of the last record that readers may see; 0: not known yet
    csrf_token: str
    search: str = ""  # where the search box leads, and the name of its field
    search_field: str = "q"
    idle_ms: int = 0  # after which an unused session ends; 0: nobody has one
    request_id: str = ""


async def known_reader(request: Request, actor: Acting) -> None:
    """Loads how the reader wants to read, and how far the records are, before the page asks for its facts."""
    keeping: Keeping = request.app.state.keeping
    request.state.profile = await keeping.profile(actor.tenant, actor.id)
    if request.method == "GET" and "after" in request.query_params:  # a page that follows an act is not older than it
        await request.app.state.live.refresh()


def office_router() -> APIRouter:
    """A router for pages under /office. Its routes may call `page`."""
    return APIRouter(prefix="/office", tags=["pages"], include_in_schema=False, dependencies=[Depends(known_reader)])


def page(
    request: Request,
    actor: Actor,
    template: str,
    *,
    status: int = 200,
    position: int = 0,
    headers: Mapping[str, str] | None = None,
    **facts: Any,
) -> Response:
    """A page, or a fragment of one, made of a template. `position`: the facts are at least as of this record."""
    shell = shell_of(request, actor, position)
    reader = Reader(shell.profile.locale, shell.profile.zone, shell.as_of)
    text = templates().get_template(template).render({**facts, "shell": shell, "fmt": reader, "request": request})
    return HTMLResponse(text, status, headers={**HEADERS, **(headers or {})})


def shell_of(request: Request, actor: Actor, position: int = 0) -> Shell:
    """The facts around a page for this request."""
    app: FastAPI = request.app
    known: frozenset[str] = app.state.office_paths
    live = app.state.live
    query = request.url.query
    somebody = bool(actor.id)  # a stranger learns nothing of what is here
    return Shell(
        environment=app.state.environment,
        tenant=actor.tenant if somebody else "",
        actor=actor,
        name=actor.name or actor.id,
        capacities=actor.capacities,
        places=places_for(actor, known) if somebody else (),
        path=request.url.path,
        here=request.url.path + (f"?{query}" if query else ""),
        profile=getattr(request.state, "profile", Profile()),
        as_of=datetime.now(UTC),
        position=max(position, live.position) if somebody else 0,
        csrf_token=getattr(request.state, "csrf_token", ""),
        **_search(actor, known),
        idle_ms=app.state.identity.settings.session_idle_ms if getattr(request.state, "csrf_token", "") else 0,
    )


def _search(actor: Actor, known: frozenset[str]) -> dict[str, str]:
    """Whoever may see sagas looks for anything; who may not, for tasks; a stranger for nothing."""
    if actor.id and may(actor, "saga.read") and "/office/find" in known:
        return {"search": "/office/find"}
    return {"search": "/office/inbox", "search_field": "text"} if actor.id and may(actor, "task.read") else {}


def paths_of(app: FastAPI) -> frozenset[str]:
    """The paths that this application has, so that navigation never leads to nothing."""
    return frozenset(route.path or "" for route in iter_route_contexts(app.routes))


@cache
def templates() -> Environment:
    """The templates of the package, with what they may call."""
    environment = Environment(
        loader=PackageLoader("orchestrator.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(asset=asset_url, query=query_text, pairs_of=pairs_of, dict_of=dict_of)
    environment.tests.update(odd=is_odd)
    environment.filters.update(odd=marked, plain_json=plain_json)
    return environment


def query_text(**values: Any) -> str:
    """A query string, with its `?`, of the values that are there."""
    given = [(name, str(value)) for name, value in values.items() if value not in (None, "", False)]
    return f"?{urlencode(given)}" if given else ""


def pairs_of(wrong: Iterable[Any]) -> list[tuple[str, str]]:
    """What is wrong with a form, for `ui.errors`: each with an id and a text."""
    return [(each.id, each.text) for each in wrong]


def dict_of(wrong: Iterable[Any]) -> dict[str, str]:
    """The same by the field's id, the first of each."""
    return {each.id: each.text for each in reversed(list(wrong))}


def plain_json(value: Any) -> str:
    """A JSON value as people read it: indented, nothing escaped that need not be."""
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, default=str)
