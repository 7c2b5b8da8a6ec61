"""The pages of operators and auditors, as one list of routers for the wiring."""

from __future__ import annotations

from fastapi import FastAPI

from orchestrator.pages import (
    acts,
    audit,
    definitions,
    find,
    levels,
    message_page,
    operations,
    saga_page,
    sagas,
    system,
)
from orchestrator.pages.chores import Chores
from orchestrator.pages.reading import Office
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.supervisor import Pulse


def install(app: FastAPI, runtime: Runtime) -> None:
    """Adds them, and what they read with."""
    app.state.office = office = Office(runtime)
    pulse = Pulse("office", runtime.settings.stall_ms_max)
    chores = Chores([office.finding.fill])
    runtime.add("office", lambda stopping: chores.run(stopping, pulse), pulse)
    for module in (sagas, find, acts, saga_page, message_page, operations, audit, levels, definitions, system):
        app.include_router(module.router)
