"""A wire between a process and its database that can be cut and mended."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from tests.databases import Database

_SOCKET = ".s.PGSQL.5432"


class Wire:
    """Forwards connections to the server's socket. `url` logs in through it."""

    def __init__(self, database: Database, directory: Path) -> None:
        parts = urlsplit(database.url)
        real = parse_qs(parts.query)["host"][0]
        self.url = database.url.replace(quote(real, safe=""), quote(str(directory), safe=""))
        assert self.url != database.url
        self._target = f"{real}/{_SOCKET}"
        self._path = directory / _SOCKET
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.lets_in = 1_000_000  # connections; further ones end as soon as they begin

    async def mend(self) -> None:
        """Takes connections."""
        self._server = await asyncio.start_unix_server(self._forward, str(self._path))

    async def cut(self) -> None:
        """Breaks every connection and takes no new one."""
        assert self._server is not None
        self._server.close()
        self._path.unlink(missing_ok=True)
        for writer in list(self._open):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.lets_in:
            writer.transport.abort()
            return
        self.lets_in -= 1
        there_reader, there_writer = await asyncio.open_unix_connection(self._target)
        pair = (writer, there_writer)
        self._open.update(pair)
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            self._open.difference_update(pair)
            for end in pair:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def wire_to(database: Database) -> AsyncIterator[Wire]:
    """A wire that is whole at first."""
    with tempfile.TemporaryDirectory(prefix="wire-") as directory:
        wire = Wire(database, Path(directory))
        await wire.mend()
        try:
            yield wire
        finally:
            await wire.cut()
