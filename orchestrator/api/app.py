"""`create_app(runtime)`: the HTTP application of a running product, with the routes of the installed saga packages.

Rules of this file
- Our own routes live under `/v1`; saga packages bring their own, as `routes.router` of the package. Two routes for the
  same method and path stop the start: which of them answers must never depend on the order of imports.
- Every route states its action (`may(...)`), a public one too; the application is not made with one that states none.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts

from orchestrator.api import (
    absences,
    audit,
    away,
    definitions,
    events,
    evidence,
    health,
    lending,
    letters,
    levels,
    notices,
    problems,
    sagas,
    security,
    sign_in,
    subjects,
    tasks,
)
from orchestrator.api.body import StrictBody
from orchestrator.api.engine import Engine, may
from orchestrator.api.identity import Stated
from orchestrator.api.tracing import Traced
from orchestrator.evidence.pack.serving import Packs
from orchestrator.identity.gate import Identity
from orchestrator.identity.watch import Watch
from orchestrator.metrics.http import Measured
from orchestrator.pages import wiring as pages
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import CatalogError
from orchestrator.vault.showing import Showing

ROUTES = "routes"
_PARAMETER = re.compile(r"\{[^}]*\}")


def create_app(runtime: Runtime) -> FastAPI:
    """The application. Raises CatalogError where routes contradict or a package's routes cannot be imported."""
    engine = Engine(runtime)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine, app.state.live, watching(app.state.identity):
            yield

    # No interactive documentation pages: they load scripts from other hosts. /openapi.json is there.
    app = FastAPI(title="Saga orchestrator", lifespan=lifespan, openapi_url=None, redirect_slashes=False)
    app.state.engine = engine
    app.state.metrics = runtime.metrics
    app.state.stopping = asyncio.Event()  # replaced by the server's own
    settings = runtime.settings
    app.state.identity = Identity(settings, runtime.store.pools, tenant=settings.tenant, tenants=settings.tenants)
    app.state.actions, app.state.parameters = {}, {}  # by endpoint, when the routes are there
    if runtime.vault is not None:
        app.add_middleware(Showing, vault=runtime.vault)
    app.add_middleware(StrictBody, bytes_max=settings.message_bytes_max, secure=settings.is_https)
    app.state.sampler = runtime.telemetry.sampler
    app.add_middleware(Watch, identity=app.state.identity, actions=app.state.actions)
    app.add_middleware(Traced, add=runtime.traces.add_request)
    app.add_middleware(Measured, served=runtime.metrics.requests().served)  # outermost
    problems.install(app)
    away.install(app)
    app.include_router(about())
    for part in (
        health,
        sagas,
        tasks,
        absences,
        letters,
        lending,
        events,
        audit,
        evidence,
        levels,
        notices,
        security,
        sign_in,
        subjects,
        definitions,
    ):
        app.include_router(part.router)
    app.state.notices = notices.desk_of(runtime)
    people = runtime.vault.keys if runtime.vault is not None else None
    app.state.packs = Packs(runtime.store.pools, settings.evidence_ring, settings.evidence_zone, people)
    pages.install(app, runtime)
    for module, router in saga_routers(settings.saga_modules):
        app.include_router(router, tags=[module.__name__.rpartition(".")[0]])
    pages.ready(app)
    check_routes(app)
    for route in iter_route_contexts(app.routes):
        app.state.actions[route.endpoint] = action_of(route)
        if (route.path or "").startswith("/v1/"):
            app.state.parameters[route.endpoint] = _parameters(route.dependant)
    return app


@asynccontextmanager
async def watching(identity: Identity) -> AsyncIterator[None]:
    """Writes the security log for as long as the application serves, and what is left of it when that ends."""
    writing = asyncio.create_task(identity.log.run(), name="security-log")
    try:
        yield
    finally:
        await identity.log.stop()
        await writing
        await identity.close()


def about() -> APIRouter:
    """What the application says of itself: its description, for those who may see it, and the page of each problem."""
    router = APIRouter(tags=["about"])

    @router.get("/openapi.json", dependencies=[may("definition.read")])
    async def openapi(request: Request) -> Response:
        """This API as OpenAPI."""
        return JSONResponse(request.app.openapi(), headers={"Cache-Control": "no-store"})

    @router.get("/problems/{code}", dependencies=[may("public")])
    async def problem(code: str) -> Response:
        """What a problem's code means, and what to do."""
        return problems.page(code)

    return router


def saga_routers(modules: Sequence[str]) -> Iterator[tuple[ModuleType, APIRouter]]:
    """Every `routes.router` of the configured modules and of the packages below them."""
    for name in modules:
        module = importlib.import_module(name)
        packages = [found for found in pkgutil.iter_modules(getattr(module, "__path__", ())) if found.ispkg]
        if hasattr(module, "__path__") and importlib.util.find_spec(f"{name}.{ROUTES}") is not None:
            routes = importlib.import_module(f"{name}.{ROUTES}")
            router = getattr(routes, "router", None)
            if not isinstance(router, APIRouter):
                raise CatalogError(
                    f"{routes.__name__} has no `router`: write router = APIRouter() and put routes on it"
                )
            yield routes, router
        yield from saga_routers([f"{name}.{found.name}" for found in packages])


def check_routes(app: FastAPI) -> int:
    """How many routes there are. Raises CatalogError for two that answer alike, or one that states no action."""
    seen: dict[tuple[str, str], str] = {}
    for route in iter_route_contexts(app.routes):
        path, endpoint = route.path or "", route.endpoint
        where = f"{getattr(endpoint, '__module__', '?')}.{getattr(endpoint, '__name__', '?')}"
        for method in route.methods or ():
            other = seen.setdefault((method, _PARAMETER.sub("{}", path)), where)
            if other != where:
                raise CatalogError(f"two routes answer {method} {path}: {other} and {where}; change one path")
        if not action_of(route):
            raise CatalogError(
                f"{where}: route {path} does not say who may: add dependencies=[may(...)] with an action of "
                'orchestrator/identity/rules.py, for example may("saga.read"), or may("public") for everybody'
            )
    return len(seen)


def action_of(route: Any) -> str:
    """The action that a route states, "" where it states none (as a mounted application, which is never let in)."""
    return _stated(getattr(route, "dependant", None))


def _parameters(dependant: Any) -> frozenset[str]:
    """The names of all query parameters, those of dependencies too."""
    found = {parameter.alias for parameter in dependant.query_params}
    return frozenset(found.union(*(_parameters(inner) for inner in dependant.dependencies)))


def _stated(dependant: Any) -> str:
    for inner in dependant.dependencies if dependant is not None else ():
        found = inner.call.action if isinstance(inner.call, Stated) else _stated(inner)
        if found:
            return str(found)
    return ""
