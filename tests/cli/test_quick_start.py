"""Verbs import what they need when they run: `--help` and completion are quick."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncpg", "cryptography", "fastapi", "holidays", "joserfc", "opentelemetry", "uvicorn")


def test_the_command_line_loads_none_of_what_servers_need() -> None:
    """What a verb needs it imports itself: all of it together takes a second before the first word."""
    listed = f"import sys, orchestrator.cli.main; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
