"""A PostgreSQL schema that belongs to one participant or one saga package, and to nobody else.

Rules of this file
- The owner's role migrates (`migrate`); what runs only checks (`check`) and refuses to start on an older schema.
- Privileges of the application's role follow each table's comment, exactly as in the product's own schema.
- A schema is chosen by search_path, in each transaction; SQL of its owner never names it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import asyncpg

from orchestrator.participants.work import Connection, ParticipantError, Pool
from orchestrator.store.migrate import CONNECT_SECONDS_MAX, MIGRATIONS, MigrationError, check_schema, migrate
from orchestrator.store.sql import load_queries

INBOX_MIGRATIONS: Traversable = files("orchestrator.participants") / "migrations"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
_RESERVED = frozenset({"public", "information_schema", "pg_catalog", "orchestrator"})


@dataclass(frozen=True)
class OwnSchema:
    """One schema: its name, its numbered .sql files (None: no tables of its own), and whether it holds an inbox."""

    name: str
    migrations: Path | None = None
    inbox: bool = False

    def __post_init__(self) -> None:
        """Raises ParticipantError for a name that PostgreSQL or this product uses, or a folder that is not there."""
        if not _NAME.match(self.name) or self.name in _RESERVED or self.name.startswith("pg_"):
            raise ParticipantError(
                f"schema {self.name!r}: a name is small letters, digits and _, and none that is taken already"
            )
        if self.migrations is not None and not self.migrations.is_dir():
            raise ParticipantError(f"schema {self.name}: there is no folder {self.migrations}")

    def folders(self) -> list[Traversable]:
        """The folders of migrations, in order."""
        found: list[Traversable] = [INBOX_MIGRATIONS] if self.inbox else []
        if self.migrations is not None:
            found.append(self.migrations)
        return found

    async def migrate(self, url: str) -> list[str]:
        """Makes the schema and brings it up to date; gives the files applied. `url` logs in as the owner's role.

        Safe to run again and from several places. Raises what `orchestrator.store.migrate` raises.
        """
        inside = with_search_path(url, self.name)
        queries = load_queries("orchestrator.participants", "schema.sql")
        await self._run(inside, queries["lock"], queries["create_schema"])
        applied: list[str] = []
        for folder in self.folders():
            applied += await migrate(inside, folder)
        await self._run(inside, queries["lock"], (MIGRATIONS / "grants.sql").read_text(encoding="utf-8"))
        return applied

    async def check(self, pool: Pool) -> None:
        """Returns when the schema has all that this code knows. Raises SchemaBehindError, MigrationChangedError."""
        async with self.transaction(pool) as connection:
            for folder in self.folders():
                try:
                    await check_schema(connection, folder)
                except MigrationError as error:
                    raise type(error)(f"schema {self.name}: {error}") from error

    @asynccontextmanager
    async def transaction(self, pool: Pool, *, seconds_max: float = 10.0) -> AsyncIterator[Connection]:
        """A transaction in this schema, for code that is no handler. `seconds_max`: of one statement, or one wait."""
        queries = load_queries("orchestrator.participants", "inbox.sql")
        limit = f"{int(seconds_max * 1000)}ms"
        async with pool.acquire() as connection, connection.transaction():
            await connection.fetchrow(queries["enter"], self.name, limit, limit, limit)
            yield connection

    async def _run(self, url: str, *statements: str) -> None:
        """Some statements in one transaction."""
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX, statement_cache_size=0)
        try:
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)
        finally:
            await connection.close()


def with_search_path(url: str, schema: str) -> str:
    """The same database, seen from `schema`."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "search_path"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("search_path", schema)], quote_via=quote)))
