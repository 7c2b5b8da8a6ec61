"""`create_app(runtime)`: the HTTP application of a running product, with the routes of the installed saga packages.

Rules of this file
- Our own routes live under `/v1`; saga packages bring their own, as `routes.router` of the package. Two routes for the
  same method and path stop the start: which of them answers must never depend on the order of imports.
- Everything under `/v1` needs an actor; a route without one is refused when the application is made.
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

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts

from orchestrator.api import events, health, letters, problems, sagas, tasks
from orchestrator.api.body import StrictBody
from orchestrator.api.engine import Engine, actor_of
from orchestrator.pages import wiring as pages
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import CatalogError

ROUTES = "routes"
_PARAMETER = re.compile(r"\{[^}]*\}")


def create_app(runtime: Runtime) -> FastAPI:
    """The application. Raises CatalogError where routes contradict or a package's routes cannot be imported."""
    engine = Engine(runtime)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with engine, app.state.live:
            yield

    # No interactive documentation pages: they load scripts from other hosts. /openapi.json is there.
    app = FastAPI(title="Saga orchestrator", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.engine = engine
    app.state.stopping = asyncio.Event()  # replaced by the server's own
    app.add_middleware(StrictBody, bytes_max=runtime.settings.message_bytes_max)
    problems.install(app)
    for router in (health.router, sagas.router, tasks.router, letters.router, events.router):
        app.include_router(router)
    pages.install(app, runtime)
    for module, router in saga_routers(runtime.settings.saga_modules):
        app.include_router(router, tags=[module.__name__.rpartition(".")[0]])
    pages.ready(app)
    check_routes(app)
    return app


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
    """How many routes there are. Raises CatalogError for two that answer alike, or a nameless one under /v1."""
    seen: dict[tuple[str, str], str] = {}
    for route in iter_route_contexts(app.routes):
        path, endpoint = route.path or "", route.endpoint
        where = f"{getattr(endpoint, '__module__', '?')}.{getattr(endpoint, '__name__', '?')}"
        for method in route.methods or ():
            other = seen.setdefault((method, _PARAMETER.sub("{}", path)), where)
            if other != where:
                raise CatalogError(f"two routes answer {method} {path}: {other} and {where}; change one path")
        if path.startswith("/v1/") and not _asks_who(route.dependant):
            raise CatalogError(f"{where}: a route under /v1 must ask who acts: add a parameter `actor: Acting`")
    return len(seen)


def _asks_who(dependant: Any) -> bool:
    """True where the actor is among the dependencies, at any depth."""
    return any(inner.call is actor_of or _asks_who(inner) for inner in dependant.dependencies)
