"""A wire between processes and their database that breaks in the middle of a COMMIT, after so many bytes of its answer.

Rules of this file
- Everything is forwarded as it comes; only the connection on which the next COMMIT is sent is cut, once per order.
- Cut before the request: the server never gets it. Cut after n bytes of the answer: the server has committed, and the
  client has read n bytes of that: nothing, a part of a message, or all but the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from tests.wires import Commits

ANSWER_BYTES = 18  # CommandComplete with "COMMIT" (12 bytes) and ReadyForQuery (6)
NEVER_SENT = -1
_SOCKET = ".s.PGSQL.5432"


class CutWire:
    """Forwards connections to a server's socket. `url` logs in through it. `cuts`: how often it has cut."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        self._target = f"{parse_qs(parts.query)['host'][0]}/{_SOCKET}"
        self._path = directory / _SOCKET
        self._order: int | None = None
        self.url = urlunsplit(parts._replace(query=f"host={quote(str(directory), safe='')}&port=5432"))
        self.cuts = 0

    def cut_next(self, after_bytes: int) -> None:
        """Cuts the next COMMIT after so many bytes of its answer, or before it is sent (NEVER_SENT)."""
        self._order = after_bytes

    @property
    def pending(self) -> bool:
        """No COMMIT came along yet since the last order."""
        return self._order is not None

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[CutWire]:
        """Listens as long as the block runs."""
        server = await asyncio.start_unix_server(self._forward, str(self._path))
        try:
            yield self
        finally:
            server.close()

    async def _forward(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        try:
            server, questions = await asyncio.open_unix_connection(self._target)
        except OSError:  # the server is away: so is this end of the wire
            answers.transport.abort()
            return
        allowed: list[int] = []  # bytes of the answer that still pass, once this connection is the one to be cut
        try:
            await asyncio.gather(self._ask(client, questions, allowed), _answer(server, answers, allowed))
        except OSError:
            pass
        finally:
            questions.transport.abort()
            answers.transport.abort()

    async def _ask(self, client: asyncio.StreamReader, questions: asyncio.StreamWriter, allowed: list[int]) -> None:
        commits = Commits()
        while data := await client.read(65_536):
            if commits.among(data) and self._order is not None:
                after, self._order = self._order, None
                self.cuts += 1
                if after == NEVER_SENT:
                    raise ConnectionAbortedError
                allowed.append(after)
            questions.write(data)
            await questions.drain()
        raise ConnectionAbortedError


async def _answer(server: asyncio.StreamReader, answers: asyncio.StreamWriter, allowed: list[int]) -> None:
    while data := await server.read(65_536):
        if allowed:
            answers.write(data[: allowed[0]])
            with contextlib.suppress(OSError):
                await answers.drain()
            allowed[0] -= len(data)
            if allowed[0] <= 0:
                await asyncio.sleep(0.01)  # what is allowed shall arrive before the connection breaks
                raise ConnectionAbortedError
            continue
        answers.write(data)
        await answers.drain()
    raise ConnectionAbortedError


@contextlib.asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[CutWire]:
    """A wire that is whole at first."""
    with tempfile.TemporaryDirectory(prefix="cut-") as directory:
        async with CutWire(url, Path(directory)).laid() as wire:
            yield wire
