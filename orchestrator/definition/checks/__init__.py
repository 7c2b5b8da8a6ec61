"""The checks of a laid-out saga, one module per group of codes. Each takes a draft and reports what it finds."""

from __future__ import annotations

from orchestrator.definition.checks import children, choices, lifecycle, loops, people, structure, turning, waiting
from orchestrator.definition.draft import Draft

CHECKS = (
    structure.check,
    choices.check,
    waiting.check,
    loops.check,
    turning.check,
    lifecycle.check,
    children.check,
    people.check,
)


def run(draft: Draft) -> None:
    """Runs every check, so that an author sees all mistakes at once."""
    for check in CHECKS:
        check(draft)
