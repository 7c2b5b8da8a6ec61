"""The checks of a laid-out saga, one module per group of codes. Each takes a draft and reports what it finds."""

from __future__ import annotations

from orchestrator.definition.draft import Draft


def run(draft: Draft) -> None:
    """Runs every check, so that an author sees all mistakes at once."""
