"""How long a log of a million records takes to verify, and in how much memory: `python -m tests.proof.evidence`.

Rules of this file
- The store is the one that `tests.proof.lists` fills, sealed here: `orchestrator audit verify` reads it as it is, the
  verifier that stands alone reads its export. Both run as programs of their own, started as auditors start them.
- Both are also given the first quarter, or the last: time must grow with the log, and memory must not.
- The command ends with 1 where a verifier finds something, or grows otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from orchestrator.evidence import verifier
from orchestrator.evidence.exporting import log_lines
from orchestrator.evidence.reading import Evidence, StoredCheckpoint
from orchestrator.evidence.sealing import Sealer
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import ring, signer
from tests.proof.kept import filled, kept_database
from tests.proof.lists import BYTES_OF_SAGA, REBUILT_SAGAS, say

CHECKPOINT_RECORDS = 1_000
POLL_SECONDS = 0.1
LINEAR = 1.5  # CPU a record of the whole, against that of a quarter
MEMORY_GROWS = 1.5  # the whole, against a quarter


@dataclass(frozen=True, slots=True)
class Run:
    """One program, from its start to its end."""

    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    code: int
    said: str

    def plain(self) -> dict[str, Any]:
        """As figures."""
        return {
            "records": self.records,
            "seconds": round(self.seconds, 1),
            "cpu_us_a_record": round(self.cpu_seconds / max(self.records, 1) * 1e6, 1),
            "peak_mb": round(self.peak_mb),
            "code": self.code,
            "said": self.said,
        }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=REBUILT_SAGAS, help="how many are stored; ten records each")
    parser.add_argument("--data", type=Path, help="a directory to keep what was filled, and to use it again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestrator-evidence-") as thrown_away:
        runs = asyncio.run(verified(given.data or Path(thrown_away), Path(thrown_away), given.sagas))
    sys.stdout.write(json.dumps({name: run.plain() for name, run in runs.items()}, indent=1) + "\n")
    return 1 if any(run.code for run in runs.values()) or not all(grows_well(runs)) else 0


def grows_well(runs: dict[str, Run]) -> Iterator[bool]:
    """Whether time is linear and memory bounded, of each program."""
    for program in ("audit verify", "stand-alone"):
        part, whole = runs[f"{program}, a quarter"], runs[f"{program}, all"]
        yield whole.cpu_seconds / whole.records <= LINEAR * part.cpu_seconds / part.records
        yield whole.peak_mb <= MEMORY_GROWS * part.peak_mb


async def verified(directory: Path, scratch: Path, sagas: int) -> dict[str, Run]:
    """Both verifiers over a quarter and over everything."""
    async with kept_database(directory, f"sagas_{sagas}") as database:
        await filled(database, sagas, room=BYTES_OF_SAGA)
        async with PostgresStore(database.url) as store:
            checkpoints = await sealed(store)
            log, quarter = scratch / "log.jsonl", scratch / "quarter.jsonl"
            records = await exported(store, log)
        say(f"{records} records in {log.stat().st_size >> 20} MiB, {len(checkpoints)} checkpoints")
        await asyncio.to_thread(copy_lines, log, quarter, records // 4)
        notes, some = scratch / "checkpoints.txt", scratch / "some.txt"
        notes.write_text("\n".join(one.note for one in checkpoints))
        some.write_text("\n".join(one.note for one in checkpoints if one.size <= records // 4))
        key = signer().verifier.vkey
        alone = [sys.executable, "-I", str(Path(str(verifier.__file__))), "log", "--key", key]
        ours = [sys.executable, "-m", "orchestrator", "audit", "verify", "--key", key, "--checkpoints", str(notes)]
        return {
            "stand-alone, a quarter": await run([*alone, str(quarter), str(some)], records // 4),
            "stand-alone, all": await run([*alone, str(log), str(notes)], records),
            "audit verify, a quarter": await run(
                [*ours, "--from", str(records - records // 4 + 1)], records // 4, database
            ),
            "audit verify, all": await run(ours, records, database),
        }


async def sealed(store: PostgresStore) -> list[StoredCheckpoint]:
    """Seals what is not sealed yet; all checkpoints."""
    began, sealer = time.perf_counter(), Sealer(store, ring(), records_max=CHECKPOINT_RECORDS)
    while await sealer.seal() is not None:
        pass
    say(f"{sealer.signed} checkpoints signed in {time.perf_counter() - began:.0f} s")
    return [one async for one in Evidence(store.pools).checkpoints()]


async def exported(store: PostgresStore, to: Path) -> int:
    """The log as a file; how many records."""
    records = 0
    with to.open("wb") as file:
        async for part in log_lines(store):
            file.write(part)
            records += part.count(b"\n")
    return records


def copy_lines(source: Path, to: Path, count: int) -> None:
    """The first lines of a file."""
    with source.open("rb") as lines, to.open("wb") as out:
        out.writelines(islice(lines, count))


async def run(command: Sequence[str], records: int, database: Database | None = None) -> Run:
    """Runs a program to its end."""
    return await asyncio.to_thread(_run, command, records, database)


def _run(command: Sequence[str], records: int, database: Database | None) -> Run:
    own = {"ORCHESTRATOR_DATABASE_URL": database.url} if database else {}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        program = subprocess.Popen(command, stdout=out, env={**os.environ, **own})
        peak_kb = 0
        while os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            peak_kb = max(peak_kb, resident_kb(program.pid))
            time.sleep(POLL_SECONDS)
        # What the kernel reports at the end begins with the memory of whoever started the program: only time is taken.
        _, status, used = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().strip().splitlines() or [""]
    seconds = time.perf_counter() - began
    made = Run(
        records,
        seconds,
        used.ru_utime + used.ru_stime,
        peak_kb / 1024,
        program.returncode,
        lines[-1 if database is None else 0],
    )
    say(f"{'stand-alone' if database is None else 'audit verify'}: {made.plain()}")
    return made


def resident_kb(pid: int) -> int:
    """The most memory that a program has had so far; 0 where it has just ended."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
