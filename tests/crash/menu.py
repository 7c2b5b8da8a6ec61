"""The faults, each with a name, a count of how often it was planned, and of how often it really happened.

Rules of this file
- A fault that was planned and did not happen is a fault of the run: `planned` and `fired` are compared at its end.
- Faults come one after the other at moments of no pattern; a frozen process stays frozen while others come.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg

from tests.crash.cluster import Cluster
from tests.crash.cut import ANSWER_BYTES, NEVER_SENT
from tests.crash.processes import Process, serve

VICTIMS = ("coordinator", "relay", "timers", "participants", "api", "bank")
FREEZABLE = ("coordinator", "relay", "timers", "participants", "api")
FREEZE_SECONDS = (2.0, 4.0)  # longer than locks and open transactions last
LONG_FREEZE_SECONDS = {"postgres": 13.0, "kafka": 50.0}  # longer than a member's lease there
CUT_SECONDS_MAX = 30.0
STORM_SECONDS = 2.0


class Menu:
    """What can go wrong in one cluster. `chance` draws everything that is left open."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster, self._chance = cluster, chance
        self.planned: Counter[str] = Counter()
        self.fired: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self._frozen: dict[str, asyncio.Task[None]] = {}
        self._victims: list[str] = []
        self.faults: dict[str, Callable[[], Awaitable[bool]]] = {
            "kill": self._kill,
            "postgres crash": self._crash_postgres,
            "sessions cut": self._cut_sessions,
            "commit cut": self._cut_commit,
            "freeze": self._freeze,
            "long freeze": self._long_freeze,
            "rebalance storm": self._storm,
        }
        if cluster.kafka is not None:
            self.faults["broker kill"] = self._kill_kafka
        if not cluster.no_full_disk:
            self.faults["disk full"] = cluster.fill_disk

    async def strike(self, name: str) -> None:
        """One fault."""
        self.planned[name] += 1
        if await self.faults[name]():
            self.fired[name] += 1

    async def over(self) -> None:
        """Nobody stays frozen."""
        for task in list(self._frozen.values()):
            await task

    # --- each of them -------------------------------------------------------------------------------------------------

    async def _kill(self) -> bool:
        if not self._victims:
            self._victims = self._chance.sample(VICTIMS, len(VICTIMS))
        name = self._victims.pop()
        await self._cluster.processes[name].running()  # perhaps not ready yet: a start may be killed as well
        if not self._cluster.processes[name].kill():
            return False
        self.kills[name] += 1
        return True

    async def _crash_postgres(self) -> bool:
        await self._cluster.crash_postgres()
        if self._chance.random() < 0.2:  # and once more, perhaps during recovery
            await self._cluster.crash_postgres()
        return True

    async def _kill_kafka(self) -> bool:
        await self._cluster.kill_kafka(self._chance.random())
        return True

    async def _cut_sessions(self) -> bool:
        count = self._chance.randint(1, 6)
        for _ in range(int(CUT_SECONDS_MAX / 0.3)):  # nobody may be connected yet after the last fault
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._cluster.postgres.admin_url, timeout=5)
                try:
                    cut = await connection.fetchval(
                        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE "
                        "datname = 'orchestrator' AND usename = 'orchestrator_app' ORDER BY random() LIMIT $1) s",
                        count,
                    )
                finally:
                    await connection.close()
                if cut:
                    return True
            await asyncio.sleep(0.3)
        return False

    async def _cut_commit(self) -> bool:
        """Before the server gets it, or after any number of bytes of its answer."""
        wire, before = self._cluster.wire, self._cluster.wire.cuts
        wire.cut_next(self._chance.choice((NEVER_SENT, self._chance.randint(0, ANSWER_BYTES - 1))))
        for _ in range(int(CUT_SECONDS_MAX / 0.05)):
            await asyncio.sleep(0.05)
            if wire.cuts > before:
                return True
        return False

    async def _freeze(self) -> bool:
        return await self._begin_freeze(self._chance.choice(FREEZABLE), self._chance.uniform(*FREEZE_SECONDS))

    async def _long_freeze(self) -> bool:
        """A zombie: another coordinator takes over meanwhile, and then the old one wakes."""
        seconds = LONG_FREEZE_SECONDS["kafka" if self._cluster.kafka is not None else "postgres"]
        if not await self._begin_freeze("coordinator", seconds):
            return False
        second = self._second()
        second.start()
        try:
            await second.ready()
            await self._frozen["coordinator"]
            await asyncio.sleep(1)  # both live
        finally:
            await second.stop()
        return True

    def _second(self) -> Process:
        cluster = self._cluster
        return serve("coordinator-2", "coordinator", cluster.environment, cluster.directory, forked=cluster.forked)

    async def _begin_freeze(self, name: str, seconds: float) -> bool:
        """Of a process that works: one that the last fault has ended comes back first."""
        process = self._cluster.processes[name]
        if name in self._frozen:
            await self._frozen[name]
        await process.ready()
        if not process.signal(signal.SIGSTOP):
            return False

        async def thaw() -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                process.signal(signal.SIGCONT)
                self._frozen.pop(name, None)

        self._frozen[name] = asyncio.create_task(thaw(), name=f"thaw-{name}")
        return True

    async def _storm(self) -> bool:
        """A second coordinator joins and leaves, several times."""
        for _ in range(2):
            second = self._second()
            second.start()
            try:
                await second.ready()
                await asyncio.sleep(STORM_SECONDS)
            finally:
                await second.stop()
        return True
