"""Puts the pages on an application: assets, routes, and what pages find in `app.state`."""

from __future__ import annotations

from fastapi import FastAPI

from orchestrator.pages import (
    assets,
    deciding,
    decision_pages,
    errors,
    help_pages,
    inbox_pages,
    profile_pages,
    start,
    stream_pages,
    task_acts,
    task_pages,
    working,
)
from orchestrator.pages.cases import Cases
from orchestrator.pages.keeping import Keeping
from orchestrator.pages.live import Live
from orchestrator.pages.sign_in_page import dressed
from orchestrator.pages.site import paths_of
from orchestrator.runtime.app import Runtime

ROUTERS = (
    assets.router, start.router, inbox_pages.router, deciding.router, task_acts.router, task_pages.router,
    decision_pages.router, profile_pages.router, help_pages.router, stream_pages.router,
)  # fmt: skip


def install(app: FastAPI, runtime: Runtime) -> None:
    """Adds the back office. Call `ready` once all routes are there."""
    app.state.environment = app.state.identity.settings.environment
    app.state.sign_in_page = dressed
    app.state.live = Live(runtime.store)
    app.state.keeping = Keeping(runtime.store.pools)
    app.state.cases = Cases(runtime)
    app.state.runtime = runtime
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    working.install(app, runtime)


def ready(app: FastAPI) -> None:
    """After the last route: navigation knows now where it may lead."""
    app.state.office_paths = paths_of(app)
