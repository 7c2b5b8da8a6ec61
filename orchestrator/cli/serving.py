"""Running a process: its database, its schema, the runtime, the HTTP server, and the signals that stop it.

Rules of this file
- One way to run the product, for `serve`, the demo and the bench: `running` is used by all of them.
- A process says that it is ready when it is, not when its port is open. Until then it logs what it waits for.
- The first SIGINT or SIGTERM asks for a graceful stop; the second one cuts.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import pkgutil
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator import logs
from orchestrator.api.app import create_app
from orchestrator.api.server import ApiServer
from orchestrator.broker.contract import BrokerUnavailableError, ConsumerFencedError
from orchestrator.cli.local import saga_modules
from orchestrator.cli.output import Output
from orchestrator.config import Settings
from orchestrator.evidence.errors import PlaceAwayError
from orchestrator.evidence.keys import own_ring
from orchestrator.evidence.settings import beside_database
from orchestrator.identity.keeping import Kept
from orchestrator.identity.production import refuse_unsafe, refuse_unsafe_database
from orchestrator.participants.own_schema import OwnSchema
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.naming import instance_name
from orchestrator.runtime.supervisor import LoopDiedError, Stopping
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.migrate import migrate

INSTANCES = "instances"  # below data_dir: the names of processes
READY_POLL_SECONDS = 0.05
NOT_READY_SECONDS = 5
START_AGAIN_SECONDS_FIRST, START_AGAIN_SECONDS_MAX = 0.2, 2.0
AWAY = (StoreUnavailableError, BrokerUnavailableError, PlaceAwayError, ConnectionError)

log = structlog.get_logger("orchestrator.serving")


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """How the product and its migrations log in. `embedded`: the server was started (or is shared) by this process."""

    app: str
    owner: str
    embedded: bool = False


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[DatabaseUrls]:
    """The configured database, or an embedded one in `data_dir` for as long as the block runs."""
    if settings.database_url:
        yield DatabaseUrls(settings.database_url, settings.migrate_url or settings.database_url)
        return
    async with EmbeddedPostgres(settings.data_dir) as server:
        yield DatabaseUrls(server.url, server.migrate_url, embedded=True)


def own_schemas(catalog: Catalog, modules: tuple[str, ...]) -> list[OwnSchema]:
    """The schemas of installed participants, and those of saga packages (an `OwnSchema` in a submodule)."""
    found = {participant.own_schema.name: participant.own_schema for participant in catalog.participants}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, OwnSchema):
                found.setdefault(value.name, value)
        for below in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if not below.name.startswith(("test", "_")):
                waiting.append(f"{name}.{below.name}")
    return [found[name] for name in sorted(found)]


async def migrate_schema(url: str, schemas: list[OwnSchema]) -> list[str]:
    """Brings the product's schema and those of participants and saga packages up to date; gives the files applied."""
    applied = await migrate(url)
    for schema in schemas:
        applied += [f"{schema.name}/{file}" for file in await schema.migrate(url)]
    return applied


async def migrate_all(settings: Settings) -> list[str]:
    """What `orchestrator migrate` does."""
    modules = saga_modules()
    catalog = Catalog.load(modules)
    async with database(settings) as urls:
        return await migrate_schema(urls.owner, own_schemas(catalog, modules))


@dataclass(frozen=True, slots=True)
class Running:
    """A process whose parts are open. `api`: where the HTTP API is, "" where this process has none."""

    runtime: Runtime
    api: str


@asynccontextmanager
async def running(settings: Settings, urls: DatabaseUrls, catalog: Catalog) -> AsyncIterator[Running]:
    """Opens the runtime, and the HTTP server where the role api is wanted; the loops run in `Runtime.run`."""
    if urls.embedded and not (settings.has_key or settings.has_place):
        settings = settings.model_copy(update=beside_database(settings.data_dir))
        own_ring(Path(settings.evidence_key_file), settings.evidence_origin)
    with _named(settings, urls) as settings:
        runtime = Runtime(settings, database_url=urls.app, catalog=catalog)
        async with runtime:
            if settings.environment == "production":
                refuse_unsafe_database(settings, await Kept(runtime.store.pools).server_flaws())
            if "api" not in runtime.roles:
                yield Running(runtime, "")
                return
            async with ApiServer(create_app(runtime), settings.api_host, settings.api_port) as server:
                runtime.own_url = server.url
                runtime.add("api", lambda stopping: _serve(server, stopping))
                yield Running(runtime, server.url)


@asynccontextmanager
async def _once_reached(settings: Settings, urls: DatabaseUrls, catalog: Catalog) -> AsyncIterator[Running]:
    """`running`, as soon as database and broker can be reached: they may start later, or be away just now.

    What waiting cannot mend (a wrong password, an old schema, topics that differ) is raised at once.
    """
    over, pause = time.monotonic() + settings.start_wait_ms / 1000, START_AGAIN_SECONDS_FIRST
    process: Running | None = None
    async with AsyncExitStack() as opened:
        while process is None:
            try:
                process = await opened.enter_async_context(running(settings, urls, catalog))
            except AWAY as error:
                left = over - time.monotonic()
                if left <= 0:
                    raise
                log.warning("waiting to start", reason=str(error), seconds_left=round(left))
                await asyncio.sleep(min(pause, left))
                pause = min(pause * 2, START_AGAIN_SECONDS_MAX)
        yield process


@contextlib.contextmanager
def _named(settings: Settings, urls: DatabaseUrls) -> Iterator[Settings]:
    """The settings with a name for this process, where nobody gave it one."""
    if settings.instance_id:
        yield settings
        return
    purpose = "-".join(sorted(settings.role_names))
    belonging = (settings.consumer_group, settings.resolved_broker_url(urls.app), urls.app)
    with instance_name(settings.data_dir / INSTANCES, purpose, *belonging) as name:
        try:
            yield settings.model_copy(update={"instance_id": name.text})
        except LoopDiedError as error:
            if ConsumerFencedError.__name__ in error.reason:
                name.forget()
            raise


async def serve_until_stopped(settings: Settings, out: Output) -> None:
    """What `orchestrator serve` does. An embedded database is migrated first; another one must be up to date."""
    logs.configure(settings.log_level, production=settings.environment == "production")
    refuse_unsafe(settings)
    modules = saga_modules()
    catalog = Catalog.load(modules)
    async with database(settings) as urls:
        if urls.embedded:
            await migrate_schema(urls.owner, own_schemas(catalog, modules))
        async with _once_reached(settings, urls, catalog) as process:
            with stop_signals(process.runtime):
                telling = asyncio.create_task(_tell_ready(process, out), name="tell-ready")
                try:
                    await process.runtime.run()
                finally:
                    telling.cancel()


async def _tell_ready(process: Running, out: Output) -> None:
    """Says that the process is ready once it is: every loop has come round, its partitions are read, work flows."""
    began = told = time.monotonic()
    while not (health := process.runtime.health()).ready:
        await asyncio.sleep(READY_POLL_SECONDS)
        if time.monotonic() - told >= NOT_READY_SECONDS:
            told = time.monotonic()
            waiting = {loop.name: loop.detail for loop in health.loops if not loop.ready}
            log.warning("not ready yet", seconds=round(told - began), api=process.api or None, **waiting)
    out.object({"ready": True, "api": process.api or None, "roles": sorted(process.runtime.roles)})
    out.line(f"running {', '.join(sorted(process.runtime.roles))}; Ctrl-C stops")
    if process.api:
        out.line(f"API {process.api}")


@contextlib.contextmanager
def stop_signals(runtime: Runtime) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM stop the runtime; a second one cancels the task that runs this."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked and task is not None:
            task.cancel()
        asked = True
        runtime.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _serve(server: ApiServer, stopping: Stopping) -> None:
    """The HTTP server as a loop of the runtime: ends when asked to, or raises what ended it."""
    serving = asyncio.create_task(server.run(), name="api")
    asked = asyncio.create_task(stopping.wait(), name="api-stop")
    try:
        await asyncio.wait({serving, asked}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
    finally:
        asked.cancel()
        await server.stop()
        serving.cancel()
