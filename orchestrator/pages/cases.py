"""Loads what a trial needs: a saga's state, its stored definition, the code that is installed for its version."""

from __future__ import annotations

from orchestrator.api.reading import Reading
from orchestrator.api.views import TaskView
from orchestrator.pages.previews import Case, case_of
from orchestrator.runtime.app import Runtime


class Cases:
    """The cases of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._read = Reading(runtime.store)
        self._catalog = runtime.catalog

    async def of(self, tenant: str, task: TaskView) -> Case:
        """The case of a task. Raises RefusedError `not_found`."""
        saga = await self._read.find(tenant, task.saga_id, None)
        state, _ = await self._read.state(tenant, task.saga_id)
        version = saga.version if saga is not None else 0
        installed = self._catalog.sagas.get((task.saga_name, version))
        data = None if installed is not None else await self._read.graph(task.saga_name, version)
        return case_of(state, data, installed.program if installed is not None else None)
