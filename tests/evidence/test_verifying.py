"""`audit verify` on logs that are as they were written, and the verifier that stands alone beside it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.evidence import verifier
from orchestrator.evidence.exporting import log_lines
from orchestrator.evidence.findings import Report
from orchestrator.evidence.notes import Checkpoint, Signer
from orchestrator.evidence.reading import Evidence
from orchestrator.evidence.sealing import Sealer
from orchestrator.evidence.verifying import Verification
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import as_superuser, grown, ring, signer

OLD, NEW = signer(1), signer(2)


async def sealed_log(store: PostgresStore, *steps: int, keys: Sequence[Signer] = (OLD,)) -> list[str]:
    """A log with a checkpoint after each of these numbers of records; gives the checkpoints' notes."""
    notes = []
    for number, step in enumerate(steps):
        await grown(store, step, first=f"S{number}-{step}", sagas=max(1, step // 12))
        made = await Sealer(store, ring(*keys), records_max=100_000).seal()
        assert made is not None
        notes.append(made.note)
    return notes


async def verified(store: PostgresStore, *keys: Signer, published: Sequence[str] = (), since: int = 1) -> Report:
    """The report of a verification."""
    files = [("published", list(published))] if published else []
    return await Verification(store, ring(*keys or (OLD,)), published=files).run(since)


async def alone(store: PostgresStore, notes: Sequence[str], directory: Path, *keys: Signer) -> tuple[int, str]:
    """What the stand-alone verifier says of an export, run as a program without our package."""
    log, checkpoints = directory / "log.jsonl", directory / "checkpoints.txt"
    log.write_bytes(b"".join([part async for part in log_lines(store)]))
    checkpoints.write_text("".join(f"{note}\n" for note in notes))
    program = directory / "verifier.py"
    program.write_bytes(Path(verifier.__file__).read_bytes())
    arguments = [word for key in keys or (OLD,) for word in ("--key", key.verifier.vkey)]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-I", str(program), "log", *arguments, str(log), str(checkpoints)],
        capture_output=True, text=True, check=False, cwd=directory, timeout=120,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_the_verifier_is_short_and_stands_alone() -> None:
    """Somebody must be able to read it before believing it."""
    text = Path(verifier.__file__).read_text()
    assert len(text.splitlines()) <= 200
    imported = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import", "from"))}
    assert imported <= set(sys.stdlib_module_names)
    assert "orchestrator" not in text


async def test_a_log_as_it_was_written_is_confirmed(database: Database, tmp_path: Path) -> None:
    """In words, with the checkpoint; the last records are younger than it. Both verifiers say so."""
    async with PostgresStore(database.url) as store:
        notes = await sealed_log(store, 200, 300, 20)
        await grown(store, 7, first="young")
        report = await verified(store, published=notes)
        assert report.findings == []
        assert (report.records, report.end, report.checkpoints, report.published, report.tiles) == (527, 527, 3, 3, 2)
        assert report.confirmed is not None
        assert report.confirmed[:2] == (3, 520)
        said = next(report.lines("Asia/Kolkata"))
        assert said.startswith("527 records of ")
        assert "chain unbroken, matches checkpoint 3 over 520 records signed" in said
        assert "IST; 7 younger" in said
        code, told = await alone(store, notes, tmp_path)
        assert (code, told) == (0, told)
        assert told.startswith("527 records of")
        assert told.endswith("3 checkpoints, 7 records younger than the last: as it was written\n")


async def test_a_log_without_checkpoints_is_nobodys_word(database: Database, tmp_path: Path) -> None:
    """A chain that fits itself can be made up by anybody who can hash: the verifier that stands alone refuses it."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        code, told = await alone(store, [], tmp_path)
        assert (code, "no checkpoint that a trusted key signed covers any" in told) == (6, True)
        code, told = await alone(store, ["bank.example/log\n20\nAAAA\n"], tmp_path)  # cut off before its signature
        assert (code, "no checkpoint that a trusted key signed covers any" in told) == (6, True)


async def test_a_part_of_the_log_is_verified_from_the_tiles_on(database: Database) -> None:
    """What lies before counts by its hashes: a wrong tile there does not give the signed root."""
    async with PostgresStore(database.url) as store:
        await sealed_log(store, 300, 300)
        report = await verified(store, since=400)
        assert (report.findings, report.records, report.confirmed and report.confirmed[:2]) == ([], 201, (2, 600))
        assert await Verification(store, ring()).since(0) == 1
        latest = await Evidence(store.pools).latest()
        assert latest is not None
        assert await Verification(store, ring()).since(latest.signed_at + 1) == 601
        await as_superuser(database, "UPDATE log_tiles SET root = sha256(root) WHERE number = 0")
        report = await verified(store, since=600)
        assert "signed the root" in str(report.in_order()[0])


async def test_keys_follow_each_other(database: Database, tmp_path: Path) -> None:
    """An old key stays good for what it signed, and is worth nothing afterwards."""
    async with PostgresStore(database.url) as store:
        notes = await sealed_log(store, 30)
        notes += await sealed_log(store, 31, keys=(NEW, OLD))
        assert (await verified(store, NEW, OLD, published=notes)).is_good
        assert (await alone(store, notes, tmp_path, NEW, OLD))[0] == 0
        unknown = await verified(store, NEW)
        assert "checkpoint 1 in the database: signed by bank.example/log" in str(unknown.in_order()[0])
        made = await sealed_log(store, 32, keys=(OLD, NEW))
        report = await verified(store, NEW, OLD, published=[*notes, *made])
        assert "checkpoint 3 is signed by a retired key" in str(report.in_order()[0])
        code, told = await alone(store, [*notes, *made], tmp_path, NEW, OLD)
        assert code == 6
        assert "signed by a key that was retired" in told


async def test_two_trees_of_the_same_size_cannot_both_be_right(database: Database, tmp_path: Path) -> None:
    """Whoever has the key can sign another tree; whoever has both checkpoints can show it."""
    async with PostgresStore(database.url) as store:
        notes = await sealed_log(store, 40, 10)
        forged = OLD.sign(Checkpoint(OLD.name, 40, bytes(32), 1, 1_795_228_200_000_000).text)
        report = await verified(store, published=[forged])
        assert [one.kind for one in report.findings] == ["published", "published"]
        assert "checkpoint 1 (published) signed the root 00" in str(report.in_order()[0])
        code, told = await alone(store, [*notes, forged], tmp_path)
        assert (code, told.count("another root")) == (6, 1)


async def test_memory_does_not_grow_with_the_log(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of any size give the same report, progress is told, and what stands at their edges is seen."""
    async with PostgresStore(database.url) as store:
        await sealed_log(store, 150, 50)
        for name in ("RECORDS_PER_PAGE", "HEADS_PER_PAGE", "KEYS_PER_PAGE"):
            monkeypatch.setattr(f"orchestrator.evidence.verifying.{name}", 7)
        told: list[int] = []
        report = await Verification(store, ring(), on_progress=lambda at, _: told.append(at)).run()
        assert (report.findings, report.records, told[-1], len(told)) == ([], 200, 200, 29)
