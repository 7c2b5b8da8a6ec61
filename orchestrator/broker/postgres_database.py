"""Statements for the log in PostgreSQL: one small pool, errors in the port's words, topics by name.

Rules:
- Every call is one statement and its own transaction: nothing of this broker is ever open across a wait.
- A statement runs in a task of its own. Who waits for it may be cancelled; the statement goes on. A driver that is
  cancelled inside a statement leaves a connection in an unknown state.
- Time limits stand in the server, so that a client that froze holds no lock for long.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg

from orchestrator.broker.contract import BrokerError, BrokerSetupError, BrokerUnavailableError
from orchestrator.broker.settings import BrokerSettings
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.broker", "postgres.sql")

Place: TypeAlias = tuple[int, int]
"""A partition as the tables name it: topic id and partition number."""

_NEEDS_AN_OPERATOR = {
    asyncpg.UndefinedTableError: "the database lacks the log's tables; run: orchestrator migrate",
    asyncpg.InsufficientPrivilegeError: "the database role may not use the log's tables; run: orchestrator migrate",
    asyncpg.InvalidPasswordError: "the database refuses this user and password",
    asyncpg.InvalidAuthorizationSpecificationError: "the database refuses this user",
    asyncpg.InvalidCatalogNameError: "this database does not exist",
}
_TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server shuts down, starts, or cancelled the statement
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the tables know it."""

    name: str
    topic_id: int
    partitions: int


class Database:
    """The connections of one broker object."""

    def __init__(self, url: str, settings: BrokerSettings) -> None:
        """Connects on first use."""
        self._url = url
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._statements: set[asyncio.Task[Any]] = set()
        self._topics: dict[str, Topic] = {}
        self._closed = False

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Run the named query and return its rows. Raises BrokerUnavailableError or BrokerSetupError."""
        return await self._shielded(self._fetch(SQL[query], arguments))

    async def connect_alone(self) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection outside the pool, for listening. Raises like ``rows``."""
        try:
            return await asyncpg.connect(self._url, **self._options())
        except Exception as error:
            raise broker_error(error) from error

    async def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the topics that exist. A topic once found is remembered: id and partitions never change."""
        wanted = set(names)
        unknown = [name for name in wanted if name not in self._topics]
        if unknown:
            for row in await self.rows("topics", unknown):
                self._topics[row["name"]] = Topic(row["name"], row["topic_id"], row["partitions"])
        return {name: self._topics[name] for name in wanted if name in self._topics}

    async def close(self) -> None:
        """Wait a moment for statements under way, then disconnect. Idempotent."""
        self._closed = True
        if self._statements:
            await asyncio.wait(self._statements, timeout=self._settings.stop_timeout_ms / 1000)
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._settings.stop_timeout_ms / 1000):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def _fetch(self, sql: str, arguments: Sequence[object]) -> list[asyncpg.Record]:
        try:
            pool = self._pool or await self._open()
            return await pool.fetch(sql, *arguments)
        except Exception as error:
            raise broker_error(error) from error

    async def _shielded(self, statement: "Coroutine[Any, Any, list[asyncpg.Record]]") -> list[asyncpg.Record]:
        task = asyncio.create_task(statement, name="broker-statement")
        self._statements.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._statements.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has it; if nobody did, nobody needs it

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        async with self._opening:
            if self._closed:
                raise BrokerError("this broker was closed")
            if self._pool is None:
                pool: asyncpg.Pool[asyncpg.Record] = asyncpg.create_pool(
                    self._url,
                    min_size=1,
                    max_size=self._settings.postgres_connections_max,
                    # No statement of ours changes a session, so nothing is to be reset: that saves a round trip each.
                    reset=_nothing_to_reset,
                    **self._options(),
                )
                try:
                    async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                        await pool
                except BaseException:
                    pool.terminate()
                    raise
                self._pool = pool
            return self._pool

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "timeout": settings.connect_timeout_ms / 1000,
            # The server gives up first; this is for a server that is gone without a word.
            "command_timeout": settings.postgres_statement_timeout_ms / 1000 + 5,
        }
        if settings.postgres_prepared_statements:
            options["server_settings"] = {
                "application_name": settings.client_id,
                "statement_timeout": str(settings.postgres_statement_timeout_ms),
                "lock_timeout": str(settings.postgres_lock_timeout_ms),
                "idle_in_transaction_session_timeout": str(settings.postgres_statement_timeout_ms),
            }
        else:
            # A pooler in between knows no such start-up parameters, and may give each statement another session.
            options["statement_cache_size"] = 0
        return options


async def _nothing_to_reset(connection: object) -> None:
    """Given to the pool in place of its own reset statement."""


def broker_error(error: Exception) -> BrokerError:
    """A driver's error in the port's words."""
    if isinstance(error, BrokerError):
        return error
    for kind, text in _NEEDS_AN_OPERATOR.items():
        if isinstance(error, kind):
            return BrokerSetupError(f"the log in PostgreSQL: {text} ({error})")
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, _TRANSIENT):
        return BrokerUnavailableError(f"the log in PostgreSQL does not answer as it should: {what}")
    return BrokerError(f"the log in PostgreSQL failed: {what}")
