"""Databases for tests: one embedded server a run, one fresh migrated database a test, copied from a template."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.migrate import migrate

_DIRECTORY_PREFIX = "orchestrator-test-"
_TEMPLATE = "migrated_template"
_MEMORY = Path("/dev/shm")
_MEMORY_FREE_BYTES_MIN = 4 * 1024**3


def fast_directory() -> Path:
    """Where throw-away databases live: in memory where there is plenty (ten times faster), else the usual place."""
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_FREE_BYTES_MIN:
        return _MEMORY
    return Path(tempfile.gettempdir())


@dataclass(frozen=True)
class Database:
    """A database of one's own. `url` logs in as the application, `migrate_url` as the owner of its tables."""

    name: str
    url: str
    migrate_url: str
    admin_url: str


class DatabaseServer:
    """The run's server. Databases are cheap here: a copy of the migrated template takes 10 to 100 ms."""

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        self.postgres = postgres
        self._numbers = itertools.count(1)
        self._template_made = False

    @asynccontextmanager
    async def database(self, *, migrated: bool = True) -> AsyncIterator[Database]:
        """A new database, dropped afterwards with whatever is still connected to it."""
        name = f"test_{next(self._numbers)}"
        if migrated:
            await self._make_template()
        await self._admin(
            f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE if migrated else 'template1'} "
            "OWNER orchestrator_owner STRATEGY FILE_COPY"
        )
        try:
            yield self._named(name)
        finally:
            await self._admin(f"DROP DATABASE {name} WITH (FORCE)")

    async def _make_template(self) -> None:
        if not self._template_made:
            await self._admin(f"DROP DATABASE IF EXISTS {_TEMPLATE}")
            await self._admin(f"CREATE DATABASE {_TEMPLATE} OWNER orchestrator_owner")
            await migrate(self._named(_TEMPLATE).migrate_url)
            self._template_made = True

    def _named(self, name: str) -> Database:
        return Database(
            name,
            url=self.postgres.url_for(name, "orchestrator_app"),
            migrate_url=self.postgres.url_for(name, "orchestrator_owner"),
            admin_url=self.postgres.url_for(name, "postgres"),
        )

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(self.postgres.admin_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def running_server(*, on_disk: bool = False) -> AsyncIterator[DatabaseServer]:
    """Starts the run's server in a temporary directory; stops it and removes the directory whatever happens.

    `on_disk`: not in memory, and with the product's own settings, for what is very large or is to be measured.
    """
    _remove_leftovers()
    place = Path(tempfile.gettempdir()) if on_disk else fast_directory()
    directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX, dir=place))
    try:
        async with EmbeddedPostgres(directory, durable=on_disk) as postgres:
            yield DatabaseServer(postgres)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers() -> None:
    """Directories of runs that were killed: nobody holds their owner's lock any more."""
    for directory in fast_directory().glob(f"{_DIRECTORY_PREFIX}*"):
        try:
            with (directory / "owner.lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if directory.stat().st_uid == os.geteuid():
                    shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            continue
