"""python -m tests.kernel.mutations [--rounds 3] [--most 6000] [--quick] [--report FILE] [NAME …]

How fast is every planted bug noticed? Prints one line per bug, and the mutation score. Ends with 1 where one survives.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from tests.kernel.mutations.mutation import Mutation
from tests.kernel.mutations.quick import QUICK
from tests.kernel.mutations.report import written
from tests.kernel.mutations.running import BANK, SCHEDULES_MAX, Verdict, judge_all

ROUND = 100_000  # seeds of one round


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only bugs whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help="only the third that every test run tries")
    parser.add_argument("--rounds", type=int, default=1, help="how often, each time with other seeds")
    parser.add_argument("--most", type=int, default=SCHEDULES_MAX, help="schedules after which a bug has survived")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the table there, as Markdown")
    parser.add_argument("--json", action="store_true", help="one JSON object per bug and round")
    given = parser.parse_args()
    if (
        os.environ.get("PYTHONHASHSEED") != "0"
    ):  # so that a bug that depends on the order of a set is found the same way
        os.execve(sys.executable, [sys.executable, "-m", "tests.kernel.mutations", *sys.argv[1:]], _environment())
    bugs = [bug for bug in BANK if not given.names or any(name in bug.name for name in given.names)]
    bugs = [bug for bug in bugs if not given.quick or bug.name in QUICK]
    verdicts = run(bugs, given.rounds, given.most, given.jobs, as_json=given.json)
    if given.report:
        given.report.write_text(written(bugs, verdicts, given.most))
    return 0 if all(verdict.killed for verdict in verdicts) else 1


def run(bugs: list[Mutation], rounds: int, most: int, jobs: int, *, as_json: bool) -> list[Verdict]:
    """Judges them all, and prints as it goes."""
    verdicts = []
    for number in range(rounds):
        for verdict in judge_all(bugs, number * ROUND, most, jobs):
            verdicts.append(verdict)
            text = verdict.cause if verdict.killed else f"SURVIVED {most} schedules {verdict.cause}"
            line = f"{verdict.schedules:>6} {verdict.seconds:>6.1f} s  {verdict.name:<50} {text[:140]}"
            sys.stdout.write(json.dumps(verdict.__dict__) + "\n" if as_json else line + "\n")
            sys.stdout.flush()
    counts = [verdict.schedules for verdict in verdicts if verdict.killed]
    mean = sum(counts) / max(1, len(counts))
    if not as_json:
        score = f"{len(counts)} of {len(verdicts)} noticed"
        sys.stdout.write(f"{score}; schedules to notice: mean {mean:.1f}, most {max(counts, default=0)}\n")
    return verdicts


def _environment() -> dict[str, str]:
    return dict(os.environ, PYTHONHASHSEED="0")


if __name__ == "__main__":
    sys.exit(main())
