"""Which versions take new sagas, since when and by whose records, and which running processes have them.

Rules of this file
- Switches are written by a batch alone, with the record that decides them. Here is what comes before (the first row of
  a definition that comes under approval) and what is read.
- What a process says of itself is believed for some seconds: who has gone without a word is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.store.batch import ACTIVE as SQL
from orchestrator.store.batch import CARRIED_US
from orchestrator.store.connections import Pools

HISTORY_MAX = 500

Version = tuple[str, int]
Activated = tuple[str, int, int]  # name, version, what it replaces


@dataclass(frozen=True, slots=True)
class Activation:
    """One row. `how`: baseline or approved; `at`: microseconds; `batch`: what began in a smaller one runs on what was
    active before."""

    id: int
    name: str
    version: int
    replaces: int
    how: str
    saga_id: str
    batch: int
    at: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Which build brought a version first, and who deployed it; "" where nobody said."""

    build: str = ""
    deployed_by: str = ""


class Activations:
    """The tables of migration 0210."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def names(self) -> set[str]:
        """Definitions that are under approval."""
        async with self._pools.connection("work") as connection:
            return {row["name"] for row in await connection.fetch(SQL["names"])}

    async def settle(self, installed: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """Makes the first row of names that have none; gives what is active, by name, of all under approval.

        installed: the versions that are here. What ran before is taken up: the newest stored version that is here.
        """
        async with self._pools.connection("work") as connection:
            await connection.begin()
            try:
                found = {row["name"]: row["version"] for row in await connection.fetch(SQL["active"], True)}
                new = sorted(set(installed) - set(found))
                if new:
                    stored = {(row["name"], row["version"]) for row in await connection.fetch(SQL["stored"], new)}
                    first = [max((v for v in installed[name] if (name, v) in stored), default=0) for name in new]
                    await connection.execute(SQL["baseline"], new, first)
                    found.update(zip(new, first, strict=True))
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit()
        return found

    async def active(self) -> dict[str, int]:
        """What is active now, without a lock: to be shown, and to be asked again where it counts."""
        async with self._pools.connection("work") as connection:
            return {row["name"]: row["version"] for row in await connection.fetch(SQL["active"], False)}

    async def approved(self, names: Sequence[str]) -> dict[Activated, list[dict[str, Any]]]:
        """The newest row of each of these that people agreed to, or should have, with the records that it names."""
        found: dict[Activated, list[dict[str, Any]]] = {}
        async with self._pools.connection("read") as connection:
            for row in await connection.fetch(SQL["newest_approved"], list(names)):
                records = found.setdefault((row["name"], row["version"], row["replaces"]), [])
                if row["body"] is not None:
                    records.append(orjson.loads(row["body"]))
        return found

    async def history(self, name: str = "") -> list[Activation]:
        """Every row, newest first; of one definition or of all."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["history"], name, HISTORY_MAX)
        return [Activation(*row) for row in rows]

    async def bring(self, versions: Sequence[Version], build: str, deployed_by: str) -> None:
        """Notes who brings versions that are not stored yet. Before they are."""
        columns = [list(column) for column in zip(*versions, strict=True)]
        async with self._pools.connection("work") as connection:
            await connection.execute(SQL["brought"], *columns, build, deployed_by)

    async def origins(self, name: str) -> dict[int, Origin]:
        """By version."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["origins"], name)
        return {row["version"]: Origin(row["build"], row["deployed_by"]) for row in rows}

    async def carry(self, instance: str, versions: Sequence[Version]) -> None:
        """Says that this process has these."""
        async with self._pools.connection("work") as connection:
            await connection.execute(SQL["carry"], instance, [f"{name}/{version}" for name, version in versions])

    async def carry_no_more(self, instance: str) -> None:
        """Says that it has gone."""
        async with self._pools.connection("work") as connection:
            await connection.execute(SQL["carry_no_more"], instance, CARRIED_US)

    async def carriers(self) -> dict[str, frozenset[str]]:
        """What each running process has, as `name/version`."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["carriers"], CARRIED_US)
        return {row["instance"]: frozenset(row["sagas"]) for row in rows}
