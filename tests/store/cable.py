"""A cable between a store and its database that can be cut at the worst moments."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from tests.wires import Commits

Fault = Literal["none", "lost on the way", "answer lost", "late arrival", "frozen", "slow"]


class Cable:
    """Forwards bytes; does what `fault` says when a COMMIT comes along, once, and then works again.

    lost on the way: the server never gets it. answer lost: the server commits and nobody hears. late arrival: the
    client sees its connection die, and only then the server gets the COMMIT. frozen: nothing moves any more. slow: the
    server gets it late, unless the client has gone away meanwhile. `hold`: from now on nothing moves, for any message.
    """

    def __init__(self, url: str) -> None:
        self.fault: Fault = "none"
        self.late_seconds = 0.4
        self.hold = False
        self.commits = 0
        self._parts = urlsplit(url)
        self._target = Path(parse_qs(self._parts.query)["host"][0]) / ".s.PGSQL.5432"
        self._directory = tempfile.TemporaryDirectory(prefix="cable-")
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where to connect instead."""
        query = f"host={quote(self._directory.name, safe='')}&port=5432"
        return urlunsplit(self._parts._replace(query=query))

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        """Listens as long as the block runs."""
        server = await asyncio.start_unix_server(self._accept, Path(self._directory.name) / ".s.PGSQL.5432")
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._directory.cleanup()

    async def _accept(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server, questions = await asyncio.open_unix_connection(self._target)
        back = asyncio.create_task(self._forward(server, answers))
        commits = Commits()
        try:
            while data := await client.read(65536):
                if commits.among(data):
                    self.commits += 1
                    fault, self.fault = self.fault, "none"
                    if fault == "slow":
                        await asyncio.sleep(self.late_seconds)
                        if client.at_eof():
                            break
                    elif await self._struck(fault, data, answers, questions, back):
                        break
                if self.hold:
                    await asyncio.sleep(3600)
                questions.write(data)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            back.cancel()
            questions.close()
            answers.close()
            self._tasks.discard(task)

    async def _struck(
        self,
        fault: Fault,
        data: bytes,
        answers: asyncio.StreamWriter,
        questions: asyncio.StreamWriter,
        back: asyncio.Task[None],
    ) -> bool:
        """Does the fault; True when the connection is over."""
        if fault == "none":
            return False
        back.cancel()
        if fault == "frozen":
            await asyncio.sleep(3600)
        answers.transport.abort()
        if fault == "late arrival":
            await asyncio.sleep(self.late_seconds)
        if fault != "lost on the way":
            questions.write(data)
            await questions.drain()
            await asyncio.sleep(0.2)  # the server works on it; its answer goes nowhere
        return True

    @staticmethod
    async def _forward(server: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(65536):
                answers.write(data)
            answers.close()
