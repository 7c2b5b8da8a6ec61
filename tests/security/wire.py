"""Requests as bytes, for what no HTTP client would send."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

ANSWER_SECONDS_MAX = 30


async def answered(base_url: str, request: bytes, *, half: bool = False) -> bytes:
    """All that the server answers until it closes, or has nothing more to say after `half` a request."""
    parts = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            if half:
                return head
            return head + await reader.read()
    finally:
        writer.close()


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])
