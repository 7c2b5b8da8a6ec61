"""The pages of operators and auditors, as one list of routers for the wiring."""

from __future__ import annotations

from fastapi import FastAPI

from orchestrator.activation.asking import Asking
from orchestrator.pages import (
    activating,
    acts,
    audit,
    bulk_pages,
    cause_page,
    definitions,
    erasure_pages,
    evidence_pages,
    find,
    levels,
    message_page,
    operations,
    saga_page,
    sagas,
    system,
    verify,
)
from orchestrator.pages.bulk_work import BulkWork
from orchestrator.pages.chores import Chores
from orchestrator.pages.reading import Office
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.supervisor import Pulse
from orchestrator.store.activations import Activations


def install(app: FastAPI, runtime: Runtime) -> None:
    """Adds them, and what they read with."""
    app.state.office = office = Office(runtime)
    activations = Activations(runtime.store.pools)
    app.state.asking = Asking(app.state.engine, office, runtime.catalog, runtime.settings, activations)
    pulse = Pulse("office", runtime.settings.stall_ms_max)
    chores = Chores([office.finding.fill, BulkWork(office, lambda: app.state.engine).round])
    runtime.add("office", lambda stopping: chores.run(stopping, pulse), pulse)
    for module in (
        sagas,
        find,
        acts,
        saga_page,
        message_page,
        operations,
        cause_page,
        bulk_pages,
        audit,
        evidence_pages,
        erasure_pages,
        levels,
        definitions,
        activating,
        system,
        verify,
    ):
        app.include_router(module.router)
