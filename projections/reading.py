"""How queries read a projection: from the slot that is live, as one tenant, and saying how far it reaches.

Rules of this file
- The slot is read before and after: where a rebuild was swapped in meanwhile, the question is asked again. So an answer
  never comes from a slot that is being emptied.
- A cursor names the place after which a page goes on, and what the first page could see.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import orjson

from orchestrator.store.connections import Guarded
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import BadCursorError
from projections.answers import Complete, Sla
from projections.contract import FOREVER, in_slot
from projections.runner import SQL as SLOTS

PAGE_ROWS_MAX = 1_000
ASK_AGAIN_MAX = 5
AT_RISK_SHARE = 0.25  # of its time is left
_LAST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """One question under way. `now`: the database's clock, microseconds. `records`: how many the projection holds."""

    connection: Guarded
    slot: str
    complete: Complete
    now: int
    records: int

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """The rows of a statement of ours, in the slot."""
        return await self.connection.fetch(in_slot(query, self.slot), *args)


class Reader:
    """Asks projections. Only reading connections are used."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store

    async def ask(self, tenant: str, projection: str, question: Callable[[Asked], Awaitable[T]]) -> T:
        """The answer of a question about one projection. Raises StoreError."""
        for _ in range(ASK_AGAIN_MAX):
            async with self.store.pools.connection("read") as connection:
                await connection.begin("READ ONLY")
                try:
                    await connection.fetch(SLOTS["read_as"], tenant)
                    row = (await connection.fetch(SLOTS["standing"], projection))[0]
                    asked = _asked(connection, row)
                    answer = await question(asked)
                    slots = await connection.fetch(SLOTS["slot"], projection)
                finally:
                    await connection.roll_back()
            if not slots or slots[0]["slot"] == asked.slot:
                return answer
        raise StoreUnavailableError(f"projection {projection} was swapped {ASK_AGAIN_MAX} times while it was read")


def _asked(connection: Guarded, row: Any) -> Asked:
    position, head, until = row["position"] or 0, row["head"], row["read_until"] or 0
    age = max(0, row["now"] - until) / 1_000_000 if head > position and until else 0.0
    complete = Complete(position, max(head, position), instant(until) if until else None, age)
    return Asked(connection, row["slot"] or "a", complete, row["now"], row["records"] or 0)


def instant(us: int) -> datetime:
    """Microseconds as an aware datetime."""
    return _EPOCH + timedelta(microseconds=us)


def ended(us: int) -> datetime | None:
    """The same, None for what has no end."""
    return instant(us) if 0 < us < FOREVER - 1 else None


def microseconds(at: datetime) -> int:
    """An aware datetime in microseconds. Raises ValueError for one without zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return (at - _EPOCH) // timedelta(microseconds=1)


def sla_of(opened: int, expires: int, now: int) -> Sla:
    """How something stands that must be over by then."""
    if not 0 < expires < FOREVER - 1:
        return "none"
    if now >= expires:
        return "overdue"
    return "at risk" if expires - now < (expires - opened) * AT_RISK_SHARE else "in time"


def rows_wanted(limit: int) -> int:
    """One more than asked for, to know whether there is a next page."""
    return max(1, min(limit, PAGE_ROWS_MAX)) + 1


def paged(rows: Sequence[T], limit: int, key: Callable[[T], Sequence[Any]]) -> tuple[Sequence[T], str]:
    """The rows of a page and the cursor of the next, "" at the end."""
    wanted = rows_wanted(limit) - 1
    if len(rows) <= wanted:
        return rows, ""
    shown = rows[:wanted]
    return shown, base64.urlsafe_b64encode(orjson.dumps(list(key(shown[-1])))).decode().rstrip("=")


def cursor_of(text: str, kinds: tuple[type, ...]) -> tuple[Any, ...] | None:
    """What a cursor holds, None for none. Raises BadCursorError."""
    if not text:
        return None
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except ValueError as error:
        raise BadCursorError(f"cursor {text[:60]!r} is not one that this list has given: leave it out") from error
    fits = isinstance(values, list) and [type(value) for value in values] == list(kinds)
    if not fits or any("\0" in value if isinstance(value, str) else abs(value) > _LAST for value in values):
        raise BadCursorError(f"cursor {text[:60]!r} belongs to another list: leave it out")
    return tuple(values)
