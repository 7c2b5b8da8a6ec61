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
from orchestrator.logs import about
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.hints import Hint, Hints
from orchestrator.runtime.identity import trace_id_of
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Cause, EarlyCheck, Item, SagaInput
from orchestrator.store.contract import Store, StoreError

RETRY_MS = 200
IDLE_US_MIN = 60_000_000
NAMED_MAX = 1_000

log = structlog.get_logger("orchestrator.reconciler")


class Reconciler:
    """Drives resumes and checks, reports orphans and trims old rows.

    orphans: looks at some sagas, other ones each time; gives ids of live ones that wait for nothing now. trim: one pass
    over old rows; how many went.
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
        trim_ms: int = 1_000,
        orphans: Callable[[], Awaitable[list[str]]] | None = None,
        trim: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._store, self._coordinator, self._hints = store, coordinator, hints
        self._tenant = tenant
        self._poll_ms, self._batch_rows = poll_ms, batch_rows
        self._report_ms, self._trim_ms = report_ms, trim_ms
        self._orphans, self._trim = orphans, trim
        self.orphans: list[str] = []
        self.trimmed_rows = 0

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
        """Looks for orphans, now and then."""
        await self._now_and_then(stopping, pulse, self._report_ms, self.report_now)

    async def trimming(self, stopping: Stopping, pulse: Pulse) -> None:
        """Deletes old rows, a pass now and then."""
        await self._now_and_then(stopping, pulse, self._trim_ms, self.trim_now)

    async def report_now(self) -> None:
        """Looks for orphans once."""
        if self._orphans is None:
            return
        suspects = await self._orphans()
        found = await self._idle(suspects) if suspects else {}
        for saga_id, traceparent in found.items():
            if saga_id not in self.orphans:
                log.error("a live saga waits for nothing: a bug", **about(saga_id, trace_id_of(traceparent, saga_id)))
        # A look covers a part of the sagas: what earlier looks found stays until a look finds nothing at all.
        self.orphans = list(dict.fromkeys((*self.orphans, *found)))[:NAMED_MAX] if suspects else []

    async def _idle(self, suspects: list[str]) -> dict[str, str]:
        """Those that nobody has written to for a while, with the trace that they began in: a message between two sagas
        is in no table for a moment."""
        async with self._store.batch() as batch:
            heads, _ = await batch.claim(suspects, [], [])
            oldest = batch.now - IDLE_US_MIN
            idle = [head.saga_id for head in heads.values() if not head.ended and head.recorded_at < oldest]
            streams = await batch.streams(idle[:NAMED_MAX]) if idle else {}
        return {saga_id: streams[saga_id][0].traceparent if saga_id in streams else "" for saga_id in idle}

    async def trim_now(self) -> None:
        """One pass over old rows."""
        if self._trim is not None:
            self.trimmed_rows += await self._trim()

    async def _now_and_then(
        self, stopping: Stopping, pulse: Pulse, pause_ms: int, once: Callable[[], Awaitable[None]]
    ) -> None:
        while not stopping:
            try:
                await once()
                pulse.beat()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
            await stopping.sleep(pause_ms)

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
