"""A real Prometheus for tests, from the system's package; loud where it is missing."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

READY_SECONDS_MAX = 30


def binary(name: str) -> str:
    """Where `prometheus` or `promtool` is. Skips the test without it, or fails it where REQUIRE_PROMETHEUS=1."""
    found = shutil.which(name)
    if found is None:
        text = f"{name} is not installed (Debian: apt-get install prometheus); set REQUIRE_PROMETHEUS=1 to insist"
        if os.environ.get("REQUIRE_PROMETHEUS") == "1":
            pytest.fail(text)
        pytest.skip(text)
    return found


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool."""
    return subprocess.run([binary("promtool"), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    client: httpx2.AsyncClient

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now. Raises AssertionError for one that it does not understand."""
        answer = await self.client.get("/api/v1/query", params={"query": expression})
        found = answer.json()
        assert found["status"] == "success", f"{expression}: {found.get('error')}"
        series: list[dict[str, Any]] = found["data"]["result"]
        return series

    async def until(self, expression: str) -> list[dict[str, Any]]:
        """The series once there are some. Raises TimeoutError naming the expression."""
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                while not (found := await self.query(expression)):  # noqa: ASYNC110 - another process is waited for
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(f"no series for {expression}") from None
        return found

    async def rules(self) -> list[dict[str, Any]]:
        """The rules that it has loaded."""
        groups = (await self.client.get("/api/v1/rules")).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@asynccontextmanager
async def running_prometheus(
    directory: Path, targets: Mapping[str, Sequence[str]], rules: Path
) -> AsyncIterator[Prometheus]:
    """A server that reads these targets (job to addresses) several times a second, and knows these rules."""
    jobs = "".join(
        f"  - {{job_name: {job}, static_configs: [{{targets: [{', '.join(addresses)}]}}]}}\n"
        for job, addresses in targets.items()
    )
    config = directory / "prometheus.yml"
    times = "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 1s}\n"
    config.write_text(f"{times}rule_files: [{rules}]\nscrape_configs:\n{jobs}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (directory / "log").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220 - it is back at once, and stopped by its id
        [
            binary("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ],
        stdout=log,
        stderr=log,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await _ready(client, process, directory / "log")
            yield Prometheus(client)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
        log.close()


async def _ready(client: httpx2.AsyncClient, process: subprocess.Popen[bytes], log: Path) -> None:
    async with asyncio.timeout(READY_SECONDS_MAX):
        while True:
            assert process.poll() is None, log.read_text()
            try:
                if (await client.get("/-/ready")).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)
