"""The reconciler: looks again and again for what is due and was perhaps missed.

Rules of this file
- Level-triggered: it asks what is there now, never what happened; so a crash, a lost hint or a slept-through hour costs
  one poll. An error never drops an item: what was not handled is found again.
- Resumes (a turn stopped at its record limit) and checks (a wait was opened without its key's lock) are inputs like any
  other. Orphans (a live saga that waits for nothing, kernel rule 29) are a bug: they are reported, never mended here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from orchestrator.kernel.inputs import Resume
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.hints import Hint, Hints
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Cause, EarlyCheck, Item, SagaInput
from orchestrator.store.contract import Store, StoreError

RETRY_MS = 200
NAMED_ORPHANS_MAX = 10

log = structlog.get_logger("orchestrator.reconciler")


class Reconciler:
    """Drives resumes and checks, reports orphans and trims old rows.

    orphans: gives ids of live sagas that wait for nothing. trim: deletes old rows, gives how many.
    """

    def __init__(
        self,
        store: Store,
        coordinator: Coordinator,
        hints: Hints,
        *,
        tenant: str,
        poll_ms: int,
        batch_rows: int,
        report_ms: int,
        orphans: Callable[[], Awaitable[list[str]]] | None = None,
        trim: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._store, self._coordinator, self._hints = store, coordinator, hints
        self._tenant = tenant
        self._poll_ms, self._batch_rows, self._report_ms = poll_ms, batch_rows, report_ms
        self._orphans, self._trim = orphans, trim
        self.orphans: list[str] = []

    async def resumes(self, stopping: Stopping, pulse: Pulse) -> None:
        """Goes on with sagas that stopped at the record limit of a turn."""
        await self._loop(stopping, pulse, self._hints.resumes, self.resume)

    async def checks(self, stopping: Stopping, pulse: Pulse) -> None:
        """Looks for early events of waits that were opened without their key's lock."""
        await self._loop(stopping, pulse, self._hints.checks, self.check)

    async def resume(self) -> bool:
        """Handles due resumes once; True where more may be due."""
        sagas = await self._store.due_resumes(self._batch_rows)
        items = [SagaInput(saga_id, Resume(), Cause(self._tenant, causation_id="resume")) for saga_id in sagas]
        return await self._process(items)

    async def check(self) -> bool:
        """Handles due checks once; True where more may be due."""
        waiting = await self._store.due_checks(self._batch_rows)
        items = [EarlyCheck(wait, Cause(self._tenant, causation_id="check")) for wait in waiting]
        return await self._process(items)

    async def report(self, stopping: Stopping, pulse: Pulse) -> None:
        """Counts orphans and trims old rows, now and then."""
        while not stopping:
            await stopping.sleep(self._report_ms)
            if stopping:
                return
            try:
                await self.report_now()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                continue
            pulse.beat()

    async def report_now(self) -> None:
        """Looks for orphans and trims, once."""
        if self._orphans is not None:
            found = await self._orphans()
            if found and found != self.orphans:
                log.error("live sagas wait for nothing: a bug", sagas=found[:NAMED_ORPHANS_MAX], count=len(found))
            self.orphans = found
        if self._trim is not None:
            while await self._trim():
                pass

    async def _process(self, items: Sequence[Item]) -> bool:
        if items:
            await self._coordinator.process(items)
        return len(items) == self._batch_rows

    async def _loop(self, stopping: Stopping, pulse: Pulse, hint: Hint, once: Callable[[], Awaitable[bool]]) -> None:
        while not stopping:
            try:
                more = await once()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                await stopping.sleep(RETRY_MS)
                continue
            pulse.beat()
            if not more:
                await hint.wait(self._poll_ms)
