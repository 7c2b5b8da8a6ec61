"""How one process reaches store and broker. Here nothing ever goes wrong; `faults.py` has the other kind.

Rules of this file: everything that a fake does for a process goes through its port, so that the port can be late, fail
before, fail after, hang, or take the process away in the middle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator.broker.contract import OutgoingMessage

Given = TypeVar("Given")


class Port:
    """A port without faults. `alive` is False once its process was killed: then nothing leaves it any more."""

    alive = True

    async def call(self, name: str, work: Callable[[], Awaitable[Given]]) -> Given:
        """Carries out one call."""
        return await work()

    async def commit(self, apply: Callable[[], None], undo: Callable[[], None]) -> None:
        """Commits: `apply` writes and frees the locks, `undo` frees them alone; exactly one of them happens, once."""
        apply()

    async def carry_out(
        self, work: Callable[[], Awaitable[None]], apply: Callable[[], None], undo: Callable[[], None]
    ) -> None:
        """One call that takes its locks, writes and commits: nothing of it is there before `work` begins."""
        try:
            await work()
        except BaseException:
            undo()
            raise
        apply()

    def fate(self, message: OutgoingMessage) -> str:
        """What becomes of one message that is sent: "" when it is taken."""
        return ""

    def roll_back(self, undo: Callable[[], None]) -> None:
        """Rolls back; a server that lost its client may do that later."""
        undo()
