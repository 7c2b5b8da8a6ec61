"""The shipped processes: `orchestrator serve` by role, started as operators do, and killed as nobody should."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

READY_SECONDS_MAX = 40.0
ROLES = ("coordinator,timers", "relay", "participants")


class Process:
    """One `orchestrator serve`. It is started again after every kill, as a supervisor on a server would."""

    def __init__(self, roles: str, environment: Mapping[str, str], log: Path) -> None:
        self.roles = roles
        self.kills = 0
        self._environment = {**os.environ, **environment, "ORCHESTRATOR_INSTANCE_ID": roles.replace(",", "-")}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it; does not wait until it is ready: a crash may come at any moment."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator", "serve", "--roles", self.roles, "--json",
                env=self._environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip

    async def ready(self) -> None:
        """Waits for the line that says it runs. Raises TimeoutError with the end of its log."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS_MAX)
        except TimeoutError:
            raise TimeoutError(f"{self.roles} did not get ready: {self.tail()}") from None
        assert line, f"{self.roles} ended at once: {self.tail()}"

    async def kill(self) -> None:
        """SIGKILL: nothing is flushed, closed or said."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            self.kills += 1
        await self._process.wait()

    async def stop(self) -> int:
        """A graceful stop; gives the exit code. Kills what does not stop in time."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def alive(self) -> bool:
        """It has not ended by itself."""
        return self._process is not None and self._process.returncode is None

    def tail(self) -> str:
        """The last lines of its log."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""


@asynccontextmanager
async def product(environment: Mapping[str, str], logs: Path) -> AsyncIterator[dict[str, Process]]:
    """Coordinator, relay and participants, each a process of its own; all are gone afterwards."""
    processes = {roles: Process(roles, environment, logs / f"{roles}.log") for roles in ROLES}
    try:
        for process in processes.values():
            await process.start()
        for process in processes.values():
            await process.ready()
        yield processes
    finally:
        for process in processes.values():
            if process.alive():
                await process.kill()
