"""The security log: one row for each request that asked for something protected, or was refused.

Rules of this file
- Rows are written in batches beside the requests, to a table that the application can add to and read, and no more.
- A normal stop writes what waits. Where the database is away, rows wait, up to ROWS_MAX; beyond it those of allowed
  requests make room first, and how many were lost is a row of its own.
- Strangers cannot fill the disk: beyond STRANGERS_MAX a minute an address gets rows that only count.
- What was sent is never in it: no query string, no body, no header. Texts are made visible and cut.
"""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from orchestrator.identity.keeping import SQL
from orchestrator.identity.limits import Window
from orchestrator.store.connections import Pools
from orchestrator.store.contract import StoreError

ROWS_MAX = 20_000
BATCH_ROWS = 1_000
PAUSE_SECONDS = 0.25
AGAIN_SECONDS = 2.0
STOP_SECONDS_MAX = 5.0
OBJECT_CHARACTERS_MAX = 300
STRANGERS_MAX = 1_000  # refusals of one address, of people nobody knows, that are listed one by one in a minute
FLOODING_MAX, FLOOD_SECONDS = 1_000, 10.0
LOUD = frozenset({401, 403, 429})  # also told to the process's log: somebody is not who or what they should be

log = structlog.get_logger("orchestrator.security")


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: who asked (actor "" : nobody known), for what, and what came of it."""

    at: datetime
    tenant: str
    actor: str
    authentication: str
    action: str
    object: str
    outcome: str  # allowed | refused | failed
    status: int
    code: str
    request_id: str
    address: str


class SecurityLog:
    """Takes entries at once and writes them soon. One per process; `run` for as long as it serves."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._waiting: deque[Entry] = deque()
        self._refused: deque[Entry] = deque()
        self._lost = 0
        self._strangers = Window(STRANGERS_MAX, 60)
        self._flood: dict[str, int] = {}  # address to refusals since the last row about it
        self._flood_told_at = 0.0
        self._flushing = asyncio.Lock()
        self._stopping = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._refused)

    def add(self, entry: Entry) -> None:
        """Takes an entry; never waits, never fails."""
        if not entry.actor and entry.outcome == "refused":
            if self._strangers.wait_seconds(entry.address):
                known = entry.address in self._flood or len(self._flood) < FLOODING_MAX
                name = entry.address if known else "other addresses"
                self._flood[name] = self._flood.get(name, 0) + 1
                return
            self._strangers.add(entry.address)
        if entry.outcome == "failed" or entry.status in LOUD:
            log.warning(
                "refused" if entry.outcome == "refused" else "failed",
                actor=entry.actor or "nobody",
                action=entry.action,
                object=entry.object,
                status=entry.status,
                code=entry.code,
                address=entry.address,
                trace_id=entry.request_id,
            )
        (self._waiting if entry.outcome == "allowed" else self._refused).append(entry)
        while len(self) > ROWS_MAX:
            (self._waiting or self._refused).popleft()
            self._lost += 1

    async def run(self) -> None:
        """Writes what waits, until `stop`; then what is left."""
        while not self._stopping.is_set():
            pause = PAUSE_SECONDS
            try:
                await self.flush()
            except StoreError as error:
                log.warning("the security log cannot be written", waiting=len(self), error=str(error)[:300])
                pause = AGAIN_SECONDS
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Asks `run` to end and writes what is left; says so where that cannot be done."""
        self._stopping.set()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self.flush()
        except (StoreError, TimeoutError) as error:
            log.error("entries of the security log are lost", entries=len(self), error=str(error)[:300])

    async def flush(self) -> None:
        """Writes everything that waits now. Raises StoreError; what was not written goes on waiting."""
        async with self._flushing:
            self._tell_of_floods()
            while self._waiting or self._refused or self._lost:
                if self._lost:
                    lost, self._lost = self._lost, 0
                    self._refused.append(_lost_entries(lost))
                queue = self._refused or self._waiting
                batch = [queue[place] for place in range(min(len(queue), BATCH_ROWS))]
                await self._write(batch)
                for entry in batch:
                    if queue and queue[0] is entry:  # it may have made room meanwhile
                        queue.popleft()

    def _tell_of_floods(self) -> None:
        """One row an address and FLOOD_SECONDS for what was not listed one by one; all of it when it stops."""
        now = time.monotonic()
        if not self._flood or (now - self._flood_told_at < FLOOD_SECONDS and not self._stopping.is_set()):
            return
        self._flood_told_at = now
        for address, count in self._flood.items():
            text = f"{count} more refused requests of strangers from here"
            self._refused.append(Entry(datetime.now(UTC), "", "", "", "", text, "refused", 429, "flood", "", address))
        self._flood.clear()

    async def read(
        self,
        tenant: str,
        *,
        outcome: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        before: int = 2**62,
        limit: int = 100,
        nameless: bool = True,
    ) -> list[dict[str, Any]]:
        """Rows of a tenant, newest first; `nameless`: also of those who came without a name."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["logged"], tenant, before, limit, outcome, actor, action, nameless)
        return [dict(row) for row in rows]

    async def _write(self, batch: Sequence[Entry]) -> None:
        names = Entry.__slots__
        columns = [[getattr(entry, name) for entry in batch] for name in names]
        async with self._pools.connection("read") as connection:
            await connection.execute(SQL["log"], *columns)


def visible(text: str) -> str:
    """A text for a log: cut, and with everything that could turn or hide what stands beside it written out."""
    cut = text[:OBJECT_CHARACTERS_MAX]
    return "".join(
        f"\\u{ord(mark):04x}" if unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp") else mark for mark in cut
    )


def _lost_entries(count: int) -> Entry:
    return Entry(
        datetime.now(UTC), "", "", "", "", f"{count} entries were lost while the database was away", "failed", 0,
        "entries_lost", "", "",
    )  # fmt: skip
