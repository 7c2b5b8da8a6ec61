"""A collector for tests: takes OTLP over HTTP, keeps what it was sent, and can be told to be slow or to refuse."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest


@dataclass
class Receiver:
    """`received`: requests, newest last. `status`: what it answers."""

    url: str = ""
    status: int = 200
    received: list[ExportMetricsServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def next(self) -> ExportMetricsServiceRequest:
        """The next request from now on. Raises TimeoutError."""
        before = len(self.received)
        async with asyncio.timeout(60):
            while len(self.received) == before:  # noqa: ASYNC110 - it is a thread of the exporter that is waited for
                await asyncio.sleep(0.02)
        return self.received[-1]


def points(request: ExportMetricsServiceRequest) -> dict[str, list[Any]]:
    """The data points of each metric, by name."""
    found: dict[str, list[Any]] = {}
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = getattr(metric, metric.WhichOneof("data"))
                found.setdefault(metric.name, []).extend(data.data_points)
    return found


def attributes(point: Any) -> dict[str, str]:
    """The attributes of a point or resource."""
    return {pair.key: pair.value.string_value for pair in point.attributes}


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A collector on a free port, while inside."""
    made = Receiver()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                lines = [line.partition(":") for line in head.split("\r\n")[1:]]
                fields = {name.lower(): value.strip() for name, _, value in lines}
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                if fields.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                made.headers.append(fields)
                if made.status == 200 and b"/v1/metrics" in head.encode():
                    made.received.append(ExportMetricsServiceRequest.FromString(body))
                writer.write(f"HTTP/1.1 {made.status} x\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/metrics"
    try:
        yield made
    finally:
        server.close()
