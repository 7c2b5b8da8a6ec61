"""Reading records for projections: pages of the feed, shared by those who stand at the same place.

Rules of this file
- Whoever reads seals first (docs/adr/0003): no position can come to lie before one that was read.
- A page is read once, whichever projections want it. It is a cache of a few pages: nothing depends on it.
- What a saga is, is said by its first record, and by nothing that the write path keeps.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from orchestrator.messages.personal import pseudonym
from orchestrator.store.postgres import SQL as STORE_SQL
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sql import load_queries
from projections.contract import Connection, Facts, FeedRecord, GapError

SQL = load_queries("projections", "feed.sql")

PAGES_KEPT = 8
FACTS_KEPT = 200_000
CUSTOMER_FIELDS = ("customer_id", "user_id", "customer")
CUSTOMER_CHARACTERS_MAX = 200

CustomerOf = Callable[[str, Mapping[str, Any]], str]
"""From a saga's name and its start message to the customer whom it is for, "" for none."""


def usual_customer(_: str, start: Mapping[str, Any]) -> str:
    """The customer in a start message: the first of the usual fields that is there."""
    for field in CUSTOMER_FIELDS:
        value = pseudonym(start.get(field))
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)[:CUSTOMER_CHARACTERS_MAX]
    return ""


class Feed:
    """The records of a store in safe global order.

    `quiet_ms`: where nothing followed a position, nobody asks the database again for so long. `ahead`: the page after a
    full one is read while that one is worked on, for one reader who goes through very much; close it then.
    """

    def __init__(
        self,
        store: PostgresStore,
        customer_of: CustomerOf = usual_customer,
        *,
        quiet_ms: int = 0,
        ahead: bool = False,
    ) -> None:
        self._store = store
        self._customer_of = customer_of
        self._pages: OrderedDict[int, list[FeedRecord]] = OrderedDict()
        self._reading = asyncio.Lock()
        self._quiet_seconds = quiet_ms / 1000
        self._end: tuple[int, float] = (-1, 0.0)  # a position after which there was nothing, and when that was
        self._facts: dict[str, Facts] = {}
        self._ahead = ahead
        self._coming: tuple[tuple[int, int], asyncio.Task[list[FeedRecord]]] | None = None  # (position, limit)

    async def close(self) -> None:
        """Gives up what is being read ahead."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming[1].cancel()
            await asyncio.gather(coming[1], return_exceptions=True)

    async def after(self, position: int, limit: int) -> list[FeedRecord]:
        """At most `limit` records from `position` + 1 on; none where nothing follows now. Raises GapError."""
        async with self._reading:
            if self._end[0] == position and time.monotonic() - self._end[1] < self._quiet_seconds:
                return []
            page = self._pages.get(position)
            if page is None or len(page) > limit:
                page = await self._next(position, limit)
                if not page:
                    self._end = (position, time.monotonic())
                else:
                    self._pages[position] = page
                    while len(self._pages) > PAGES_KEPT:
                        self._pages.popitem(last=False)
            return page

    async def facts(self, records: Sequence[FeedRecord]) -> Mapping[str, Facts]:
        """What is known of the sagas of these records."""
        missing = set()
        for record in records:
            if record.version == 1:
                self._facts[record.saga_id] = self._facts_of(record.tenant, record.data)
            elif record.saga_id not in self._facts:
                missing.add(record.saga_id)
        if missing:
            async with self._store.pools.connection("projection") as connection:
                rows = await connection.fetch(SQL["first_records"], sorted(missing))
            for saga_id, body in rows:
                fields = orjson.loads(body)
                self._facts[saga_id] = self._facts_of(fields["tenant"], fields["data"])
        found = {record.saga_id: self._facts[record.saga_id] for record in records}
        if len(self._facts) > FACTS_KEPT:
            self._facts = dict(found)
        return found

    async def _next(self, position: int, limit: int) -> list[FeedRecord]:
        """A page out of the database, or the one that was read ahead."""
        if self._coming is not None and self._coming[0] == (position, limit):
            coming, self._coming = self._coming, None
            page = await coming[1]
        else:
            await self.close()
            page = await self._read(position, limit)
        if self._ahead and len(page) == limit:
            after = position + limit
            self._coming = ((after, limit), asyncio.create_task(self._read(after, limit)))
        return page

    async def _read(self, position: int, limit: int) -> list[FeedRecord]:
        await self._store.seal()
        async with self._store.pools.connection("read") as connection:
            rows = await connection.fetch(STORE_SQL["records_after"], position, limit)
        return self.checked(position, parsed(rows))

    @staticmethod
    def checked(position: int, records: list[FeedRecord]) -> list[FeedRecord]:
        """The same records. Raises GapError where they do not follow a position without gaps."""
        if records and (records[0].position, records[-1].position) != (position + 1, position + len(records)):
            raise GapError(
                f"the feed goes on at position {records[0].position} instead of {position + 1}, or has gaps up to "
                f"{records[-1].position}: records are missing from the store. Restore them from a backup"
            )
        return records

    def _facts_of(self, tenant: str, data: Mapping[str, Any]) -> Facts:
        start = data.get("data")
        name = str(data.get("name", ""))
        return Facts(
            tenant=tenant,
            name=name,
            definition_version=int(data.get("version", 0)),
            business_key=str(data.get("business_key", "")),
            customer=self._customer_of(name, start) if isinstance(start, Mapping) else "",
            started_at=int(data.get("at", 0)),
        )


def parsed(rows: Iterable[Any]) -> list[FeedRecord]:
    """Records of rows (saga id, version, body, hash, position)."""
    found = []
    for saga_id, version, body, hash_, position in rows:
        fields = orjson.loads(body)
        found.append(
            FeedRecord(
                position,
                saga_id,
                version,
                fields["type"],
                fields["activity"],
                fields["data"],
                fields["actor"],
                fields["recorded_at"],
                fields["tenant"],
                fields["causation"],
                hash_,
            )
        )
    return found


async def streams_before(connection: Connection, first: Mapping[str, int]) -> dict[str, list[FeedRecord]]:
    """The records of sagas below a version of each, in order: what a state is folded from."""
    streams: dict[str, list[FeedRecord]] = {}
    if first:
        rows = await connection.fetch(SQL["streams_before"], list(first), list(first.values()))
        for record in parsed(rows):
            streams.setdefault(record.saga_id, []).append(record)
    return streams
