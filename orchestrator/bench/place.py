"""Where a bench runs: a durable PostgreSQL of its own, a broker, and the shipped product in processes of its own.

Rules of this file
- fsync is on and everything that the product does in production is on: a bench without it measures something else.
- What is started here is stopped here, by its process id.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.broker.contract import Broker, open_broker
from orchestrator.broker.local_kafka import KafkaServer, LocalKafkaError
from orchestrator.cli.local import saga_modules
from orchestrator.cli.output import CliError, ExitCode
from orchestrator.cli.serving import migrate_schema, own_schemas
from orchestrator.config import Settings, load_settings
from orchestrator.evidence.keys import own_ring
from orchestrator.evidence.settings import beside_database
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.bench", "bench.sql")
READY_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30
PATIENT = ConnectionLimits(statement_timeout_ms=600_000, answer_timeout_ms=660_000)  # counting millions takes a while

BrokerKind = Literal["kafka", "postgres"]


@dataclass
class Process:
    """One process of the product: some roles, its standard error in a file."""

    name: str
    popen: subprocess.Popen[str]
    log: Path

    def cpu_seconds(self) -> float | None:
        """Processor time that it has used, all threads; None where the system does not say."""
        try:
            fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_ready(self) -> None:
        """Returns when it has said so. Raises CliError where it ended instead."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line or not json.loads(line).get("ready"):
            self.popen.wait(STOP_SECONDS_MAX)
            self.check()

    def check(self) -> None:
        """Raises CliError with its last words where it has ended."""
        if self.popen.poll() is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])
            raise CliError(ExitCode.FAILED, f"process {self.name} ended with {self.popen.returncode}:\n{last}")

    def stop(self) -> None:
        """Asks it to stop, and kills it where it does not."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()


@dataclass
class Place:
    """Database, broker and product of one bench."""

    directory: Path
    database_url: str
    owner_url: str
    admin_url: str
    settings: Settings
    broker: Broker
    catalog: Catalog
    pools: Pools
    processes: list[Process] = field(default_factory=list)
    api_url: str = ""

    async def fetch(self, name: str, *args: object) -> list[Mapping[str, Any]]:
        """Rows of one of the bench's queries."""
        async with self.pools.connection("report") as connection:
            return [dict(row) for row in await connection.fetch(SQL[name], *args)]

    async def as_superuser(self, name: str) -> None:
        """Runs one of the bench's statements that the owner of the tables may not run."""
        pools = Pools(self.admin_url, PATIENT, "bench")
        try:
            async with pools.connection("report") as connection:
                await connection.execute(SQL[name])
        finally:
            await pools.close()

    async def start(
        self, name: str, roles: str, *, api: bool = False, variables: Mapping[str, str] | None = None
    ) -> Process:
        """Starts `orchestrator serve --roles ...` and waits until it says that it is ready. `api`: at `api_url`.

        `variables`: of its environment, over what all have.
        """
        log = self.directory / f"{name}.log"
        environment = {key: text for key, text in os.environ.items() if not key.startswith("ORCHESTRATOR_")}
        environment |= {
            "ORCHESTRATOR_DATABASE_URL": self.database_url,
            "ORCHESTRATOR_BROKER_URL": self.settings.broker_url,
            "ORCHESTRATOR_SAGAS": self.settings.sagas,
            "ORCHESTRATOR_LOG_LEVEL": "warning",
            **sealing(self.directory),
            **(variables or {}),
        }
        if api:
            port = free_port()
            environment["ORCHESTRATOR_API_PORT"] = str(port)
            self.api_url = f"http://127.0.0.1:{port}"
        process = Process(name, _spawn(roles, log, environment), log)
        self.processes.append(process)
        await asyncio.wait_for(asyncio.to_thread(process.wait_until_ready), READY_SECONDS_MAX)
        return process

    def stop(self) -> None:
        """Stops the product's processes; others may be started."""
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()


def sealing(directory: Path) -> dict[str, str]:
    """Settings that sign and publish checkpoints, where ORCHESTRATOR_EVIDENCE_SEAL_MS says how often; else none."""
    often = os.environ.get("ORCHESTRATOR_EVIDENCE_SEAL_MS", "0")
    if often == "0":
        return {}
    beside = beside_database(directory)
    own_ring(Path(beside["evidence_key_file"]), "bench/log")
    return {
        "ORCHESTRATOR_EVIDENCE_SEAL_MS": often,
        **{f"ORCHESTRATOR_{name.upper()}": value for name, value in beside.items()},
    }


def _spawn(roles: str, log: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    with log.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "serve", "--roles", roles, "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _directory() -> Path:
    """A new directory on the disk that the demonstration's data is on: what lies in memory proves nothing."""
    base = Path(".data")
    base.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="bench-", dir=base))


@asynccontextmanager
async def place(kind: BrokerKind, sagas: str) -> AsyncIterator[Place]:
    """Opens everything but the product's processes; they are started by `Place.start` and stopped here."""
    async with AsyncExitStack() as stack:
        directory = _directory()
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = await stack.enter_async_context(EmbeddedPostgres(directory / "postgres"))
        broker_url = _broker_url(kind, stack)
        settings = load_settings(database_url=postgres.url, broker_url=broker_url, sagas=sagas)
        saga_modules()  # makes the current directory importable
        catalog = Catalog.load(settings.saga_modules)
        await migrate_schema(postgres.migrate_url, own_schemas(catalog, settings.saga_modules))
        broker = open_broker(settings.resolved_broker_url(postgres.url), settings=settings.broker_settings())
        stack.push_async_callback(broker.close)
        pools = Pools(postgres.migrate_url, PATIENT, "bench")
        stack.push_async_callback(pools.close)
        admin_url = postgres.url_for("orchestrator", "postgres")
        made = Place(directory, postgres.url, postgres.migrate_url, admin_url, settings, broker, catalog, pools)
        try:
            yield made
        finally:
            made.stop()


def _broker_url(kind: BrokerKind, stack: AsyncExitStack) -> str:
    """The broker of a bench: the configured Kafka, or a local one, or the log in PostgreSQL."""
    if kind == "postgres":
        return "postgres://"
    given = os.environ.get("ORCHESTRATOR_BROKER_URL", "")
    if given.startswith("kafka://"):
        return given
    try:
        return f"kafka://{stack.enter_context(KafkaServer()).bootstrap}"
    except LocalKafkaError as error:
        raise CliError(ExitCode.UNREACHABLE, str(error), "set ORCHESTRATOR_BROKER_URL=kafka://...") from error
