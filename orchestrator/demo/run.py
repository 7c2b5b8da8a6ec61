"""`orchestrator demo`: everything on this machine, in one process, and sample traffic through it.

Rules of this file
- It is the shipped product: the same roles, migrations, HTTP server and API as `serve`, on an embedded PostgreSQL.
- It fails honestly: what became of each saga is compared with what its sample expects, and `ok` says the result.
- Data stays in the data directory; a second demonstration plays new sagas beside the old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from orchestrator import logs
from orchestrator.api.server import ApiServer, port_is_free
from orchestrator.broker.local_kafka import KafkaServer, LocalKafkaError
from orchestrator.cli.local import saga_modules
from orchestrator.cli.output import CliError, ExitCode, Output
from orchestrator.cli.serving import Running, database, migrate_schema, own_schemas, running
from orchestrator.config import OWN_LOG, ROLES, Settings, load_settings
from orchestrator.demo.player import Player, Run, new_suffix
from orchestrator.demo.progress import introduce, report, shown
from orchestrator.demo.samples import (
    Sample,
    SampleError,
    load_environment,
    load_people,
    load_samples,
    load_services,
)
from orchestrator.identity.local import local_user, seed
from orchestrator.runtime.catalog import Catalog
from orchestrator.vault.keyfile import read_or_create

READY_SECONDS_MAX = 30.0
CONNECTIONS_MAX = 50


@dataclass(frozen=True)
class DemoOptions:
    """once: end when the sample is played. sagas: how many, 0: the sample as it is. port: 0 takes a free one."""

    once: bool
    sagas: int
    kafka: bool
    port: int
    data_dir: Path


async def run_demo(options: DemoOptions, out: Output) -> bool:
    """Plays the demonstration; True where everything became what its sample expects.

    Raises CliError, or the product's own errors, where it cannot start.
    """
    began = time.monotonic()
    logs.configure("error")
    run = Run(new_suffix())
    async with AsyncExitStack() as stack:
        interrupted = stack.enter_context(_interrupts())
        process, samples, catalog = await _start(options, out, stack)
        loops = asyncio.create_task(process.runtime.run(), name="runtime")
        stack.push_async_callback(_stop, process, loops)
        client = await stack.enter_async_context(_client(process.api))
        await _unless_stopped(_ready(client), loops, interrupted)
        out.say(f"ready after {time.monotonic() - began:.1f} s; API {process.api}")
        journal = process.runtime.settings.data_dir / "demo-started"
        player = Player(process.runtime.broker, catalog, client, journal)
        with shown(run, out):
            playing = player.play(samples, options.sagas, run, visitors=not options.once)
            await _unless_stopped(playing, loops, interrupted)
        report(run, process.api, time.monotonic() - began, out)
        introduce(load_people(saga_modules()), process.api, out)
        if not options.once:
            out.say("everything stays up; Ctrl-C stops")
            await _unless_stopped(interrupted.wait(), loops, interrupted)
    return run.ok


async def _start(options: DemoOptions, out: Output, stack: AsyncExitStack) -> tuple[Running, list[Sample], Catalog]:
    """Broker, database, services, schema, product; in that order, each stopped by `stack`."""
    modules = saga_modules()
    try:
        samples = load_samples(modules)
        services = load_services(modules)
        for variable, value in load_environment(modules).items():
            os.environ.setdefault(variable, value)
    except SampleError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the file") from error
    if not samples:
        raise CliError(ExitCode.NOT_FOUND, f"no samples below {', '.join(modules)}", "run it where the sagas are")
    settings = _settings(options, out, stack)
    out.say(f"starting PostgreSQL in {settings.data_dir}")
    urls = await stack.enter_async_context(database(settings))
    # Each service has its port, and everybody can read its address, before the sagas' code is imported.
    servers = []
    for service in services:
        make = getattr(importlib.import_module(service.module), service.factory)
        servers.append(ApiServer(make(urls.app), "127.0.0.1", 0))
        os.environ[service.variable] = servers[-1].url
    catalog = Catalog.load(modules)
    await migrate_schema(urls.owner, own_schemas(catalog, modules))
    for server in servers:
        await stack.enter_async_context(server)
    process = await stack.enter_async_context(running(settings, urls, catalog))
    people = load_people(modules)
    await seed(
        process.runtime.store.pools,
        [local_user(one.id, one.name, capacities=one.capacities, roles=one.roles, about=one.about) for one in people],
    )
    return process, samples, catalog


def _settings(options: DemoOptions, out: Output, stack: AsyncExitStack) -> Settings:
    """The demonstration's settings: an embedded database, the log in it (or Kafka), all roles, a port that is free."""
    data_dir, broker_url = options.data_dir, OWN_LOG
    if options.kafka:
        broker_url = os.environ.get("ORCHESTRATOR_BROKER_URL", "")
        if not broker_url.startswith("kafka://"):
            out.say("starting a local Kafka (the first time, its jars are downloaded)")
            try:
                broker_url = f"kafka://{stack.enter_context(KafkaServer()).bootstrap}"
            except LocalKafkaError as error:
                raise CliError(ExitCode.UNREACHABLE, str(error), "set ORCHESTRATOR_BROKER_URL=kafka://...") from error
            # A new log every time: positions of an older one would point into nothing.
            data_dir = options.data_dir / "kafka-demo"
            shutil.rmtree(data_dir, ignore_errors=True)
    port = options.port
    if not port_is_free("127.0.0.1", port):
        out.say(f"port {port} is taken; another one is used")
        port = 0
    return load_settings(
        database_url="",
        broker_url=broker_url,
        roles=",".join(ROLES),
        data_dir=data_dir,
        api_port=port,
        **_mails(data_dir, out),
        **_vault(data_dir),
    )


def _vault(data_dir: Path) -> dict[str, str]:
    """A key file beside the data directory, where none is set: samples hold personal fields, and they are sealed."""
    if os.environ.get("ORCHESTRATOR_VAULT_KEY_FILE"):
        return {}
    path = data_dir.with_name(f"{data_dir.name}-keys") / "vault.keys"
    read_or_create(path)
    return {"vault_key_file": str(path)}


def _mails(data_dir: Path, out: Output) -> dict[str, str]:
    """Mails to people as files, where nobody has configured a mail server."""
    if os.environ.get("ORCHESTRATOR_NOTICE_MAIL_URL"):
        return {}
    directory = data_dir.resolve() / "mails"
    out.say(f"mails to people lie in {directory}")
    return {"notice_mail_url": directory.as_uri(), "notice_mail_domain": "bank.example"}


async def _ready(client: httpx2.AsyncClient) -> None:
    """Returns when the product says that it is ready. Raises CliError after READY_SECONDS_MAX with its reasons."""
    over = time.monotonic() + READY_SECONDS_MAX
    while True:
        answer = await client.get("/readyz")
        if answer.is_success:
            return
        if time.monotonic() > over:
            raise CliError(ExitCode.TIME_OUT, f"not ready after {READY_SECONDS_MAX:.0f} s: {answer.text[:300]}")
        await asyncio.sleep(0.05)


async def _unless_stopped(
    work: Coroutine[Any, Any, object], loops: asyncio.Task[None], interrupted: asyncio.Event
) -> None:
    """Lets `work` run to its end, unless somebody interrupts. Raises what it raises, or what ended the product."""
    task = asyncio.create_task(work)
    waiting = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({task, waiting, loops}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        elif loops.done():
            await loops
            raise CliError(ExitCode.FAILED, "the product stopped by itself")
    finally:
        for one in (task, waiting):
            one.cancel()
        await asyncio.wait({task, waiting})


async def _stop(process: Running, loops: asyncio.Task[None]) -> None:
    process.runtime.stop()
    await asyncio.wait({loops})
    if not loops.cancelled():
        loops.exception()  # raised where it was waited for


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=CONNECTIONS_MAX)
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=20, limits=limits) as client:
        yield client


@contextlib.contextmanager
def _interrupts() -> Iterator[asyncio.Event]:
    """An event that SIGINT or SIGTERM sets."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
