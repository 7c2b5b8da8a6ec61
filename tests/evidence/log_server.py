"""A small HTTP endpoint for checkpoints: keeps what is POSTed, gives the last one to whoever GETs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class LogServer:
    """notes: what came. tokens: Authorization headers. status: of every answer, where it is not 0."""

    url: str = ""
    notes: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    status: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, then the connection ends."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            for line in head.split("\r\n"):
                if line.lower().startswith("authorization: "):
                    self.tokens.add(line.split(": ", 1)[1])
            status, answer = self.status or 200, b""
            if not self.status and head.startswith("POST"):
                self.notes.append(body.decode())
            elif not self.status:
                status, answer = (200, self.notes[-1].encode()) if self.notes else (404, b"")
            writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode())
            writer.write(answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def log_server() -> AsyncIterator[LogServer]:
    """Listens on a free port of the loopback interface for as long as the block runs."""
    log = LogServer()
    server = await asyncio.start_server(log.serve, "127.0.0.1", 0)
    log.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/checkpoints"
    async with server:
        yield log
