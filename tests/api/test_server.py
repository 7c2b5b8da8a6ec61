"""The HTTP server as a part of a process: starts or says why not, and stops while somebody still listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from orchestrator.api.server import STOP_SECONDS_MAX, ApiServer, ServerError


def make_app() -> tuple[FastAPI, list[str]]:
    """An application with a stream that ends when the server stops, and a log of what happened."""
    log: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        log.append("up")
        yield
        log.append("down")

    app = FastAPI(lifespan=lifespan)

    @app.get("/stream")
    async def stream(request: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            yield b"first\n"
            await request.app.state.stopping.wait()
            yield b"last\n"
            log.append("stream ended")

        return StreamingResponse(lines())

    @app.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(0.3)
        return "done"

    return app, log


async def test_an_open_stream_ends_cleanly_and_at_once() -> None:
    """A reader gets the last line, the lifespan runs, and nobody waits for a time-out."""
    app, log = make_app()
    async with ApiServer(app, "127.0.0.1", 0) as server:
        async with (
            httpx2.AsyncClient(trust_env=False) as client,
            client.stream("GET", f"{server.url}/stream") as answer,
        ):
            lines = answer.aiter_lines()
            assert await anext(lines) == "first"
            began = time.monotonic()
            stopping = asyncio.create_task(server.stop())
            assert await anext(lines) == "last"
        await stopping
        assert time.monotonic() - began < STOP_SECONDS_MAX
    assert log == ["up", "stream ended", "down"]


async def test_a_request_that_runs_is_finished() -> None:
    """Stopping takes nobody's answer away."""
    app, _ = make_app()
    async with ApiServer(app, "127.0.0.1", 0) as server, httpx2.AsyncClient(trust_env=False) as client:
        asking = asyncio.create_task(client.get(f"{server.url}/slow"))
        await asyncio.sleep(0.1)
        await server.stop()
        assert (await asking).json() == "done"


async def test_a_port_in_use_is_said_plainly() -> None:
    """With the address, the cause and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"cannot listen on 127.0.0.1:{port}.*ORCHESTRATOR_API_PORT"):
            ApiServer(make_app()[0], "127.0.0.1", port)


async def test_run_returns_when_the_server_was_stopped() -> None:
    """So that whoever supervises it notices an end."""
    app, _ = make_app()
    async with ApiServer(app, "127.0.0.1", 0) as server:
        running = asyncio.create_task(server.run())
        await asyncio.sleep(0)
        assert not running.done()
        await server.stop()
        await asyncio.wait_for(running, 60)
