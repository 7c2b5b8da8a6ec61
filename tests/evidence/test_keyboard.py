"""What `audit verify` and `audit allow-start` say at the keyboard, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.evidence.keys import write_ring
from orchestrator.evidence.notes import Checkpoint
from orchestrator.evidence.sealing import Sealer
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import as_superuser, grown, ring, signer

Cli = Callable[..., Awaitable[tuple[int, str, str]]]
IN_2001 = 978_307_200_000_000


@pytest.fixture
def cli(database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs one command line as an operator of this database would."""
    write_ring(tmp_path / "log.key", signer())
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", database.url)
    monkeypatch.setenv("ORCHESTRATOR_EVIDENCE_KEY_FILE", str(tmp_path / "log.key"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    monkeypatch.chdir(tmp_path)

    async def called(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        told = capsys.readouterr()
        return code, told.out, told.err

    return called


async def sealed(store: PostgresStore, first: str = "K") -> str:
    """Twenty more records, and the checkpoint over all."""
    await grown(store, 20, first=first)
    made = await Sealer(store, ring(), records_max=1_000).seal()
    assert made is not None
    return made.note


async def test_nothing_to_compare_with_is_no_success(
    database: Database, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any checkpoint; in production also without one from outside, whatever the database holds."""
    async with PostgresStore(database.url) as store:
        code, told, _ = await cli("audit", "verify")
        assert (code, "NOTHING TO COMPARE WITH" in told) == (8, True), "an empty log is nobody's word either"
        await grown(store, 20, first="young")
        code, told, _ = await cli("audit", "verify", "--json")
        found = json.loads(told)
        assert (code, found["ok"], found["proved"], found["required"]) == (8, True, False, "signed")
        assert "no signed checkpoint confirms any of it" in found["unproved"]
        assert (await cli("audit", "verify", "--require-checkpoint", "none"))[0] == 0
        kept = tmp_path / "kept.txt"
        kept.write_text(await sealed(store))
        code, told, _ = await cli("audit", "verify")
        assert (code, "checkpoints from outside the database confirm nothing of it" in told) == (0, True)
        code, told, _ = await cli("audit", "verify", "--require-checkpoint", "published")
        assert (code, "not one checkpoint from outside the database" in told) == (8, True)
        code, told, _ = await cli("audit", "verify", "--require-checkpoint", "published", "--checkpoints", str(kept))
        assert (code, "NOTHING" in told) == (0, False)
        await sealed(store, "L")
        code, told, _ = await cli("audit", "verify", "--checkpoints", str(kept))
        assert "outside the database confirm this up to checkpoint 1 over 40 records" in told
        monkeypatch.setenv("ORCHESTRATOR_ENVIRONMENT", "production")
        assert (await cli("audit", "verify"))[0] == 8
        monkeypatch.setenv("ORCHESTRATOR_EVIDENCE_FILE", str(tmp_path / "not-mounted"))
        monkeypatch.setenv("ORCHESTRATOR_EVIDENCE_URL", "http://127.0.0.1:9/log")
        code, told, _ = await cli("audit", "verify")
        assert code == 8
        assert "not compared with the place file: there is no" in told
        assert "not compared with the place url: http://127.0.0.1:9/log: ConnectError" in told
        await as_superuser(database, "UPDATE log_checkpoints SET size = 39 WHERE number = 1")
        assert (await cli("audit", "verify"))[0] == 6, "a flaw comes first"


async def test_a_start_is_allowed_by_whoever_has_seen_a_checkpoint_that_is_not_old(
    database: Database, cli: Cli, tmp_path: Path
) -> None:
    """An old backup has none that is younger than itself; a name, a reason and an agreement are wanted."""
    allow = ["audit", "allow-start", "--by", "maria", "--reason", "the witness is down"]
    async with PostgresStore(database.url) as store:
        code, _, said = await cli(*allow, "--yes")
        assert (code, "nobody can tell it from an empty one" in said) == (3, True)
        note = await sealed(store)
        assert (await cli(*allow))[0] == 2
        code, told, _ = await cli(*allow, "--yes", "--json", "--hours", "2")
        assert (code, json.loads(told)) == (
            0, {"allowedHours": 2, "seen": 1, "size": 20, "ageMinutes": 0, "by": "maria"}
        )  # fmt: skip
        assert (await cli("audit", "allow-start", "--reason", "r", "--yes"))[0] == 2
        old = signer().sign(
            Checkpoint(signer().name, 20, Checkpoint.of(note.split("\n\n")[0] + "\n").root, 1, IN_2001).text
        )
        (tmp_path / "old.txt").write_text(old)
        code, _, said = await cli(*allow, "--yes", "--seen", "old.txt")
        assert (code, "signed 2001-01-01T00:00:00Z" in said, "may be 60" in said) == (5, True, True)
        missing = signer().sign(Checkpoint(signer().name, 21, bytes(32), 2, IN_2001).text)
        (tmp_path / "missing.txt").write_text(missing)
        code, _, said = await cli(*allow, "--yes", "--seen", "missing.txt")
        assert (code, "Missing: 1 record, positions 21 to 21" in said) == (6, True)
        (tmp_path / "nothing.txt").write_text("hello")
        assert (await cli(*allow, "--yes", "--seen", "nothing.txt"))[0] == 3
        assert (await cli(*allow, "--yes", "--seen", "nowhere.txt"))[0] == 3
