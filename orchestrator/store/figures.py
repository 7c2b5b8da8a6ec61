"""What metrics ask the database for: sizes and ages of what concerns all processes, in one short transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.store.connections import Guarded, Pools
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "figures.sql")

IN_FLIGHT_MAX = 50_000  # of one saga; more are more than a chart can tell apart
TASKS_MAX = 10_000  # of one tenant
ROWS_MAX = 50_000
STATEMENT_MS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class TaskCount:
    """Open tasks of one step. `overdue_seconds`: of the one that is most overdue."""

    saga: str
    step: str
    state: str
    number: int
    overdue_seconds: float


@dataclass(frozen=True, slots=True)
class Follower:
    """What follows the log: a read model, the sealing of checkpoints, a place that they are published in.

    `seconds`: since the newest thing that it has, None where it has nothing; they mean nothing while none is `behind`.
    """

    name: str
    stopped: bool
    behind: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ProductFigures:
    """The whole product, at one moment."""

    in_flight: dict[str, int]
    stuck: dict[str, int]
    tasks: tuple[TaskCount, ...]
    unsent: int
    unsent_seconds: float
    intake_seconds: float
    timer_seconds: float
    early: int
    letters: dict[str, int]
    read_models: tuple[Follower, ...]
    notices: tuple[tuple[str, int, float], ...]  # channel, how many wait, seconds of the oldest that should be out
    checkpoints: tuple[Follower, ...]  # the first, without a name: how far the log is sealed


class FigureQueries:
    """Asks on a connection of the relay's pool: readers' may all be busy when it matters."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def product(self, group: str, topics: Sequence[str], tenants: Sequence[str]) -> ProductFigures:
        """All of it. Raises StoreError, also where one question takes longer than STATEMENT_MS_MAX."""
        async with self._pools.connection("work") as connection:
            await connection.begin("READ ONLY")
            try:
                return await self._asked(connection, group, list(topics), list(tenants))
            finally:
                await connection.roll_back()

    async def _asked(self, connection: Guarded, group: str, topics: list[str], tenants: list[str]) -> ProductFigures:
        await connection.fetch(SQL["limited"], str(STATEMENT_MS_MAX))
        in_flight = await connection.fetch(SQL["in_flight"], tenants, IN_FLIGHT_MAX)
        stuck = await connection.fetch(SQL["stuck"], ROWS_MAX)
        tasks = await connection.fetch(SQL["tasks"], tenants, TASKS_MAX)
        flow = await connection.fetchrow(SQL["flow"], group, topics, ROWS_MAX)
        letters = await connection.fetch(SQL["letters"], ROWS_MAX)
        notices = await connection.fetch(SQL["notices"], ROWS_MAX)
        models = await connection.fetch(SQL["projections"])
        checkpoints = await connection.fetch(SQL["checkpoints"])
        return ProductFigures(
            in_flight=dict(tuple(row) for row in in_flight),
            stuck=dict(tuple(row) for row in stuck),
            tasks=tuple(TaskCount(*row) for row in tasks),
            unsent=flow["unsent"],
            unsent_seconds=flow["unsent_seconds"],
            intake_seconds=flow["intake_seconds"],
            timer_seconds=flow["timer_seconds"],
            early=flow["early"],
            letters=dict(tuple(row) for row in letters),
            read_models=tuple(Follower(*row) for row in models),
            notices=tuple((row[0], row[1], row[2]) for row in notices),
            checkpoints=tuple(Follower(*row) for row in checkpoints),
        )
