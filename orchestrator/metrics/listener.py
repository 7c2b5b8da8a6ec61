"""`GET /metrics` on an address of its own, for processes that serve no HTTP and for networks that keep it apart.

Rules of this file
- It answers one path and nothing else, reads a bounded head, and closes. It can change nothing.
- With a token, whoever does not send it is told so and nothing more; without one, production allows loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

HEAD_BYTES_MAX = 8_192
READ_SECONDS_MAX = 5.0
AT_ONCE_MAX = 8

Render = Callable[[str], Awaitable[tuple[bytes, str]]]

log = structlog.get_logger("orchestrator.metrics")


@asynccontextmanager
async def listening(host: str, port: int, token: str, render: Render) -> AsyncIterator[str]:
    """Answers while inside; gives the address. `render`: from an Accept header to body and content type."""
    at_once = asyncio.Semaphore(AT_ONCE_MAX)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with at_once, asyncio.timeout(READ_SECONDS_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _answer(head, token, render))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks like this gets no answer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, host, port, limit=HEAD_BYTES_MAX)
    bound = server.sockets[0].getsockname()
    url = f"http://{f'[{host}]' if ':' in host else host}:{bound[1]}/metrics"
    log.info("metrics are served", url=url)
    try:
        yield url
    finally:
        server.close()


async def _answer(head: bytes, token: str, render: Render) -> bytes:
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if path != "/metrics":
        return _response("404 Not Found", b"only /metrics is here\n")
    if method not in ("GET", "HEAD"):
        return _response("405 Method Not Allowed", b"GET it\n", extra="Allow: GET, HEAD\r\n")
    if token and not hmac.compare_digest(fields.get("authorization", "").encode(), f"Bearer {token}".encode()):
        return _response("401 Unauthorized", b"a token is needed\n", extra="WWW-Authenticate: Bearer\r\n")
    body, content_type = await render(fields.get("accept", ""))
    return _response("200 OK", body, content_type, empty=method == "HEAD")


def _response(
    status: str, body: bytes, content_type: str = "text/plain; charset=utf-8", *, extra: str = "", empty: bool = False
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{extra}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if empty else body)
