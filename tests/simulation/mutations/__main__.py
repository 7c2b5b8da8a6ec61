"""python -m tests.simulation.mutations [--most 1500] [--first 0] [NAME …]: how fast is every planted bug noticed?

Prints one line per bug, and the mutation score. Ends with 1 where a bug survives.
"""

from __future__ import annotations

import argparse
import json
import sys

from tests.simulation.mutations.running import BANK, SCHEDULES_MAX, hunt, judge_all


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only bugs whose name contains one of these")
    parser.add_argument("--most", type=int, default=SCHEDULES_MAX, help="schedules after which a bug has survived")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "FIRST", "MOST"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, first, most = given.one
        sys.stdout.write(json.dumps(hunt(next(bug for bug in BANK if bug.name == name), int(first), int(most))))
        return 0
    bugs = [bug for bug in BANK if not given.names or any(name in bug.name for name in given.names)]
    counts, survived = [], 0
    for verdict in judge_all(bugs, given.first, given.most):
        text = verdict.cause if verdict.killed else f"SURVIVED {given.most} schedules"
        sys.stdout.write(f"{verdict.schedules:>6} {verdict.seconds:6.1f} s  {verdict.name:<60} {text[:160]}\n")
        sys.stdout.flush()
        survived += not verdict.killed
        counts += [verdict.schedules] if verdict.killed else []
    mean = sum(counts) / max(1, len(counts))
    most = max(counts, default=0)
    sys.stdout.write(
        f"{len(bugs) - survived} of {len(bugs)} noticed; schedules to notice: mean {mean:.1f}, most {most}\n"
    )
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
