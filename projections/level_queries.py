"""Questions about service levels: the figures of a window, and their trend."""

from __future__ import annotations

from datetime import timedelta

from projections.answers import Point, Series, Tiles
from projections.approvals import SQL as APPROVALS
from projections.audit_queries import SQL as AUDIT
from projections.contract import in_slot
from projections.journeys import SQL
from projections.measures import HOUR_US, level, levels, summed, window_hours
from projections.reading import Asked, Reader, instant
from projections.runner import SQL as SLOTS

POINTS_MAX = 200
AUDITED_RECORDS = 10_000


class LevelQueries:
    """Service levels."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def tiles(self, tenant: str, *, window: timedelta = timedelta(days=30), name: str = "") -> Tiles:
        """All levels of a window that ends now, in whole hours; `name` "": over all definitions.

        Open tasks whose time is over count as breaches now, whichever window is asked for.
        """

        async def question(asked: Asked) -> Tiles:
            first, last = window_hours(asked.now, window)
            rows = await asked.fetch(SQL["counts"], tenant, name, first, last)
            overdue, (audited, recorded) = await _overdue(asked, tenant, name), await _audited(asked)
            counts = summed((row["metric"], row["n"]) for row in rows)
            found = levels(counts, overdue=overdue, audited=audited, recorded=recorded)
            return Tiles(name, instant(first), instant(asked.now), found, asked.complete)

        return await self._reader.ask(tenant, "journeys", question)

    async def series(
        self, tenant: str, key: str, *, window: timedelta = timedelta(days=30), name: str = "", points: int = 30
    ) -> Series:
        """The trend of one level, oldest first; points without figures are there, without value.

        Raises KeyError for a key that there is not.
        """
        level(key, {})

        async def question(asked: Asked) -> Series:
            first, last = window_hours(asked.now, window)
            hours = (last - first) // HOUR_US + 1
            width = -(-hours // max(1, min(points, POINTS_MAX))) * HOUR_US
            rows = await asked.fetch(SQL["trend"], tenant, name, first, last, width)
            parts: dict[int, list[tuple[str, int]]] = {}
            for row in rows:
                parts.setdefault(row["point"], []).append((row["metric"], row["n"]))
            found = tuple(
                Point(instant(first + number * width), level(key, summed(parts.get(number, ()))))
                for number in range(-(-hours * HOUR_US // width))
            )
            return Series(key, name, width // 1_000_000, found, asked.complete)

        return await self._reader.ask(tenant, "journeys", question)

    async def names(self, tenant: str) -> tuple[str, ...]:
        """The definitions that have figures."""

        async def question(asked: Asked) -> tuple[str, ...]:
            return tuple(row["name"] for row in await asked.fetch(SQL["names"], tenant))

        return await self._reader.ask(tenant, "journeys", question)


async def _overdue(asked: Asked, tenant: str, name: str) -> int:
    slots = await asked.connection.fetch(SLOTS["slot"], "approvals")
    if not slots:
        return 0
    query = in_slot(APPROVALS["overdue"], slots[0]["slot"])
    rows = await asked.connection.fetch(query, tenant, name, asked.now)
    return int(rows[0]["overdue"])


async def _audited(asked: Asked) -> tuple[int, int]:
    """How many of the newest records have their row, of how many. Over all tenants: positions count them all."""
    row = (await asked.connection.fetch(SLOTS["standing"], "audit"))[0]
    position = row["position"] or 0
    wanted = min(position, AUDITED_RECORDS)
    await asked.connection.fetch(SLOTS["read_as"], "")
    query = in_slot(AUDIT["held"], row["slot"] or "a")
    rows = await asked.connection.fetch(query, position - wanted, position)
    return int(rows[0]["n"]), wanted
