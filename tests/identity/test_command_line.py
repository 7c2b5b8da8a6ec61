"""Keys and people on the command line: what is made there holds at the API, and what is revoked does not."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from orchestrator.cli.main import run
from tests.identity.bank import Bank

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Shell:
    """Runs verbs against the bank's database."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """The exit code, the objects on stdout, and what stderr says."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(run, [*arguments, "--json"])
        out, err = self._capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines() if line.startswith("{")], err


@pytest.fixture
def shell(bank: Bank, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell whose environment names the bank's database."""
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", bank.runtime.database_url)
    monkeypatch.setenv("ORCHESTRATOR_LOCAL_USERS", "true")
    monkeypatch.setenv("ORCHESTRATOR_TENANT", "main")
    return Shell(capsys)


async def test_a_key_is_made_shown_once_and_revoked(bank: Bank, shell: Shell) -> None:
    """From making it to its end; the log names who did it."""
    code, (made,), _ = await shell("key", "create", "billing", "--action", "saga.read", "--days", "1")
    assert code == 0
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert (await bank.ask("GET", "/v1/sagas", headers=headers)).status == 200
    assert (await bank.ask("GET", "/v1/definitions", headers=headers)).status == 403
    code, listed, _ = await shell("key", "list")
    (row,) = [key for key in listed if key["prefix"] == made["prefix"]]
    assert (row["name"], row["state"], row["actions"]) == ("billing", "usable", ["saga.read"])
    assert made["key"] not in json.dumps(listed)
    assert (await shell("key", "revoke", made["prefix"], "--yes"))[0] == 0
    assert (await bank.ask("GET", "/v1/sagas", headers=headers)).status == 401
    assert (await shell("key", "revoke", made["prefix"], "--yes"))[0] == 3
    logged = await bank.owner.fetch("SELECT actor, object FROM security_log WHERE action = 'key.manage'")
    assert {row["object"] for row in logged} >= {
        f"key {made['prefix']} made for billing",
        f"key {made['prefix']} revoked",
    }
    assert all(row["actor"].startswith("cli:") for row in logged)


@pytest.mark.parametrize(
    "wrong",
    [("--capacity", "boss"), ("--action", "saga.erase"), ("--action", "event.publish:x"), ("--capacity", "approver")],
)
async def test_a_key_that_must_not_be_is_not_made(bank: Bank, shell: Shell, wrong: tuple[str, str]) -> None:
    """Neither misspelt nor one that would be a person."""
    code, made, said = await shell("key", "create", "x", *wrong)
    assert (code, made) == (2, [])
    assert "error" in said


async def test_somebody_is_barred_and_admitted(bank: Bank, shell: Shell) -> None:
    """A token that is still valid is worth nothing meanwhile."""
    assert (await bank.ask("GET", "/v1/me", "op2")).status == 200
    assert (await shell("user", "bar", "op2", "--yes"))[0] == 2  # a reason is required
    assert (await shell("user", "bar", "op2", "--reason", "left", "--yes"))[0] == 0
    assert (await bank.ask("GET", "/v1/me", "op2")).status == 401
    _, barred, _ = await shell("user", "barred")
    assert [(row["person"], row["reason"]) for row in barred if row["person"] == "op2"] == [("op2", "left")]
    assert (await shell("user", "admit", "op2"))[0] == 0
    assert (await bank.ask("GET", "/v1/me", "op2")).status == 200
    assert (await shell("user", "admit", "op2"))[0] == 3


async def test_a_local_user_is_added_signs_in_and_is_removed(
    bank: Bank, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password comes by stdin, never as an argument that others could read."""
    monkeypatch.setattr("sys.stdin", io.StringIO("let me in\n"))
    code, _, said = await shell("user", "add", "ravi", "--name", "Ravi", "--capacity", "operator", "--role", "sre")
    assert code == 0, said
    origin = {"Origin": str(bank.client.base_url).rstrip("/")}
    form = {"user": "ravi", "password": "let me in"}
    assert (await bank.client.post("/office/login", data=form, headers=origin)).status_code == 303
    bank.client.cookies.clear()
    assert [user["person"] for user in (await shell("user", "list"))[1]] == ["asha", "ravi"]
    assert (await shell("user", "remove", "ravi"))[0] == 0
    assert (await bank.client.post("/office/login", data=form, headers=origin)).status_code == 401


async def test_production_has_no_local_users(bank: Bank, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even added for later."""
    monkeypatch.delenv("ORCHESTRATOR_LOCAL_USERS")
    monkeypatch.setenv("ORCHESTRATOR_ENVIRONMENT", "production")
    monkeypatch.setattr("sys.stdin", io.StringIO("let me in\n"))
    assert (await shell("user", "add", "ravi"))[0] == 4


async def test_a_production_process_that_is_not_fit_does_not_start(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`serve` ends at once with the exit code of wrong usage, and says all of it."""
    monkeypatch.setenv("ORCHESTRATOR_ENVIRONMENT", "production")
    code, _, said = await shell("serve")
    assert code == 2
    assert "ORCHESTRATOR_PUBLIC_URL is missing" in said
