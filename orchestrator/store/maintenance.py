"""Trimming: what is kept only for a while goes when its time is over, a few rows at a time.

Rules of this file
- Streams are never trimmed, nor is the audit trail, which is read out of them. What is trimmed can be told again by
  them, or has done its duty.
- The security log is append-only for this role: the database deletes its oldest rows when asked, none younger than its
  owner allows (table `retention`), and says so in the log.
- A pass looks at some blocks of each table and goes on there next time, so its cost does not grow with the tables, no
  index on age burdens the writers, and nothing is locked for longer than a small statement.
- Kept times have lower bounds that other promises depend on: the inbox must remember a message for as long as anybody
  may deliver it again (topic retention, dead letters), or it is taken in twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "maintenance.sql")

DAY_MS = 24 * 3_600_000
LOG, LOG_ROWS_MAX = "security_log", 5_000  # the oldest rows that one pass looks at


@dataclass(frozen=True, slots=True)
class Kept:
    """How long things are kept, milliseconds.

    inbox_ms: longer than topics keep messages, else a replay is taken for new. outbox_ms: sent messages, for
    publishing again after the broker lost some. tasks_ms: closed tasks, for their pages. early_events_ms,
    consumed_events_ms: events that nobody took, and who took which. dead_letters_ms: those that were processed since;
    the others stay. security_log_ms: who asked for what; the database may keep it longer.
    """

    inbox_ms: int = 30 * DAY_MS
    outbox_ms: int = 7 * DAY_MS
    tasks_ms: int = 90 * DAY_MS
    early_events_ms: int = 90 * DAY_MS
    consumed_events_ms: int = 180 * DAY_MS
    dead_letters_ms: int = 90 * DAY_MS
    security_log_ms: int = 730 * DAY_MS

    def __post_init__(self) -> None:
        """Raises ValueError where a time is not positive, or where who took an event is forgotten before the event."""
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"store setting {name} is {getattr(self, name)}; it must be at least 1 millisecond")
        if self.consumed_events_ms < self.early_events_ms:
            raise ValueError(
                f"store setting consumed_events_ms is {self.consumed_events_ms}, early_events_ms is "
                f"{self.early_events_ms}: an event kept longer than the note of who took it would be taken twice"
            )


class Maintenance:
    """Trims the tables of one store and looks for orphans. One process is enough; several do no harm.

    blocks_per_pass: how many blocks (8 KiB) of each table a pass looks at; old rows in them go in one statement.
    sagas_per_look: how many heads one look for orphans covers.
    """

    def __init__(
        self, pools: Pools, kept: Kept | None = None, *, blocks_per_pass: int = 2_048, sagas_per_look: int = 20_000
    ) -> None:
        self.kept = kept or Kept()
        self.trimmed: Counter[str] = Counter()  # rows by table, since the start of the process
        self._pools = pools
        self._blocks_per_pass = blocks_per_pass
        self._sagas_per_look = sagas_per_look
        self._next_block: dict[str, int] = {}
        self._next_saga = ""

    async def trim(self) -> int:
        """One pass over a slice of every table; how many rows went. Call it again at once while it finds some."""
        total = 0
        for name in Kept.__slots__:
            table = name.removesuffix("_ms")
            if table == LOG:
                continue
            async with self._pools.connection("work") as connection:
                blocks: int = (await connection.fetchrow(SQL["blocks"], table))["blocks"]
                first = self._next_block.get(table, 0)
                if first >= blocks:
                    first = 0
                last = first + self._blocks_per_pass
                older_than = getattr(self.kept, name) * 1000
                gone = await connection.execute(SQL[f"trim_{table}"], (first, 0), (last, 0), older_than)
            self._next_block[table] = last
            self.trimmed[table] += gone
            total += gone
        return total + await self._trim_log()

    async def _trim_log(self) -> int:
        async with self._pools.connection("work") as connection:
            row = await connection.fetchrow(SQL["trim_security_log"], self.kept.security_log_ms * 1000, LOG_ROWS_MAX)
        gone: int = row["gone"]
        if gone:
            self.trimmed[LOG] += gone
        return gone

    async def orphans(self) -> list[str]:
        """Live sagas of the next slice that wait for nothing that exists (kernel rule 29): each of them is a bug."""
        async with self._pools.connection("work") as connection:
            row = await connection.fetchrow(SQL["orphans"], self._next_saga, self._sagas_per_look)
        self._next_saga = row["last"] or ""
        return list(row["orphans"])
