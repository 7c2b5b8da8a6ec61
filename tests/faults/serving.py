"""`orchestrator serve` as operators start it, with its API, its memory, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from orchestrator.config import ROLES
from tests.crash.processes import READY_SECONDS_MAX, Process

KIB = 1024


class Served(Process):
    """One `serve` with an API. `said` is the line with which it announced itself."""

    def __init__(self, roles: str, environment: Mapping[str, str], log: Path) -> None:
        super().__init__(roles, {"ORCHESTRATOR_API_PORT": "0", **environment}, log)
        self.said: dict[str, Any] = {}

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
