"""The embedded server starts, stops, survives a killed owner, and says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orchestrator.store.embedded import EmbeddedPostgres, EmbeddedPostgresError
from orchestrator.store.server_account import ServerAccount, ServerAccountError, runs_on
from tests.databases import fast_directory

LOCK = ".s.PGSQL.5432.lock"
OWNER_PROGRAM = """
import asyncio, sys
from pathlib import Path
from orchestrator.store.embedded import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]), durable=True)
    await server.start()
    print("ready", server.owned, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Short, so that the socket lies inside; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="embedded-", dir=fast_directory()) as directory:
        yield Path(directory) / "postgres"


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


@contextlib.contextmanager
def another_owner(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that owns the server of this directory, killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER_PROGRAM, str(data_dir)], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready True\n"
            yield owner
        finally:
            owner.kill()


@contextlib.contextmanager
def running_stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            yield stranger
        finally:
            stranger.kill()


async def until_gone(pid: int, data_dir: Path) -> None:
    deadline = time.monotonic() + 20
    while runs_on(pid, data_dir / "pgdata"):
        assert time.monotonic() < deadline, f"server {pid} is still there"
        await asyncio.sleep(0.02)


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "pgdata" / "postmaster.pid").read_text().split()[0])


async def test_it_starts_empty_keeps_its_data_and_stops(data_dir: Path) -> None:
    """The second start finds what the first one wrote."""
    async with EmbeddedPostgres(data_dir) as server:
        pid = server_pid(data_dir)
        assert await value(server.url, "SELECT current_user || ' on ' || current_database()") == (
            "orchestrator_app on orchestrator"
        )
        assert str(await value(server.url, "SHOW server_version")).startswith("18.")
        await value(server.migrate_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not runs_on(pid, data_dir / "pgdata")
    async with EmbeddedPostgres(data_dir) as server:
        assert await value(server.migrate_url, "SELECT answer FROM kept") == 42


async def test_by_default_it_is_as_durable_as_a_database_should_be(data_dir: Path) -> None:
    """Speed is for tests that ask for it."""
    async with EmbeddedPostgres(data_dir) as server:
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert await value(server.admin_url, f"SHOW {setting}") == "on", setting
        assert await value(server.admin_url, "SHOW shared_buffers") == "256MB"
        assert await value(server.admin_url, "SHOW listen_addresses") == ""
    async with EmbeddedPostgres(data_dir, durable=False) as server:
        assert await value(server.admin_url, "SHOW fsync") == "off"


async def test_nobody_else_may_enter_its_socket_directory(data_dir: Path) -> None:
    """Log-ins need no password, so the directory is the lock."""
    async with EmbeddedPostgres(data_dir, durable=False):
        assert (data_dir / "run").stat().st_mode & 0o777 == 0o700
        assert (data_dir / "pgdata").stat().st_mode & 0o777 == 0o700


async def test_the_application_role_owns_nothing(data_dir: Path) -> None:
    """It can neither make tables nor become somebody else."""
    async with EmbeddedPostgres(data_dir, durable=False) as server:
        for statement in ("CREATE TABLE mine ()", "SET ROLE orchestrator_owner", "CREATE SCHEMA mine"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await value(server.url, statement)


async def test_who_comes_second_shares_the_server_and_leaves_it_running(data_dir: Path) -> None:
    """A CLI verb beside a running demo talks to the demo's database."""
    async with EmbeddedPostgres(data_dir, durable=False) as owner:
        async with EmbeddedPostgres(data_dir, durable=False) as guest:
            assert owner.owned
            assert not guest.owned
            assert guest.url == owner.url
            assert await value(guest.url, "SELECT 1") == 1
        assert await value(owner.url, "SELECT 1") == 1


async def test_two_that_start_at_once_agree_on_one_server(data_dir: Path) -> None:
    """Also on the very first start, while the cluster is being made."""
    servers = [EmbeddedPostgres(data_dir, durable=False) for _ in range(3)]
    try:
        urls = await asyncio.gather(*(server.start() for server in servers))
        assert len(set(urls)) == 1
        assert sum(server.owned for server in servers) == 1
    finally:
        for server in sorted(servers, key=lambda s: s.owned):
            await server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
async def test_it_stops_when_its_owner_is_killed(data_dir: Path) -> None:
    """SIGKILL leaves the owner no time to stop anything."""
    with another_owner(data_dir) as owner:
        pid = server_pid(data_dir)
        owner.kill()
    await until_gone(pid, data_dir)


async def test_it_starts_at_once_after_a_killed_owner(data_dir: Path) -> None:
    """The left-over server may still be stopping, or may not stop at all."""
    with another_owner(data_dir) as owner:
        left_over = server_pid(data_dir)
        owner.kill()
        async with EmbeddedPostgres(data_dir, durable=False) as server:
            assert server.owned
            assert server_pid(data_dir) != left_over
            assert await value(server.url, "SELECT 1") == 1


async def test_a_server_that_breaks_off_the_first_connection_is_asked_again(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is stopping lets a client in and is gone before the client has said goodbye."""
    connect, goodbyes = asyncpg.connect, 0

    class Leaving:
        async def close(self) -> None:
            nonlocal goodbyes
            goodbyes += 1
            raise BrokenPipeError

    async def leaving_once(*args: Any, **kwargs: Any) -> Any:
        return await connect(*args, **kwargs) if goodbyes else Leaving()

    with another_owner(data_dir):
        monkeypatch.setattr(asyncpg, "connect", leaving_once)
        async with EmbeddedPostgres(data_dir, durable=False) as server:
            assert goodbyes == 1
            assert await value(server.url, "SELECT 1") == 1


async def test_it_recovers_what_was_committed_before_a_crash_of_the_server(data_dir: Path) -> None:
    """The server itself is killed, its pid file stays, its children may live for a moment."""
    with another_owner(data_dir) as owner:
        url = EmbeddedPostgres(data_dir).migrate_url
        await value(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(server_pid(data_dir), signal.SIGKILL)
        owner.kill()
    assert (data_dir / "pgdata" / "postmaster.pid").exists()
    async with EmbeddedPostgres(data_dir, durable=False) as server:
        assert await value(server.migrate_url, "SELECT answer FROM kept") == 42


async def test_pid_files_with_the_number_of_a_stranger_are_no_obstacle(data_dir: Path) -> None:
    """After a reboot the old number often belongs to somebody else; that process must not be touched."""
    async with EmbeddedPostgres(data_dir, durable=False):
        pid_files = {file: file.read_text() for file in (data_dir / "pgdata/postmaster.pid", data_dir / "run" / LOCK)}
    with running_stranger() as stranger:
        for file, content in pid_files.items():
            file.write_text(content.replace(content.split()[0], str(stranger.pid), 1))
        async with EmbeddedPostgres(data_dir, durable=False) as server:
            assert await value(server.url, "SELECT 1") == 1
        assert stranger.poll() is None


async def test_a_killed_first_start_leaves_nothing_half_made(data_dir: Path) -> None:
    """initdb works beside the final place."""
    unfinished = data_dir / "pgdata.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(data_dir, durable=False) as server:
        assert await value(server.url, "SELECT 1") == 1


async def test_a_path_too_long_for_a_socket_is_served_from_a_short_one() -> None:
    """Sockets allow about a hundred bytes, checkouts in deep folders have more."""
    with tempfile.TemporaryDirectory(prefix="embedded-", dir=fast_directory()) as directory:
        async with EmbeddedPostgres(Path(directory) / ("deep" * 30) / "postgres", durable=False) as server:
            assert await value(server.url, "SELECT 1") == 1


async def test_it_runs_where_only_its_owner_may_pass(data_dir: Path) -> None:
    """A checkout under /root, a umask of 077."""
    closed = data_dir.parent / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(closed / "postgres", durable=False) as server:
        assert await value(server.url, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


async def test_data_of_another_major_version_is_named_not_touched(data_dir: Path) -> None:
    """PostgreSQL itself only writes a log line."""
    (data_dir / "pgdata").mkdir(parents=True)
    (data_dir / "pgdata" / "PG_VERSION").write_text("15\n")
    with pytest.raises(EmbeddedPostgresError, match=r"written by version 15, the installed one is 18"):
        await EmbeddedPostgres(data_dir).start()


async def test_a_server_that_cannot_start_reports_its_last_words(data_dir: Path) -> None:
    """The message must be enough; nobody should have to find the log first."""
    async with EmbeddedPostgres(data_dir, durable=False):
        pass
    (data_dir / "pgdata" / "postgresql.conf").write_text("no_such_setting = 1\n")
    server = EmbeddedPostgres(data_dir, durable=False)
    with pytest.raises(EmbeddedPostgresError, match=r"(?s)ended while starting.*no_such_setting.*server\.log"):
        await server.start()
    assert not server.owned


def test_a_directory_that_is_a_link_is_not_given_away(tmp_path: Path) -> None:
    """Somebody else may have put it under the temporary directory."""
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(ServerAccountError, match="should be a directory"):
        ServerAccount.choose(tmp_path / "none").give(tmp_path / "link")
