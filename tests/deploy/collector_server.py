"""A real OpenTelemetry collector for tests, with the configuration that is shipped; loud where there is none.

Any build of the collector with the components of deploy/collector/collector.yaml will do; Jaeger 2 is one.
"""

from __future__ import annotations

import asyncio
import atexit
import lzma
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
import pytest

from tests.deploy.conftest import DEPLOY

CONFIG = DEPLOY / "collector" / "collector.yaml"
PACKED = Path("shared/tools/jaeger/jaeger.xz")
READY_SECONDS_MAX = 30


def collector_binary() -> str:
    """COLLECTOR_BINARY, otelcol-contrib, or a Jaeger. Skips without one, or fails where REQUIRE_COLLECTOR=1."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    found = os.environ.get("COLLECTOR_BINARY") or shutil.which("otelcol-contrib") or shutil.which("jaeger")
    for unpacked in sorted(caches.glob("jaeger-*/jaeger")):
        found = found or str(unpacked)
    for above in CONFIG.parents if found is None else ():
        if (above / PACKED).is_file():
            found = _unpacked(above / PACKED)
            break
    if found is None:
        text = "no collector: set COLLECTOR_BINARY to otelcol-contrib or Jaeger 2; REQUIRE_COLLECTOR=1 insists"
        if os.environ.get("REQUIRE_COLLECTOR") == "1":
            pytest.fail(text)
        pytest.skip(text)
    return found


@cache
def _unpacked(archive: Path) -> str:
    """The Jaeger that a starter script beside the repository would unpack, for this run."""
    directory = Path(tempfile.mkdtemp(prefix="collector-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = directory / "jaeger"
    with lzma.open(archive) as packed, made.open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    made.chmod(0o755)
    return str(made)


@dataclass(frozen=True)
class Collector:
    """`otlp`: where metrics are sent. `metrics`: where Prometheus would read."""

    otlp: str
    metrics: str


@asynccontextmanager
async def running_collector(directory: Path) -> AsyncIterator[Collector]:
    """A collector with the shipped configuration on free ports. Nobody is where it sends traces."""
    http, grpc, prometheus, nobody = _free_ports(4)
    environment = os.environ | {
        "OTLP_HTTP": f"127.0.0.1:{http}",
        "OTLP_GRPC": f"127.0.0.1:{grpc}",
        "PROMETHEUS_LISTEN": f"127.0.0.1:{prometheus}",
        "JAEGER_OTLP": f"127.0.0.1:{nobody}",
    }
    with (directory / "collector.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is back at once, and stopped by its id
            [collector_binary(), "--config", str(CONFIG)], env=environment, stdout=log, stderr=log
        )
        try:
            made = Collector(f"http://127.0.0.1:{http}/v1/metrics", f"http://127.0.0.1:{prometheus}/metrics")
            await _ready(made, process, directory / "collector.log")
            yield made
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait)


async def _ready(collector: Collector, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(READY_SECONDS_MAX), httpx2.AsyncClient(trust_env=False) as client:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                await client.get(collector.metrics)
                await client.get(collector.otlp)
                return
            except httpx2.TransportError:
                await asyncio.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    held = [socket.socket() for _ in range(number)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
