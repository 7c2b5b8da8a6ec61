"""`orchestrator serve`, forked instead of imported anew, with its API, its memory, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrator.config import ROLES
from tests import forking

KIB = 1024
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 25


class Served:
    """One `serve` with an API. `said` is the line with which it announced itself."""

    def __init__(self, roles: str, environment: Mapping[str, str], log: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
        self.roles = roles
        self.environment = {**kept, "ORCHESTRATOR_API_PORT": "0", **environment}
        self.said: dict[str, Any] = {}
        self._log = log
        self._process: forking.Program | None = None

    async def start(self) -> None:
        """Starts it; does not wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = await forking.started(
                "orchestrator", "serve", "--roles", self.roles, "--json", stderr=log, env=self.environment
            )

    async def ready(self) -> None:
        """Waits for its line. Raises TimeoutError with the end of its log."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS_MAX)
        except TimeoutError:
            raise TimeoutError(f"{self.roles} did not get ready: {self.tail()}") from None
        assert line, f"{self.roles} ended at once: {self.tail()}"
        self.said = json.loads(line)

    async def kill(self) -> None:
        """SIGKILL: nothing is flushed, closed or said."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        """A graceful stop; gives the exit code. Kills what does not stop in time."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        try:
            return await asyncio.wait_for(self._process.wait(), STOP_SECONDS_MAX)
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def alive(self) -> bool:
        """It has not ended."""
        return self._process is not None and self._process.returncode is None

    def tail(self) -> str:
        """The last lines of its log."""
        return self._log.read_text(errors="replace")[-3_000:] if self._log.exists() else ""

    @property
    def api(self) -> str:
        """Where its API is."""
        url: str = self.said["api"]
        return url

    def memory_bytes(self) -> int:
        """How much of it is in memory now."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * KIB


@asynccontextmanager
async def served(environment: Mapping[str, str], logs: Path, roles: str = ",".join(ROLES)) -> AsyncIterator[Served]:
    """A process that has said that it is ready; gone afterwards, whatever happens."""
    process = Served(roles, environment, logs / "serve.log")
    try:
        await process.start()
        await process.ready()
        yield process
    finally:
        if process.alive():
            await process.kill()
