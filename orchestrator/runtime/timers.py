"""Timers: what has come due, as inputs, through the coordinator like everything else.

Rules of this file
- One clock: the database's. Nothing here compares two machines' clocks; the hint only says when to look.
- A timer acts only up to the instant to which intake has read (kernel rule 31), so an outage expires nothing that was
  answered in time. While intake is behind, timers wait, and say so.
- Two processes may find the same timer: its head is locked in the batch, and who comes second finds it stale.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from orchestrator.kernel.inputs import TimerDue
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.hints import Hints
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Cause, SagaInput
from orchestrator.store.contract import Store, StoreError

RETRY_MS = 200
ASK_AGAIN_BEHIND_US = 1_000_000
SOON_MS = 5  # a timer hinted at is looked for this much after its instant, so that one look is enough

log = structlog.get_logger("orchestrator.timers")


class Timers:
    """Fires due timers. `behind_ms`: intake further behind than this is reported as trouble.

    read_until: the instant up to which the topics that are wanted today are read; None while a partition of them was
    never read. It is asked until it has answered once, since a partition that was never read is missing in the store's
    own answer; afterwards only where that answer (over everything the group ever read) is behind: a topic that no
    installed saga wants any more stands still for ever, and must not hold every timer back.
    """

    def __init__(
        self,
        store: Store,
        coordinator: Coordinator,
        hints: Hints,
        *,
        group: str,
        tenant: str,
        poll_ms: int,
        batch_rows: int,
        behind_ms: int,
        read_until: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        self._store, self._coordinator, self._hints = store, coordinator, hints
        self._group, self._tenant = group, tenant
        self._wanted_read_until = read_until
        self._all_read = read_until is None  # every wanted partition has been read by somebody
        self._poll_ms, self._batch_rows, self._behind_ms = poll_ms, batch_rows, behind_ms
        self.fired = 0
        self.behind_us = 0  # how far intake is behind the database's clock, as last seen

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Fires timers until asked to stop."""
        while not stopping:
            try:
                more = await self.fire()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                await stopping.sleep(RETRY_MS)
                continue
            if self.behind_us > self._behind_ms * 1000:
                pulse.trouble(f"intake is {self.behind_us // 1000} ms behind; timers wait for it")
            else:
                pulse.beat()
            if not more:
                await self._hints.timers.wait(self._hints.timer_pause_ms(self._poll_ms, SOON_MS))

    async def fire(self) -> bool:
        """Fires what is due now; True where more may be due. Raises StoreError."""
        until = await self._store.read_until(self._group)
        now = self._hints.clock.now()
        behind = until is not None and now - until > ASK_AGAIN_BEHIND_US
        if self._wanted_read_until is not None and (behind or not self._all_read):
            until = await self._wanted_read_until()
            self._all_read = self._all_read or until is not None
        # Never read at all means that nobody knows what arrived in time: no timer may act yet.
        self.behind_us = now - until if until is not None and now else 0
        if until is None:
            return False
        due = await self._store.due_timers(until, self._batch_rows)
        if not due:
            return False
        items = [
            SagaInput(saga_id, TimerDue(activity, armed), Cause(self._tenant, causation_id=f"timer:{armed}"))
            for saga_id, activity, armed in due
        ]
        await self._coordinator.process(items)
        self.fired += len(items)
        return len(due) == self._batch_rows
