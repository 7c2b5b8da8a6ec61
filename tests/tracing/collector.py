"""A collector that really listens: it keeps what it is sent, and is slow, away or refusing when a test says so."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from orchestrator.tracing.sampling import Sampler
from orchestrator.tracing.settings import TelemetrySettings

ALL = Sampler(1.0)


class Collector:
    """What came in. `status`: what it answers; `slow_seconds`: how long it takes for it."""

    def __init__(self) -> None:
        self.status, self.slow_seconds, self.answer = 200, 0.0, b"{}"
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.refused = 0
        self.url = ""

    def spans(self) -> list[dict[str, Any]]:
        """All spans, in the order in which they came, with the attributes as a dict under `tags`."""
        return [span for body in list(self.bodies) for span in spans_in(body)]

    def settings(self, sampler: Sampler = ALL, **more: Any) -> TelemetrySettings:
        """Settings that send here."""
        resource = {"service.name": "saga-orchestrator"}
        return TelemetrySettings(traces_url=self.url, sampler=sampler, timeout_ms=2_000, resource=resource, **more)

    def wait(self, enough: int, seconds: float = 30) -> list[dict[str, Any]]:
        """The spans, once there are so many."""
        deadline = time.monotonic() + seconds
        while len(found := self.spans()) < enough:
            assert time.monotonic() < deadline, f"{len(found)} spans, wanted {enough}"
            time.sleep(0.02)
        return found

    def wait_refused(self, seconds: float = 30) -> None:
        """Until something was refused."""
        deadline = time.monotonic() + seconds
        while not self.refused:
            assert time.monotonic() < deadline, "nothing came"
            time.sleep(0.01)


def spans_in(body: bytes) -> Iterator[dict[str, Any]]:
    """The spans of one request."""
    for resource in orjson.loads(body)["resourceSpans"]:
        service = {a["key"]: a["value"]["stringValue"] for a in resource["resource"]["attributes"]}["service.name"]
        for span in resource["scopeSpans"][0]["spans"]:
            tags = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
            yield span | {"tags": tags, "service": service}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on the loopback interface, stopped at the end whatever happens."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(collector.slow_seconds)
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            if collector.status == 200:
                zipped = self.headers.get("content-encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if zipped else body)
            else:
                collector.refused += 1
            self.send_response(collector.status)
            self.send_header("content-length", str(len(collector.answer)))
            self.end_headers()
            self.wfile.write(collector.answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
