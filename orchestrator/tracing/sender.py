"""Posting spans to a collector: OTLP over HTTP, on a thread of its own, over one connection that stays open.

Rules of this file
- Nothing here decides what to send again: a post ends as taken, as not taken now (with a pause where the collector
  named one), or as refused for good.
- A collector's answer is not trusted: it is read to a limit, and never leaves this file but as a short reason.
Source: OTLP/HTTP 1.x (which statuses may be tried again, Retry-After, partial success).
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import orjson

from orchestrator.tracing.settings import TelemetrySettings

ANSWER_BYTES_MAX = 65_536
GZIP_LEVEL = 1  # five times smaller already; more costs more than it saves
PAUSE_SECONDS_MAX = 60.0
TIMEOUT_SECONDS_MAX = 20.0  # whatever is configured: a loop that is silent for long is taken for dead
RETRIABLE = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a post. `after_seconds`: how long the collector asked to wait, 0 for not named."""

    fate: Literal["taken", "later", "refused"]
    reason: str = ""
    after_seconds: float = 0.0


class Sender:
    """Posts bodies to where the settings say. One at a time; `close` when done."""

    def __init__(self, settings: TelemetrySettings) -> None:
        parts = urlsplit(settings.traces_url)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"content-type": "application/json", **settings.headers}
        self._gzip, self._timeout = settings.gzip, min(settings.timeout_ms / 1000, TIMEOUT_SECONDS_MAX)
        self._certificate = settings.certificate
        self._connection: http.client.HTTPConnection | None = None
        self._is_cut = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spans")

    async def post(self, body: bytes) -> Posted:
        """Sends one body and waits for the answer, beside the event loop.

        A socket's own limit is for one piece of an answer: a collector that drips it byte by byte is cut off here.
        """
        self._is_cut = False
        posting = asyncio.get_running_loop().run_in_executor(self._thread, self._post, body)
        while not (await asyncio.wait({posting}, timeout=2 * self._timeout))[0]:
            self._cut()
        # What is cut off in the middle of its head looks like an answer that ends there.
        return Posted("later", "the answer took too long") if self._is_cut else await posting

    def close(self) -> None:
        """Ends the thread; a post under way ends by its own time limit."""
        with suppress(RuntimeError):  # closed already
            self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)

    def _cut(self) -> None:
        """Ends what the thread waits for; it says so as of any connection that broke."""
        connection, self._is_cut = self._connection, True
        with suppress(OSError):
            if connection is not None and connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _post(self, body: bytes) -> Posted:
        headers = dict(self._headers)
        if self._gzip:
            body = gzip.compress(body, GZIP_LEVEL, mtime=0)
            headers["content-encoding"] = "gzip"
        kept = self._connection is not None
        try:
            return self._request(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            if not kept or isinstance(error, TimeoutError):
                return Posted("later", f"{type(error).__name__}: {error}"[:200])
        except Exception as error:
            return self._unsent(error)
        try:  # the collector has closed the connection that was kept: once more, over a new one
            return self._request(body, headers)
        except (OSError, http.client.HTTPException) as error:
            self._hang_up()
            return Posted("later", f"{type(error).__name__}: {error}"[:200])
        except Exception as error:  # what this client cannot even send: never the end of a process
            return self._unsent(error)

    def _unsent(self, error: Exception) -> Posted:
        self._hang_up()
        return Posted("later", type(error).__name__)  # its text may hold a header

    def _request(self, body: bytes, headers: dict[str, str]) -> Posted:
        connection = self._connection or self._connect()
        connection.request("POST", self._path, body, headers)
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES_MAX)
        if not answer.isclosed():
            self._hang_up()
        if 200 <= answer.status < 300:
            return Posted("taken", _rejected(text))
        reason = f"HTTP {answer.status}"
        if answer.status in RETRIABLE:
            return Posted("later", reason, _seconds(answer.getheader("retry-after", "")))
        return Posted("refused", reason)

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            context = ssl.create_default_context(cafile=self._certificate or None)
            self._connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return self._connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _rejected(text: bytes) -> str:
    """Why some spans of a taken post were rejected, "" where all were taken."""
    try:
        partial = orjson.loads(text or b"{}").get("partialSuccess") or {}
        count = int(partial.get("rejectedSpans") or 0)
        return f"{count} spans rejected: {partial.get('errorMessage') or ''}"[:200] if count else ""
    except (TypeError, ValueError, AttributeError):
        return ""


def _seconds(text: str) -> float:
    return min(float(text), PAUSE_SECONDS_MAX) if text.isdecimal() else 0.0
