"""Brings a database to the schema this version of the product needs.

Rules: the SQL files are the source. `migrations/NNNN_name.sql` are applied in the order of their numbers, each in one
transaction, once; a file that was applied anywhere is never edited again, a new one follows it. `migrations/grants.sql`
runs last, every time, so the application's role has exactly the privileges that file states. The owner's role migrates;
the running product only checks (`check_schema`) and refuses to start on an older schema. A database that is newer than
the code is fine: that is what a rolling upgrade looks like.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Protocol

import asyncpg

from orchestrator.store.sql import load_queries

MIGRATIONS: Traversable = files("orchestrator.store") / "migrations"
_FILE_NAME = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")
_GRANTS = "grants.sql"

# How long a migration may wait for a table that is in use, seconds. While it waits, everybody else queues behind it.
LOCK_WAIT_SECONDS_MAX = 10
CONNECT_SECONDS_MAX = 30


class MigrationError(Exception):
    """The schema could not be brought up to date; nothing of the failing file was applied. For an operator."""

    retriable = False


class MigrationChangedError(MigrationError):
    """A file that this database has already had reads differently today."""


class SchemaBehindError(MigrationError):
    """The database is older than the code that wants to use it."""


class _Querying(Protocol):
    """What a connection and a pool have in common."""

    async def fetch(self, query: str, *args: object) -> list[Any]: ...


@dataclass(frozen=True)
class Migration:
    """One numbered file: `name` without its folder, `checksum` the SHA-256 of its bytes in hex."""

    name: str
    sql: str
    checksum: str


def load_migrations(directory: Traversable = MIGRATIONS) -> list[Migration]:
    """All numbered files of a folder, in order. Raises MigrationError for a name or number that breaks the order."""
    found: dict[str, Migration] = {}
    for file in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql") or file.name == _GRANTS:
            continue
        named = _FILE_NAME.fullmatch(file.name)
        if named is None:
            raise MigrationError(
                f"migration {file.name}: rename it to look like 0001_what_it_does.sql (four digits, lower case)."
            )
        if (earlier := found.get(named["number"])) is not None:
            raise MigrationError(
                f"migrations {earlier.name} and {file.name} have the same number. "
                "Give the one that no database has had yet the next free number."
            )
        content = file.read_bytes()
        found[named["number"]] = Migration(file.name, content.decode(), hashlib.sha256(content).hexdigest())
    return list(found.values())


async def migrate(url: str, directory: Traversable = MIGRATIONS) -> list[str]:
    """Applies what is missing and sets the privileges; returns the names of the files it applied, in order.

    `url` must log in as the owner of the schema. Safe to run again, at the same time from several places, and after
    having been killed at any moment. Raises MigrationChangedError before anything is applied when an applied file was
    edited, and MigrationError naming the file when its SQL fails.
    """
    migrations = load_migrations(directory)
    connection = await _connect(url)
    try:
        if not await connection.fetchval(_sql("app_role_exists")):
            raise MigrationError(
                "the role orchestrator_app does not exist on this server; the running product logs in with it. "
                "Create it once as a superuser: psql -f orchestrator/store/bootstrap/roles.sql"
            )
        await _locked(connection, lambda: connection.execute(_sql("migrations_table")), "schema_migrations")
        _refuse_changed(migrations, await _applied(connection))
        applied_now = [m.name for m in migrations if await _apply(connection, m)]
        grants = directory / _GRANTS
        if grants.is_file():
            await _locked(connection, lambda: connection.execute(grants.read_text()), _GRANTS)
        return applied_now
    finally:
        await connection.close()


async def check_schema(connection: _Querying, directory: Traversable = MIGRATIONS) -> None:
    """Returns when the database has every migration this code knows; takes a connection or a pool, of any role.

    Raises SchemaBehindError when some are missing, MigrationChangedError when one reads differently.
    """
    migrations = load_migrations(directory)
    try:
        applied = await _applied(connection)
    except asyncpg.UndefinedTableError:
        applied = {}
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaBehindError(
            f"the database role may not read the table of applied migrations ({error}). "
            "An earlier migration was probably interrupted: run orchestrator migrate"
        ) from error
    _refuse_changed(migrations, applied)
    missing = [m.name for m in migrations if m.name not in applied]
    if missing:
        raise SchemaBehindError(
            f"the database lacks {len(missing)} of {len(migrations)} migrations: {', '.join(missing)}. "
            "Run: orchestrator migrate"
        )


async def _apply(connection: asyncpg.Connection[asyncpg.Record], migration: Migration) -> bool:
    """Applies one file and notes it in the same transaction; False when somebody else has done it meanwhile."""
    newly_applied = False

    async def run() -> None:
        nonlocal newly_applied
        if migration.name in await _applied(connection):
            return
        await connection.execute(migration.sql)
        await connection.execute(_sql("record_migration"), migration.name, migration.checksum)
        newly_applied = True

    await _locked(connection, run, migration.name)
    return newly_applied


async def _locked(
    connection: asyncpg.Connection[asyncpg.Record], work: Callable[[], Awaitable[object]], name: str
) -> None:
    """Runs `work` in one transaction while no other migrator runs; reports its failure as that of file `name`."""
    try:
        async with connection.transaction():
            await connection.execute(_sql("migration_lock"))
            await connection.execute(_sql("wait_no_longer"), f"{LOCK_WAIT_SECONDS_MAX}s")
            await work()
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(
            f"migration {name}: a table stayed in use for {LOCK_WAIT_SECONDS_MAX} s; nothing was changed. "
            "Look for long transactions (orchestrator doctor), then run orchestrator migrate again."
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            f"migration {name}: {error}. Migrations need the owner's role: set ORCHESTRATOR_MIGRATE_URL to it."
        ) from error
    except asyncpg.PostgresError as error:
        where = f" (near character {error.position} of the file)" if getattr(error, "position", None) else ""
        raise MigrationError(
            f"migration {name}: {type(error).__name__}: {error}{where}. Nothing of this file was applied; "
            "the files before it were. Correct it and run orchestrator migrate again."
        ) from error


async def _connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise MigrationError(
            f"cannot connect to migrate: {type(error).__name__}: {error}. "
            "Check ORCHESTRATOR_MIGRATE_URL and that the server runs."
        ) from error


async def _applied(connection: _Querying) -> dict[str, str]:
    """Name to checksum of what this database has had."""
    return {row["name"]: row["checksum"] for row in await connection.fetch(_sql("applied_migrations"))}


def _refuse_changed(migrations: list[Migration], applied: dict[str, str]) -> None:
    for migration in migrations:
        recorded = applied.get(migration.name, migration.checksum)
        if recorded != migration.checksum:
            raise MigrationChangedError(
                f"migration {migration.name} was edited after this database had it: applied with checksum {recorded}, "
                f"the file now has {migration.checksum}. Restore the file and put the change into a new migration; "
                "on a throw-away database, delete it and start again."
            )


def _sql(name: str) -> str:
    return load_queries("orchestrator.store", "bootstrap/migrate.sql")[name]
