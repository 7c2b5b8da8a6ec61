"""The pages of operators and auditors, as one list of routers for the wiring."""

from __future__ import annotations

from fastapi import FastAPI

from orchestrator.pages import acts, audit, definitions, levels, message_page, operations, saga_page, sagas, system
from orchestrator.pages.reading import Office
from orchestrator.runtime.app import Runtime


def install(app: FastAPI, runtime: Runtime) -> None:
    """Adds them, and what they read with."""
    app.state.office = Office(runtime)
    for module in (sagas, acts, saga_page, message_page, operations, audit, levels, definitions, system):
        app.include_router(module.router)
