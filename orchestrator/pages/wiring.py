"""Puts the pages on an application: assets, routes, and what pages find in `app.state`."""

from __future__ import annotations

from fastapi import FastAPI

from orchestrator.pages import assets, help_pages, start
from orchestrator.pages.live import Live
from orchestrator.pages.site import paths_of
from orchestrator.runtime.app import Runtime


def install(app: FastAPI, runtime: Runtime) -> None:
    """Adds the back office. Call `ready` once all routes are there."""
    app.state.environment = getattr(runtime.settings, "environment", "development")
    app.state.live = Live(runtime.store.pools)
    for router in (assets.router, start.router, help_pages.router):
        app.include_router(router)


def ready(app: FastAPI) -> None:
    """After the last route: navigation knows now where it may lead."""
    app.state.office_paths = paths_of(app)
