"""`make proof`: the long checks, one after the other, with their figures written to docs/proof.md.

    make proof ARGS="--schedules 100000 --kills-total 1000 --sagas 20000"

Each part is a command of its own that can be run by hand; a part that fails is reported as failed, the others still
run, and the whole ends with 1.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.proof.schedules import run_all

REPORT = Path("docs/proof.md")
SECTION = re.compile(r"^## (.+?): (?:passed|FAILED) .*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Part:
    """One part as the report shows it."""

    name: str
    command: str
    ok: bool
    seconds: float
    figures: str

    def words(self) -> str:
        """Its section."""
        verdict = "passed" if self.ok else "FAILED"
        head = f"## {self.name}: {verdict} in {self.seconds:.0f} s on {datetime.now(UTC):%Y-%m-%d}"
        return f"{head}\n\n`{self.command}`\n\n```\n{self.figures}\n```\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=500_000, help="random schedules of random flows")
    parser.add_argument("--runtime", type=int, default=20_000, help="schedules of the whole runtime")
    # Ten kills come with a crash of the database and, on Kafka, with two kills of the broker: 1,000 with 100 of each.
    parser.add_argument("--kills-total", type=int, default=1_000, help="of processes, over both brokers")
    parser.add_argument("--seed", type=int, default=1, help="of what goes wrong when")
    parser.add_argument("--sagas", type=int, default=20_000, help="orders of each bench")
    parser.add_argument("--stored", type=int, default=1_000_000, help="sagas parked, and sagas stored, in the benches")
    parser.add_argument("--line-sample", type=int, default=0, help="lines of each unit to be killed at; 0: all")
    parser.add_argument(
        "--only",
        default="schedules,runtime,planted,lines,kills,properties,lists,bench",
        help="which parts, comma-separated",
    )
    given = parser.parse_args()
    parts = []
    wanted = given.only.split(",")
    if "schedules" in wanted:
        parts.append(_schedules(given.schedules))
    if "runtime" in wanted:
        simulation = [sys.executable, "-m", "tests.simulation", "--seeds", str(given.runtime)]
        parts.append(_run("whole-runtime schedules", simulation, tail=1))
    if "planted" in wanted:
        parts.append(_run("planted bugs", [sys.executable, "-m", "tests.kernel.mutations"], tail=3))
        parts.append(_run("planted bugs of the runtime", [sys.executable, "-m", "tests.simulation.mutations"], tail=1))
    if "lines" in wanted:
        sweep = [sys.executable, "-m", "tests.crash.every_line", "--sample", str(given.line_sample)]
        parts.append(_run("killed at every line", sweep, tail=1))
    if "kills" in wanted:
        for broker in ("kafka", "postgres"):
            nemesis = [sys.executable, "-m", "tests.crash.nemesis", "--broker", broker]
            wanted_kills = ["--kills", str(-(-given.kills_total // 2)), "--seed", str(given.seed)]
            parts.append(_run(f"nemesis on {broker}", [*nemesis, *wanted_kills], tail=1))
    if "properties" in wanted:
        parts.append(_properties())
    if "lists" in wanted:
        lists = [sys.executable, "-m", "tests.proof.lists", "--sagas", str(given.stored)]
        parts.append(_run("read models and lists", lists, tail=60))
    if "bench" in wanted:
        parts += _benches(given.sagas, given.stored)
    _write(parts)
    return 0 if all(part.ok for part in parts) else 1


def _schedules(count: int) -> Part:
    """Random schedules on all processors."""
    total = run_all(count, jobs=os.cpu_count() or 1, say=_say)
    return Part("schedules", f"--schedules {count}", not total.broken, total.seconds, total.words())


def _properties() -> Part:
    """The property tests with new examples, many more than in the suite."""
    files = [str(file) for file in sorted(Path("tests").rglob("test_*.py")) if "from hypothesis" in file.read_text()]
    tests = [sys.executable, "-m", "pytest", "-q", *files]
    return _run("properties", tests, tail=1, HYPOTHESIS_PROFILE="proof")


def _benches(sagas: int, stored: int) -> list[Part]:
    """How fast, with how many that wait, and in how large a store."""
    bench = [sys.executable, "-m", "orchestrator", "bench"]
    parts = [
        _run(
            f"bench of {flow} on {broker}", [*bench, flow, "--broker", broker, "--json", "--sagas", str(sagas)], tail=1
        )
        for flow in ("orders", "steps")
        for broker in ("kafka", "postgres")
    ]
    parts.append(_run("bench of what waits", [*bench, "parked", "--json", "--sagas", str(stored)], tail=1))
    grown = [*bench, "grown", "--json", "--sagas", str(sagas), "--stored", str(stored)]
    return [*parts, _run("bench of what has grown", grown, tail=1)]


def _run(name: str, command: list[str], tail: int, **environment: str) -> Part:
    began = time.monotonic()
    _say(f"{name}: {' '.join(command[1:])}")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, **environment})
    lines = done.stdout.strip().splitlines()
    return Part(name, " ".join(command[1:]), done.returncode == 0, time.monotonic() - began, "\n".join(lines[-tail:]))


def _write(parts: list[Part]) -> None:
    """Writes the report; parts that were not run now stay as the last run left them."""
    text = REPORT.read_text() if REPORT.exists() else ""
    sections = {found[1]: found[0].strip() + "\n" for found in SECTION.finditer(text)}
    sections |= {part.name: part.words() for part in parts}
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    head = f"# Proof\n\nWritten by `make proof`, part by part, on {machine}.\n"
    REPORT.write_text("\n".join([head, *sections.values()]))
    _say(f"written: {REPORT}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
