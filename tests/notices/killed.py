"""A process that plans and sends notices, and kills itself where it was told to: `url directory point`.

Points: before-plan (records read, nothing written) · after-plan (written, nobody told) · before-mark (sent, not
marked) · none (does all there is to do, and ends).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from orchestrator.notices.mail import sender_of
from orchestrator.notices.mailbox import Mailbox
from orchestrator.notices.planner import Planner, Reach
from orchestrator.notices.sender import Sender, Sending
from orchestrator.notices.store import NoticeStore, Row, Settled
from orchestrator.notices.texts import Texts
from orchestrator.store.postgres import PostgresStore


def die() -> None:
    """Nothing is flushed, closed or said."""
    os.kill(os.getpid(), signal.SIGKILL)


class Killing(NoticeStore):
    """Dies at a point."""

    point = "none"

    async def plan(self, before: int, after: int, rows: Sequence[Row]) -> bool:
        """Dies before or after there are rows to write."""
        if rows and self.point == "before-plan":
            die()
        done = await super().plan(before, after, rows)
        if rows and self.point == "after-plan":
            die()
        return done

    async def settle(self, settled: Sequence[Settled]) -> int:
        """Dies when something was sent and is to be marked."""
        if settled and self.point == "before-mark":
            die()
        return await super().settle(settled)


async def main(url: str, directory: Path, point: str) -> None:
    """Plans and sends until there is nothing to do."""
    async with PostgresStore(url) as store:
        kept = Killing(store.pools)
        kept.point = point
        reach = Reach(mail=True, mail_domain="bank.example")
        planner = Planner(store, kept, reach, poll_ms=10, batch_records=100, age_ms_max=3_600_000)
        while await planner.plan():
            pass
        mailbox = Mailbox(directory, sender_of("Approvals <approvals@bank.example>"))
        limits = Sending(lease_ms=1_500, attempt_ms=1_000)
        sender = Sender(kept, Texts(lambda: "https://office.bank.example"), {"mail": mailbox}, limits)
        while await sender.send():
            pass


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
