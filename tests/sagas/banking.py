"""The bank in this process, and ways to let it fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2

from sagas.transfers import bank as bank_module
from tests.databases import Database

Interfere = Callable[[httpx2.Request], Awaitable[None]]


class Way(httpx2.AsyncBaseTransport):
    """The way to the bank. `before` and `after` may raise: then a call is lost, or its answer is.

    `gateway`: what something in between answers instead of the bank, which is asked all the same.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner
        self.before: Interfere | None = None
        self.after: Interfere | None = None
        self.gateway: int | None = None
        self.calls: list[str] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        if self.before is not None:
            await self.before(request)
        response = await self._inner.handle_async_request(request)
        if self.after is not None:
            await self.after(request)
        return response if self.gateway is None else httpx2.Response(self.gateway, json={}, request=request)


@asynccontextmanager
async def open_bank(database: Database) -> AsyncIterator[Way]:
    """A bank with its accounts as migrated."""
    await bank_module.SCHEMA.migrate(database.migrate_url)
    app = bank_module.create_bank(database.url)
    async with app.router.lifespan_context(app):
        yield Way(httpx2.ASGITransport(app))
