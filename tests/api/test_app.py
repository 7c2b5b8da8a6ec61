"""The application refuses to be made where its routes contradict, or would let somebody in without a name."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI

from orchestrator.api import letters, sagas, tasks
from orchestrator.api.app import check_routes, saga_routers
from orchestrator.api.desk import TaskDesk
from orchestrator.api.engine import Acting, Actor, Engine, may
from orchestrator.runtime.catalog import CatalogError


def application(*routers: APIRouter) -> FastAPI:
    """An application with our routes and these."""
    app = FastAPI(openapi_url=None)
    for router in (sagas.router, tasks.router, letters.router, *routers):
        app.include_router(router)
    return app


def test_our_own_routes_are_seen_and_fine() -> None:
    """The check looks at every route, also of included routers."""
    assert check_routes(application()) >= 13


def test_two_routes_for_one_path_stop_the_start() -> None:
    """Also where only the names of their parameters differ."""
    router = APIRouter()

    @router.get("/v1/sagas/{other_name}", dependencies=[may("saga.read")])
    async def mine(actor: Acting) -> None: ...

    with pytest.raises(CatalogError, match=r"two routes answer GET /v1/sagas/.*change one path"):
        check_routes(application(router))


@pytest.mark.parametrize("path", ["/v1/open", "/chat", "/office/x"])
def test_a_route_that_does_not_say_who_may_stops_the_start(path: str) -> None:
    """Deny by default, for every path and every package: to know who asks is not to say who may."""
    router = APIRouter()

    @router.get(path)
    async def open_to_all(actor: Acting) -> None: ...

    with pytest.raises(CatalogError, match=f"open_to_all: route {path} does not say who may"):
        check_routes(application(router))


def test_a_mounted_application_stops_the_start() -> None:
    """Nothing asks who may there, and its routes are not seen from here."""
    app = application()
    app.mount("/files", FastAPI())
    with pytest.raises(CatalogError, match="route /files does not say who may"):
        check_routes(app)


def test_an_action_counts_at_any_depth() -> None:
    """A dependency of a dependency is a dependency; the public ones say so."""
    router = APIRouter()

    async def manager(actor: Acting, _: Annotated[None, may("task.read")]) -> Actor:
        return actor

    @router.get("/v1/managers")
    async def managers(who: Actor = Depends(manager)) -> None: ...  # noqa: B008

    @router.get("/public", dependencies=[may("public")])
    async def public() -> None: ...

    check_routes(application(router))


def test_an_action_that_nobody_knows_cannot_be_stated() -> None:
    """A misspelt action would be refused to everybody, much later."""
    with pytest.raises(ValueError, match=r"no action 'saga\.reed'"):
        may("saga.reed")


def test_routes_of_packages_are_found_below_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`routes.router` of the module and of packages in it; a routes module without one is an error."""
    inner = tmp_path / "routed_sagas" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("")
    (inner / "routes.py").write_text("from fastapi import APIRouter\nrouter = APIRouter()\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [module.__name__ for module, _ in saga_routers(["routed_sagas"])] == ["routed_sagas.inner.routes"]
    (inner.parent / "routes.py").write_text("")
    with pytest.raises(CatalogError, match=r"routed_sagas\.routes has no `router`"):
        list(saga_routers(["routed_sagas"]))


def test_nothing_that_a_route_may_ask_has_a_tenant_by_default() -> None:
    """What is left out would be looked for among another bank's sagas, or be shown from them."""
    for owner in (Engine, TaskDesk):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            found = inspect.signature(method).parameters
            for parameter in ("tenant", "actor"):
                if parameter in found and not name.startswith("_"):
                    assert found[parameter].default is inspect.Parameter.empty, f"{owner.__name__}.{name}: {parameter}"
    assert "tenant" in inspect.signature(Engine.find).parameters
