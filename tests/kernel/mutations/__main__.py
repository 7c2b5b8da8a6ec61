"""python -m tests.kernel.mutations [--rounds 3] [--most 6000] [NAME …]: how fast is every planted bug noticed?

Prints one line per bug, and the mutation score. Ends with 1 where a bug survives.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.kernel.mutations.running import BANK, SCHEDULES_MAX, hunt, judge_all, replay

ROUND = 100_000  # seeds of one round


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only bugs whose name contains one of these")
    parser.add_argument("--rounds", type=int, default=1, help="how often, each time with other seeds")
    parser.add_argument("--most", type=int, default=SCHEDULES_MAX, help="schedules after which a bug has survived")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--one", nargs=3, metavar=("NAME", "FIRST", "MOST"), help=argparse.SUPPRESS)
    parser.add_argument("--replay", nargs=2, metavar=("THEME", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.replay:
        sys.stdout.write(json.dumps(replay(given.replay[0], int(given.replay[1]))))
        return 0
    if given.one:
        name, first, most = given.one
        sys.stdout.write(json.dumps(hunt(next(bug for bug in BANK if bug.name == name), int(first), int(most))))
        return 0
    bugs = [bug for bug in BANK if not given.names or any(name in bug.name for name in given.names)]
    found: dict[str, list[int]] = {bug.name: [] for bug in bugs}
    survived = 0
    for number in range(given.rounds):
        for verdict in judge_all(bugs, number * ROUND, given.most, given.jobs):
            found[verdict.name].append(verdict.schedules)
            survived += not verdict.killed
            text = verdict.cause if verdict.killed else f"SURVIVED {given.most} schedules"
            sys.stdout.write(f"{verdict.schedules:>6}  {verdict.name:<50} {text[:140]}\n")
            sys.stdout.flush()
    counts = [count for counts in found.values() for count in counts if count]
    runs = given.rounds * len(bugs)
    mean = sum(counts) / max(1, len(counts))
    sys.stdout.write(f"{runs - survived} of {runs} noticed; schedules to notice: mean {mean:.1f}, most {max(counts)}\n")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
