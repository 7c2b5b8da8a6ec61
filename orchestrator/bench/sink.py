"""A collector for benches: it really listens and reads all that it is sent, and keeps nothing but numbers.

A process of its own (`python -m orchestrator.bench.sink`), so that what it costs is nobody else's: it prints its port,
and answers a GET with what has come in.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

_SPAN = b'"parentSpanId"'


class Counter(BaseHTTPRequestHandler):
    """Counts posts, bytes, and spans that have a parent."""

    protocol_version = "HTTP/1.1"
    counts = {"posts": 0, "bytes": 0, "spans": 0}  # noqa: RUF012 - one for all requests, on purpose

    def do_POST(self) -> None:
        """Takes spans in."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.counts["posts"] += 1
        self.counts["bytes"] += len(body)
        self.counts["spans"] += body.count(_SPAN)
        self._answer(b"{}")

    def do_GET(self) -> None:
        """Says what came in."""
        self._answer(orjson.dumps(self.counts))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Listens on a free port of the loopback interface until it is ended."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counter)
    server.daemon_threads = True
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
