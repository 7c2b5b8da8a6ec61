"""`orchestrator serve` and `migrate`, as programs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests import forking
from tests.databases import Database

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def environment(**more: str) -> dict[str, str]:
    """No setting of the caller's shell counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
    return kept | {"PYTHONPATH": str(ROOT), "ORCHESTRATOR_SAGAS": "sagas.orders", **more}


@contextmanager
def serving(*arguments: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A `serve` that has said that it is ready; killed at the end, whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "serve", "--json", *arguments],
        env=environment(**variables), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """One command line."""
    return forking.run("orchestrator", *arguments, env=environment(**variables), cwd=ROOT)


def test_a_laptop_needs_one_word(tmp_path: Path) -> None:
    """`serve` brings its own database, migrates it, serves; a second process shares it; SIGTERM ends both with 0."""
    data = {"ORCHESTRATOR_DATA_DIR": str(tmp_path), "ORCHESTRATOR_API_PORT": "0"}
    with serving(**data) as (first, said):
        roles = ["api", "coordinator", "notices", "participants", "projections", "relay", "timers", "traces"]
        assert said["roles"] == roles
        assert httpx2.get(f"{said['api']}/healthz", trust_env=False).status_code == 200
        with serving("--roles", "timers", **data) as (second, also):
            assert (also["roles"], also["api"]) == (["timers"], None)
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0
        example = run("emit", "OrderPlaced", "--example", "--dry-run", ORCHESTRATOR_API_URL=said["api"])
        order = json.loads(example.stdout)
        order |= {"lines": [{"sku": "lamp", "quantity": 1, "unit_price": "9.90"}], "card": "card-gold"}
        sent = run("emit", "OrderPlaced", "--data", json.dumps(order), ORCHESTRATOR_API_URL=said["api"])
        assert sent.returncode == 0, sent.stderr
        phase = ""
        while phase != "completed":
            shown = run("saga", "show", order["order_id"], "--json", ORCHESTRATOR_API_URL=said["api"])
            phase = json.loads(shown.stdout)["saga"]["phase"] if shown.returncode == 0 else ""
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
        assert first.stderr is not None
        assert "Traceback" not in first.stderr.read()


async def test_a_process_that_starts_before_its_database_waits_for_it(database: Database, tmp_path: Path) -> None:
    """In whatever order a machine brings things up. Until then it says what it waits for, and is not ready."""
    wire = tmp_path / ".s.PGSQL.5432"
    url = f"postgresql://{urlsplit(database.url).username}@/{database.name}?host={tmp_path}&port=5432"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", "serve", "--roles", "timers", "--json",
        env=environment(ORCHESTRATOR_DATABASE_URL=url), cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"waiting to start" in await process.stderr.readline()
        wire.symlink_to(Path(parse_qs(urlsplit(database.url).query)["host"][0]) / wire.name)
        assert json.loads(await process.stdout.readline())["ready"]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def test_a_port_in_use_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    """Exit code 2: whoever chose the address must choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = run("serve", ORCHESTRATOR_DATA_DIR=str(tmp_path), ORCHESTRATOR_API_PORT=port)
    assert said.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said.stderr
    assert "Traceback" not in said.stderr


async def test_a_database_that_is_behind_is_not_served(empty_database: Database) -> None:
    """`serve` never migrates a database that is not its own; `migrate` does, with the owner's role, once."""
    urls = {
        "ORCHESTRATOR_DATABASE_URL": empty_database.url,
        "ORCHESTRATOR_MIGRATE_URL": empty_database.migrate_url,
        "ORCHESTRATOR_API_PORT": "0",
    }
    said = run("serve", **urls)
    assert (said.returncode, "orchestrator migrate" in said.stderr) == (7, True), said.stderr
    first = run("migrate", "--json", **urls)
    assert first.returncode == 0, first.stderr
    applied = json.loads(first.stdout)["applied"]
    assert "0001_store.sql" in applied
    assert any(name.startswith("inventory/") for name in applied)
    assert json.loads(run("migrate", "--json", **urls).stdout)["applied"] == []
    with serving(**urls) as (process, said_ready):
        assert said_ready["ready"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
