"""Streams of hints: they end when they should, hold nobody up, and give back what they took."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from orchestrator.api.server import ApiServer
from orchestrator.pages import stream_pages
from orchestrator.pages.live import Live
from orchestrator.pages.stream_pages import HintStream
from orchestrator.store.sql import load_queries
from tests.databases import Database

TOPICS = frozenset({"tasks", "saga:s-1"})


def hub() -> Live:
    """A hub whose database is never asked."""
    return Live(None)  # type: ignore[arg-type]


async def heard(live: Live, stream: Any, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """What is sent, up to a minute for each message."""
    messages = live.hints(stream, stopping)
    while True:
        async with asyncio.timeout(60):
            try:
                yield await anext(messages)
            except StopAsyncIteration:
                return


async def test_hints_are_gathered_and_nothing_waits_in_a_queue() -> None:
    """A thousand changes while nobody reads are one message; other tenants' and other sagas' are none of ours."""
    live, stopping = hub(), asyncio.Event()
    with live.stream("main", "maria", TOPICS) as stream:
        messages = heard(live, stream, stopping)
        assert b"event: beat" in await anext(messages)
        for position in range(1_000):
            live._changed("main", "s-1", True, position)
            live._changed("main", "s-2", False, position)
            live._changed("other", "s-1", True, 5_000)
        assert stream.changed == {"tasks": 999, "saga:s-1": 999}
        assert await anext(messages) == (
            b'event: hint-saga\ndata: {"position":999}\n\nevent: hint-tasks\ndata: {"position":999}\n\n'
        )
        stopping.set()
        assert [message async for message in messages] == []
    assert live.streams == 0


async def test_a_flood_says_that_everything_changed() -> None:
    """Where there was more than a poll reads, nobody is left behind."""
    live = hub()
    with live.stream("main", "maria", TOPICS) as stream:
        live.position = 77
        live._everything_changed()
        assert stream.changed == {"tasks": 77, "saga:s-1": 77}


async def test_a_reader_who_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent in time is not sent, and the place is free again."""
    monkeypatch.setattr(stream_pages, "SEND_SECONDS_MAX", 0.05)
    live = hub()
    response = HintStream(live, "main", "maria", TOPICS, asyncio.Event())

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(60):
        await response({"type": "http"}, receive, send)
    assert live.streams == 0


async def test_a_reader_who_leaves_is_noticed_at_once() -> None:
    """Not only at the next beat."""
    live, sent = hub(), []
    response = HintStream(live, "main", "maria", TOPICS, asyncio.Event())
    leave = asyncio.Event()

    async def receive() -> Any:
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        leave.set()

    async with asyncio.timeout(5):
        await response({"type": "http"}, receive, send)
    assert live.streams == 0


async def test_the_server_stops_with_streams_open() -> None:
    """They end by themselves: no traceback, no waiting for pages that stay open all day."""
    app, live = FastAPI(), hub()

    @app.get("/live")
    async def stream(request: Request) -> Response:
        return HintStream(live, "main", "maria", TOPICS, request.app.state.stopping)

    async with (
        ApiServer(app, "127.0.0.1", 0) as server,
        httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client,
        client.stream("GET", "/live") as answer,
    ):
        lines = answer.aiter_lines()
        assert "retry" in await anext(lines)
        begun = asyncio.get_running_loop().time()
        stopped = asyncio.create_task(server.stop())
        async with asyncio.timeout(20):
            rest = [line async for line in lines]
        await stopped
    assert asyncio.get_running_loop().time() - begun < 4, "within the time that a stop gives, not after it"
    assert "event: beat" in rest


async def test_a_feed_may_grow_past_what_32_bits_count(database: Database) -> None:
    """A number written into a query is a small one to the database, unless it is told otherwise."""
    sql = load_queries("orchestrator.pages", "live.sql")
    connection = await asyncpg.connect(database.url)
    try:
        assert await connection.fetch(sql["changed_since"], 2**40, 10) == []
    finally:
        await connection.close()
