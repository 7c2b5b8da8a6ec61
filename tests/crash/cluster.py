"""Everything that runs in a nemesis run, on this machine: database server, Kafka, bank, and the product by roles.

Rules of this file
- The database is durable here, other than in most tests: its crash must cost nothing that was acknowledged.
- Coordinator, timers and API reach the database over a wire that can be cut; everybody else directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from orchestrator.broker.contract import Broker, open_broker
from orchestrator.broker.local_kafka import KafkaServer
from orchestrator.cli.serving import migrate_schema, own_schemas
from orchestrator.config import Settings
from orchestrator.evidence.keys import own_ring
from orchestrator.runtime.catalog import Catalog
from orchestrator.store import embedded
from orchestrator.store.embedded import EmbeddedPostgres
from tests.crash import cases
from tests.crash.cut import CutWire, wire_to
from tests.crash.payouts import WORLD_VARIABLE
from tests.crash.processes import Process, serve

MODULES = ("sagas.orders", "sagas.transfers", "sagas.payments", "sagas.disputes", "tests.crash.payouts")
PARTITIONS = 4
CHECKPOINTS = "checkpoints.txt"
THRESHOLD = 100  # transfers from this amount on are approved by a person
RICH = 20  # accounts with plenty of money
# A frozen process loses its locks and its open transaction long before it wakes.
LOCK_MS = 1_500
ROLES = {
    "coordinator": "coordinator",
    "timers": "timers,notices,projections",
    "relay": "relay",
    "participants": "participants",
    "api": "api",
}
OVER_WIRE = ("coordinator", "timers", "api")
WAL_BYTES = 480 * 1024 * 1024
FULL_SECONDS_MAX = 8.0


@dataclass
class Cluster:
    """What runs. `processes` by name; `full_disk`: why the disk cannot be filled here, or ""."""

    directory: Path
    postgres: EmbeddedPostgres
    kafka: KafkaServer | None
    wire: CutWire
    processes: dict[str, Process]
    broker: Broker
    environment: dict[str, str]
    api: str
    no_full_disk: str
    forked: bool  # processes share what they have imported

    def server_works(self) -> bool:
        """The database server's main process lives."""
        process = self.postgres._process
        return process is not None and process.poll() is None

    async def crash_postgres(self) -> None:
        """`stop -m immediate`, as the server's own tool does it, and a new start that recovers."""
        process = self.postgres._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGQUIT)
            await asyncio.to_thread(process.wait, 60)
        await self.postgres.stop()
        await self.postgres.start()

    async def kill_kafka(self, down_seconds: float) -> None:
        """kill -9 of the broker, and a new start on the same data."""
        assert self.kafka is not None
        self.kafka.kill()
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(self.kafka.start)

    async def fill_disk(self) -> bool:
        """The disk of the write-ahead log is full until the server cannot go on; True where it has said so."""
        filler, log = self.directory / "wal" / "filler", self.postgres.log_file
        before = log.stat().st_size
        with filler.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(filler.parent).free - 4096)
        try:
            said = False
            for _ in range(int(FULL_SECONDS_MAX * 10)):
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                    connection = await asyncpg.connect(self.postgres.admin_url, timeout=1)
                    await connection.execute("SELECT pg_switch_wal()", timeout=1)  # a new file is wanted now
                    await connection.close()
                said = b"No space left on device" in log.read_bytes()[before:]
                if said:
                    break
                await asyncio.sleep(0.1)
        finally:
            filler.unlink()
        await self.crash_postgres()
        return said


@asynccontextmanager
async def running_cluster(directory: Path, *, kafka: bool, full_disk: bool, forked: bool) -> AsyncIterator[Cluster]:
    """Starts everything and waits until it is ready; all is gone afterwards. `forked`: processes are forked from one
    that has everything imported."""
    async with AsyncExitStack() as stack:
        log = KafkaServer() if kafka else None
        if log is not None:
            await asyncio.to_thread(stack.enter_context, log)
        no_full_disk = "not asked for"
        postgres = EmbeddedPostgres(directory / "postgres")
        if full_disk:
            no_full_disk = await _log_on_a_small_disk(postgres, directory / "wal", stack)
        await stack.enter_async_context(postgres)
        catalog = Catalog.load(MODULES)
        await migrate_schema(postgres.migrate_url, own_schemas(catalog, MODULES))
        wire = await stack.enter_async_context(wire_to(postgres.url))
        broker_url = f"kafka://{log.bootstrap}" if log is not None else postgres.url
        broker = open_broker(broker_url, settings=Settings(topic_partitions=PARTITIONS).broker_settings())
        stack.push_async_callback(broker.close)
        environment, port, bank_port = _environment(postgres, broker_url, directory)
        over_wire = {**environment, "ORCHESTRATOR_DATABASE_URL": wire.url}
        processes = {
            name: serve(name, roles, over_wire if name in OVER_WIRE else environment, directory, forked=forked)
            for name, roles in ROLES.items()
        }
        bank = ["sagas.transfers.bank", "--port", str(bank_port)]
        processes["bank"] = Process("bank", bank, environment, directory / "bank.log", forked=forked)
        api = f"http://127.0.0.1:{port}"
        cluster = Cluster(directory, postgres, log, wire, processes, broker, environment, api, no_full_disk, forked)
        try:
            for process in processes.values():
                process.start()
            for name in ROLES:
                await processes[name].ready()
            yield cluster
        finally:
            await asyncio.gather(*(process.stop() for process in processes.values()))


def _environment(postgres: EmbeddedPostgres, broker_url: str, directory: Path) -> tuple[dict[str, str], int, int]:
    """What every process is told, and the ports of API and bank."""
    port, bank_port = _free_ports(2)
    own_ring(directory / "log.key", "nemesis.example/log")
    settings = {
        "database_url": postgres.url,
        "broker_url": broker_url,
        "sagas": ",".join(MODULES),
        "consumer_group": "nemesis",
        "topic_partitions": str(PARTITIONS),
        "api_port": str(port),
        "lock_timeout_ms": str(LOCK_MS),
        "idle_transaction_ms": str(LOCK_MS),
        "transfer_threshold": str(THRESHOLD),
        "bank_url": f"http://127.0.0.1:{bank_port}",
        "log_level": "warning",
        "dispute_times": json.dumps(cases.TIMES),
        "notice_events": "true",
        "evidence_key_file": str(directory / "log.key"),
        "evidence_file": str(directory / CHECKPOINTS),
        "evidence_seal_ms": "500",
    }
    told = {f"ORCHESTRATOR_{name.upper()}": value for name, value in settings.items()}
    return {**told, WORLD_VARIABLE: str(directory / "world")}, port, bank_port


async def _log_on_a_small_disk(postgres: EmbeddedPostgres, place: Path, stack: AsyncExitStack) -> str:
    """Moves the write-ahead log to a disk of its own; why not, where the machine does not allow it."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={WAL_BYTES},mode=0755", "tmpfs", str(place)]
    try:
        done = await asyncio.to_thread(subprocess.run, mount, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"mount: {error}"
    if done.returncode:
        return f"mounting a tmpfs is not allowed: {done.stderr.strip()[:200]}"
    stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False)
    # The log is to be recycled well before the small disk is full by itself.
    usual = embedded._SETTINGS["max_wal_size"]
    embedded._SETTINGS["max_wal_size"] = "128MB"
    stack.callback(embedded._SETTINGS.update, max_wal_size=usual)
    async with postgres:
        pass  # makes the cluster
    log = postgres.pgdata / "pg_wal"
    shutil.move(log, place / "pg_wal")
    owner = postgres.pgdata.stat()
    for path in (place / "pg_wal", *(place / "pg_wal").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    log.symlink_to(place / "pg_wal")
    return ""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
