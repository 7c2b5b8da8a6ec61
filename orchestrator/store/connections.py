"""Connections to PostgreSQL: small pools by role, and statements that no cancellation can cut in half.

Rules of this file
- A statement runs in a task of its own. Whoever waits for it may be cancelled or lose patience; the statement is not
  cancelled then (asyncpg leaks or soils connections that way), its connection is closed instead.
- The server has its own limits (statement, lock, idle in transaction), so a client that froze or vanished inside a
  transaction gives its locks back.
- Every role has its own small pool, so a burst of page views cannot starve the coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import asyncpg

from orchestrator.store.contract import CommitUnknownError, PresumedWrongError, StoreError, StoreUnavailableError
from orchestrator.store.plans import plans_of

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
T = TypeVar("T")

# One table after the other; each read model, and what it looks up; keys, asked for while a batch holds a connection.
_FIXED_SIZES = {"report": 1, "projection": 5, "vault": 2}

# What the server or the network does to a connection, not what a statement did wrong: trying again may help.
_TRANSIENT = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
)

_FAILURES = (asyncpg.PostgresError, *_TRANSIENT)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Sizes of the pools and how long anything may take. Durations in milliseconds.

    batch_connections: for the coordinator's batches. work_connections: relay, timers, checks, sealing, maintenance.
    read_connections: pages, HTTP, command line, projections.
    statement_timeout_ms, lock_timeout_ms, idle_in_transaction_timeout_ms: the server's limits for each session.
    acquire_timeout_ms: how long to wait for a free connection. answer_timeout_ms: how long to wait for one statement's
    answer before the connection is given up as dead; more than statement_timeout_ms.
    prepared_statements: False behind a PgBouncer that pools transactions and cannot keep prepared statements.
    """

    batch_connections: int = 4
    work_connections: int = 3
    read_connections: int = 4
    statement_timeout_ms: int = 10_000
    lock_timeout_ms: int = 5_000
    idle_in_transaction_timeout_ms: int = 5_000
    connect_timeout_ms: int = 10_000
    acquire_timeout_ms: int = 5_000
    answer_timeout_ms: int = 15_000
    prepared_statements: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError naming a setting that could not work."""
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, bool) and value < 1:
                raise ValueError(f"store setting {name} is {value}; it must be at least 1")
        if self.answer_timeout_ms <= self.statement_timeout_ms:
            raise ValueError(
                f"store setting answer_timeout_ms is {self.answer_timeout_ms}, statement_timeout_ms is "
                f"{self.statement_timeout_ms}: the server must give up before the client does"
            )


class Pools:
    """The pools of one process. Opened on first use, so a process that never reads holds no reading connection."""

    def __init__(self, url: str, limits: ConnectionLimits, application: str) -> None:
        self.limits = limits
        self._url = url
        self._application = application
        self._sizes = {
            "batch": limits.batch_connections,
            "work": limits.work_connections,
            "read": limits.read_connections,
            **_FIXED_SIZES,
        }
        self._pools: dict[str, Pool] = {}
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Closes every pool; waits a moment for statements under way, then cuts."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            try:
                await asyncio.wait_for(pool.close(), self.limits.answer_timeout_ms / 1000)
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def connection(self, role: str) -> AsyncIterator[Guarded]:
        """A connection of the role's pool. Raises StoreUnavailableError (retriable) when none is to be had in time."""
        pool = self._pools.get(role) or await self._open(role)
        try:
            raw = await pool.acquire(timeout=self.limits.acquire_timeout_ms / 1000)
        except (*_TRANSIENT, TimeoutError) as error:
            raise StoreUnavailableError(
                f"no database connection for role {role!r} within {self.limits.acquire_timeout_ms} ms "
                f"({type(error).__name__}: {error}). Either the server is away or all {self._sizes[role]} are busy"
            ) from error
        guarded = Guarded(raw, self.limits, self._local(role))
        try:
            yield guarded
        finally:
            # A shielded release: a cancelled caller must not leave the pool one connection short.
            await asyncio.shield(_released(pool, raw))

    async def fresh(self) -> Connection:
        """A new connection outside the pools, for questions after one has died."""
        return await asyncpg.connect(self._url, **self._options("work"))

    async def _open(self, role: str) -> Pool:
        async with self._opening:
            if role in self._pools:
                return self._pools[role]
            try:
                pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._sizes[role],
                    max_inactive_connection_lifetime=300,
                    reset=keep_as_it_is,
                    **self._options(role),
                )
            except _TRANSIENT as error:
                raise StoreUnavailableError(f"cannot reach the database: {type(error).__name__}: {error}") from error
            self._pools[role] = pool
            return pool

    def _settings(self, role: str) -> dict[str, str]:
        limits = self.limits
        return {
            "statement_timeout": str(limits.statement_timeout_ms),
            "lock_timeout": str(limits.lock_timeout_ms),
            "idle_in_transaction_session_timeout": str(limits.idle_in_transaction_timeout_ms),
            "timezone": "UTC",
            **plans_of(role),
        }

    def _local(self, role: str) -> str:
        """What each transaction sets for itself, where a pooler does not let a session keep its settings."""
        if self.limits.prepared_statements:
            return ""
        return "".join(f"; SET LOCAL {name} = '{value}'" for name, value in self._settings(role).items())

    def _options(self, role: str) -> dict[str, Any]:
        limits = self.limits
        kept = self._settings(role) if limits.prepared_statements else {}
        return {
            "timeout": limits.connect_timeout_ms / 1000,
            "statement_cache_size": 200 if limits.prepared_statements else 0,
            "max_cached_statement_lifetime": 0,
            "server_settings": {"application_name": self._application, **kept},
        }


async def keep_as_it_is(_connection: object) -> None:
    """Nothing to reset: no code here changes a session. Saves a round trip for every batch."""


async def _released(pool: Pool, raw: Any) -> None:
    try:
        await pool.release(raw)
    except _TRANSIENT:
        with contextlib.suppress(asyncpg.InterfaceError):
            raw.terminate()


class SeenError(StoreError):
    """A row with this key is there already."""


class Guarded:
    """One connection whose statements run to their end or take the connection with them."""

    def __init__(self, raw: Any, limits: ConnectionLimits, local: str = "") -> None:
        self._raw = raw
        self._answer_timeout = limits.answer_timeout_ms / 1000
        self._local = local  # settings of each transaction; also says that statements must not stand alone
        self._open = False
        self.broken = False

    async def begin(self, mode: str = "") -> None:
        """Opens a transaction. `mode`: "", or READ ONLY."""
        await self._told("-- begin", self._call("execute", f"BEGIN {mode}{self._local}"))
        self._open = True

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """All rows of one statement."""
        rows: list[asyncpg.Record] = await self._statement("fetch", query, *args)
        return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record:
        """The only row of a statement that always gives one."""
        return (await self.fetch(query, *args))[0]

    async def execute(self, query: str, *args: object) -> int:
        """How many rows the statement changed."""
        status: str = await self._statement("execute", query, *args)
        return int(status.rpartition(" ")[2]) if status[-1:].isdigit() else 0

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[tuple[object, ...]]) -> None:
        """Adds rows by binary COPY: half the price of INSERT ... unnest for many rows. Raises SeenError for a key that
        is there already; the transaction is then good for nothing but going back to a savepoint."""
        try:
            copying = self._call("copy_records_to_table", table, records=rows, columns=columns)
            await self._told(f"-- copy {table}", copying)
        except StoreError as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                raise SeenError(str(error)) from error
            raise

    async def commit(self) -> None:
        """Commits. Raises CommitUnknownError where nobody can tell, StoreError where the server said no.

        A caller who is cancelled meanwhile is told so only when the outcome is there: COMMIT is never cut off.
        """
        self._open = False
        task = await self._outcome("execute", "COMMIT")
        try:
            status = task.result()
        except (asyncpg.TransactionRollbackError, asyncpg.IntegrityConstraintViolationError) as error:
            raise translated(error, "COMMIT was refused") from error
        except _FAILURES as error:
            self._close()
            raise CommitUnknownError(f"COMMIT: {type(error).__name__}: {error}. It may have happened: ask") from error
        if status != "COMMIT":
            raise StoreError(
                "COMMIT rolled back: a statement of this transaction had failed, and its error was swallowed"
            )

    async def alone(self, query: str, *args: object) -> asyncpg.Record:
        """The only row of a statement; outside a transaction it is one by itself, and may raise CommitUnknownError.

        Raises PresumedWrongError where it would have added a key that is there.
        """
        if self._local and not self._open:
            await self.begin()
        try:
            if self._open:
                return await self.fetchrow(query, *args)
            rows: list[asyncpg.Record] = (await self._outcome("fetch", query, *args)).result()
        except asyncpg.UniqueViolationError as error:
            raise PresumedWrongError(str(error)) from error
        except StoreError as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                raise PresumedWrongError(str(error)) from error
            raise
        except _FAILURES as error:
            if isinstance(error, ValueError) or getattr(error, "severity_en", "") == "ERROR":
                raise translated(error, "a batch was refused") from error  # before or by the server: all rolled back
            self._close()
            raise CommitUnknownError(f"{type(error).__name__}: {error}. It may have been stored: ask") from error
        return rows[0]

    @property
    def open(self) -> bool:
        """A transaction is open."""
        return self._open

    async def _outcome(self, method: str, query: str, *args: object) -> asyncio.Future[Any]:
        """A call that commits, done: a caller who is cancelled meanwhile is told so only when the outcome is there."""
        task = asyncio.ensure_future(self._call(method, query, *args))
        cancelled = False
        deadline = asyncio.get_running_loop().time() + self._answer_timeout
        while not task.done():
            try:
                done, _ = await asyncio.wait({task}, timeout=deadline - asyncio.get_running_loop().time())
            except asyncio.CancelledError:
                cancelled = True
                continue
            if not done:
                await self._abandon(task)
                raise CommitUnknownError(
                    f"no answer to COMMIT within {self._answer_timeout:.0f} s: it may have happened"
                )
        if cancelled:
            task.exception()
            raise asyncio.CancelledError
        return task

    async def commit_repeatable(self) -> None:
        """Commits what may be done again: not to know whether it happened is then the same as that it did not."""
        try:
            await self.commit()
        except CommitUnknownError as error:
            raise StoreUnavailableError(f"{error} Or do it again") from error

    async def roll_back(self) -> None:
        """Rolls back without raising; a connection on which that fails is closed, which comes to the same."""
        self._open = False
        if self.broken:
            return
        task = asyncio.ensure_future(self._call("execute", "ROLLBACK"))
        try:
            done, _ = await asyncio.wait({task}, timeout=self._answer_timeout)
        except asyncio.CancelledError:
            await self._abandon(task)
            raise
        if not done:
            await self._abandon(task)
        elif task.exception() is not None:
            self._close()

    async def _statement(self, method: str, query: str, *args: object) -> Any:
        if self._open or not self._local:
            return await self._told(query, self._call(method, query, *args))
        await self.begin()
        try:
            answer = await self._told(query, self._call(method, query, *args))
        except BaseException:
            await self.roll_back()
            raise
        await self.commit_repeatable()  # without a transaction around it, its outcome would not be known either
        return answer

    async def _call(self, method: str, *args: object, **named: object) -> Any:
        """A coroutine of the driver. Its methods raise when called, not when awaited, on a connection that has died."""
        return await getattr(self._raw, method)(*args, **named)

    def _close(self) -> None:
        self.broken = True
        with contextlib.suppress(asyncpg.InterfaceError):  # the pool has noticed before us
            self._raw.terminate()

    async def _told(self, query: str, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self.run(work)
        except _FAILURES as error:
            if not isinstance(error, (asyncpg.PostgresError, ValueError)):
                self._close()  # driver and server no longer agree on what this connection is doing
            raise translated(error, query.partition("\n")[0].removeprefix("-- ")) from error

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Lets one operation run to its end. Cancelled or out of patience: closes the connection, then raises."""
        task = asyncio.ensure_future(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._answer_timeout)
        except asyncio.CancelledError:
            await self._abandon(task)
            raise
        if not done:
            await self._abandon(task)
            raise StoreUnavailableError(
                f"the database did not answer within {self._answer_timeout:.0f} s; its connection was closed. "
                "Cause: a frozen server or network. What was under way has been rolled back or will be"
            )
        return task.result()

    async def _abandon(self, task: asyncio.Future[Any]) -> None:
        self._close()
        # The task ends now with an error that nobody needs; awaiting it leaves no "never retrieved" behind.
        await asyncio.wait({task}, timeout=1)
        if task.done() and not task.cancelled():
            task.exception()


@contextlib.contextmanager
def in_our_words(doing: str) -> Iterator[None]:
    """What the driver says inside about a database that is away, is said as StoreUnavailableError."""
    try:
        yield
    except _TRANSIENT as error:
        raise translated(error, doing) from error


def translated(error: Exception, doing: str) -> StoreError:
    """A driver's error as one of the store's, which says whether trying again may help."""
    if isinstance(error, StoreError):
        return error
    # A ValueError is the driver refusing an argument, which it does again however often one tries.
    transient = isinstance(error, _TRANSIENT) and not isinstance(error, ValueError)
    kind = StoreUnavailableError if transient else StoreError
    hint = ""
    if isinstance(error, asyncpg.OutOfMemoryError):
        hint = ". If it speaks of shared memory: raise max_locks_per_transaction, or make batches smaller"
    elif isinstance(error, asyncpg.InsufficientPrivilegeError):
        hint = ". The application's role may not do this: run orchestrator migrate, which sets its privileges"
    elif isinstance(error, (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError)):
        hint = ". The schema is older than the code: run orchestrator migrate"
    return kind(f"{doing}: {type(error).__name__}: {error}{hint}")
