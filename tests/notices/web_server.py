"""A small HTTP server for webhooks: keeps what came, and answers as it was told to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Posted:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class WebServer:
    """statuses: of the next answers, then 204. flood: bytes of an endless body. location: of redirects."""

    host: str = "127.0.0.1"
    port: int = 0
    posted: list[Posted] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    flood: bool = False
    hang: bool = False
    location: str = ""
    sent_bytes: int = 0
    server_names: list[str] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n")).decode().strip()
        headers = {}
        while text := (await reader.readuntil(b"\r\n")).decode().strip():
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.posted.append(Posted(line, headers, body))
        if self.hang:
            await asyncio.sleep(3600)
        status = self.statuses.pop(0) if self.statuses else 204
        more = f"Location: {self.location}\r\n" if self.location else ""
        length = "Transfer-Encoding: chunked" if self.flood else "Content-Length: 0"
        writer.write(f"HTTP/1.1 {status} X\r\n{more}{length}\r\nConnection: close\r\n\r\n".encode())
        while self.flood:
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()
            self.sent_bytes += 0x10000
        await writer.drain()


@asynccontextmanager
async def web_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """A server on a free port of this machine."""
    found = WebServer()
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: found.server_names.append(name)
    listening = await asyncio.start_server(found.serve, found.host, 0, ssl=tls)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()
        for task in list(found.tasks):
            task.cancel()
        if found.tasks:
            await asyncio.wait(set(found.tasks), timeout=5)
        await listening.wait_closed()
