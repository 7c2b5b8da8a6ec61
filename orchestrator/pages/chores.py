"""What the back office has to do by itself, in every process that serves pages: a loop of small rounds.

Rules of this file
- A chore takes its own locks, so several processes share the work, and one that dies leaves nothing half done.
- A chore that fails is trouble that the process's health shows; it ends nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError

IDLE_MS = 1_000

log = structlog.get_logger("orchestrator.pages")

Chore = Callable[[], Awaitable[bool]]  # one round; whether there is more to do at once


class Chores:
    """The loop. `chores` are done in turn."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Rounds until stopped."""
        while not stopping:
            more = False
            try:
                for chore in self._chores:
                    more = await chore() or more
            except StoreError as error:
                more = False
                pulse.trouble(f"store: {error}")
            except Exception as error:  # a bug in a chore costs the chore, not the process that serves people
                more = False
                log.exception("a chore of the back office failed")
                pulse.trouble(f"{type(error).__name__}: {error}")
            else:
                pulse.beat()
            if not more:
                await stopping.sleep(IDLE_MS)
