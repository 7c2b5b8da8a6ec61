"""The shipped processes, started as operators do, killed as nobody should, and started again by whoever watches them.

Rules of this file
- A process that ends, by a kill or by itself, is started again after a moment, as a supervisor on a server would.
- Where they may be forked, a start costs a fraction (tests/forking.py); they share the seed of their hashes then.
- Ends that nobody here caused are counted with the last line of the log: the product may give up and come back, but a
  report must say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import forking

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 25.0
RESTART_SECONDS = 0.1


class Process:
    """One process and its keeper. `ends_by_itself`: the last words of every run that ended without being told to."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        forked: bool = False,
    ) -> None:
        self.name = name
        self.ends_by_itself: list[str] = []
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._log = log
        self._forked = forked
        self._process: asyncio.subprocess.Process | forking.Program | None = None
        self._running, self._ready = asyncio.Event(), asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._told = False  # to end, or killed
        self._over = False

    def start(self) -> None:
        """Starts it and keeps it up; does not wait until it is ready: a crash may come at any moment."""
        self._over = False
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper-{self.name}")

    async def ready(self) -> None:
        """Waits for the line that says it runs. Raises TimeoutError with the end of its log."""
        try:
            await asyncio.wait_for(self._ready.wait(), READY_SECONDS_MAX)
        except TimeoutError:
            raise TimeoutError(f"{self.name} did not get ready: {self.tail()}") from None

    async def running(self) -> None:
        """Waits until there is a process, ready or not. Raises TimeoutError."""
        await asyncio.wait_for(self._running.wait(), READY_SECONDS_MAX)

    def signal(self, number: signal.Signals) -> bool:
        """Sends a signal to what runs now; False where nothing does."""
        process = self._process
        if process is None or process.returncode is not None:
            return False
        self._told = self._told or number is signal.SIGKILL
        process.send_signal(number)
        return True

    def kill(self) -> bool:
        """SIGKILL: nothing is flushed, closed or said. It comes again. False where there was nothing to kill."""
        return self.signal(signal.SIGKILL)

    async def stop(self) -> int:
        """A graceful stop; gives the exit code. Kills what does not stop in time."""
        self._over = self._told = True
        process, keeper = self._process, self._keeper
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
            except TimeoutError:
                process.kill()
                await process.wait()
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        return process.returncode or 0 if process is not None else 0

    def tail(self, characters: int = 3_000) -> str:
        """The last lines of its log."""
        return self._log.read_text(errors="replace")[-characters:] if self._log.exists() else ""

    async def _begun(self) -> asyncio.subprocess.Process | forking.Program:
        with self._log.open("ab") as log:
            if self._forked:
                return await forking.started(*self._command, stderr=log, env=self._environment)
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip

    async def _keep(self) -> None:
        while not self._over:
            self._told = False
            process = self._process = await self._begun()
            self._running.set()
            try:
                assert process.stdout is not None
                while line := await process.stdout.readline():
                    if b"ready" in line:
                        self._ready.set()
                await process.wait()
            finally:
                self._running.clear()
                self._ready.clear()
                if process.returncode is None:  # the keeper itself was cancelled
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
            if not self._told:
                words = self.tail(400).strip().splitlines()
                self.ends_by_itself.append(f"{self.name} ({process.returncode}): {words[-1][-300:] if words else ''}")
            await asyncio.sleep(RESTART_SECONDS)


def serve(name: str, roles: str, environment: Mapping[str, str], logs: Path, *, forked: bool = False) -> Process:
    """One `orchestrator serve`. With a stable instance id, a restart takes its place in the groups back at once."""
    own = {**environment, "ORCHESTRATOR_INSTANCE_ID": name}
    return Process(
        name, ["orchestrator", "serve", "--roles", roles, "--json"], own, logs / f"{name}.log", forked=forked
    )
