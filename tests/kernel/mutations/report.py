"""The table of planted bugs, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tests.kernel.mutations.mutation import Mutation
from tests.kernel.mutations.running import Verdict


def written(bugs: Sequence[Mutation], verdicts: Sequence[Verdict], most: int) -> str:
    """One row per bug: mean schedules until it was noticed, slowest first, and by what."""
    found = {bug.name: [verdict for verdict in verdicts if verdict.name == bug.name] for bug in bugs}
    killed = sum(all(verdict.killed for verdict in those) for those in found.values())
    means = {name: sum(v.schedules for v in those) / max(1, len(those)) for name, those in found.items()}
    rounds = len(verdicts) // max(1, len(bugs))
    lines = [
        "# Planted bugs",
        "",
        f"{len(bugs)} bugs planted into the kernel one at a time; {killed} noticed by random schedules, each within "
        f"{most}. Written by `python -m tests.kernel.mutations --rounds {rounds} --report FILE`.",
        "",
        "| planted bug | theme | schedules until noticed, mean | noticed as |",
        "|---|---|---|---|",
    ]
    for bug in sorted(bugs, key=lambda bug: -means[bug.name]):
        those = found[bug.name]
        survived = not all(verdict.killed for verdict in those)
        cause = those[0].cause.partition(": ")[2].replace("|", "\\|")[:110] if those else ""
        count = "**survived**" if survived else f"{means[bug.name]:,.0f}"
        lines.append(f"| {bug.name} | {bug.theme or 'any'} | {count} | {cause} |")
    return "\n".join(lines) + "\n"
