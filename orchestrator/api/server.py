"""The HTTP server as one part of a running process: it binds first, starts, and stops cleanly when told to.

Rules of this file
- The process owns the signals, not uvicorn: `handle_exit` is called by whoever caught one.
- `stopping` is set before connections are closed, so that a response that streams can end by itself. Without it uvicorn
  waits for open streams for ever, or cuts them with tracebacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http import h11_impl

STOP_SECONDS_MAX = 5
KEEP_ALIVE_SECONDS = 30
CONNECTIONS_MAX = 1_000  # further ones are answered 503 at once


HEAD_BYTES_MAX = 65_536
_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_FOLDED = re.compile(rb"\n[ \t]")


class ServerError(Exception):
    """The HTTP server cannot start; for whoever chose the address. The message says what to do."""

    retriable = False


class _Protocol(h11_impl.H11Protocol):
    """uvicorn's reader, which also refuses header lines that go on in the next one: a proxy before us may have read
    them otherwise, and no client has written them since 2014 (RFC 9112, 5.2)."""

    _head = b""

    def data_received(self, data: bytes) -> None:
        if repr(self.conn.their_state) == "IDLE":
            head = self._head + data
            ends = _HEAD_ENDS.search(head)
            self._head = b"" if ends else head[-HEAD_BYTES_MAX:]
            if _FOLDED.search(head, 0, ends.end() if ends else len(head)):
                self.send_400_response("Header lines must not be folded.")
                return
        super().data_received(data)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server, without hands on the signals and with a stop event for streams."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:  # uvicorn ends the whole program where the application's lifespan has failed
            self.should_exit = True
            raise ServerError("the HTTP application did not start; see the log above") from error

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().handle_exit(sig, frame)


class ApiServer:
    """Serves an application: `async with ApiServer(app, host, port) as server:` then `server.url`.

    port: 0 takes a free one. Raises ServerError where the address cannot be used.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self.stopping = asyncio.Event()
        app.state.stopping = self.stopping
        self._socket = _bind(host, port)
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http=_Protocol,
                log_config=None,
                access_log=False,
                proxy_headers=False,  # identity depends on the true peer, see identity.py
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS_MAX,
                limit_concurrency=CONNECTIONS_MAX,
                lifespan="on",
            ),
            self.stopping,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the API is, without a slash at the end."""
        host, port = self._socket.getsockname()[:2]
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"http://{name}:{port}"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="api-server")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise ServerError("the HTTP application did not start; see the log above")
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self) -> None:
        """Returns when the server has ended, which it does only when stopped. Raises what ended it."""
        assert self._task is not None, "run() comes after start"
        await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Ends streams, finishes requests that run (at most STOP_SECONDS_MAX), closes the port. Idempotent."""
        self.stopping.set()
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_SECONDS_MAX + 2)
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServerError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. "
            "Stop what uses it, or choose another port: ORCHESTRATOR_API_PORT, 0 takes a free one."
        ) from error
    return listening


def port_is_free(host: str, port: int) -> bool:
    """True where a server could listen there now."""
    try:
        _bind(host, port).close()
    except ServerError:
        return False
    return True
