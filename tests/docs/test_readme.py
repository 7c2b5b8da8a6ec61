"""The README says what is true: its saga is a tested file, its links lead somewhere, its verbs and variables exist."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from orchestrator.cli.local import scaffold
from orchestrator.cli.main import app
from orchestrator.config import Settings
from tests.docs.walked_path import blocks

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()


def test_the_saga_shown_is_the_one_that_init_writes() -> None:
    """Which a test makes, checks, draws and runs (tests/cli/test_init.py)."""
    (shown,) = [block.body for block in blocks(TEXT) if block.language == "python"]
    assert shown == dict(scaffold("shop"))["definition.py"]
    assert shown.count("\n") <= 45


def test_every_link_leads_somewhere() -> None:
    """To a file or folder of this repository."""
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) >= 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_verb_that_is_named_exists() -> None:
    """`orchestrator x` in the text is a verb or a group of verbs."""
    text = "\n".join(re.findall(r"`[^`\n]+`|^.*bin/orchestrator .*$|^orchestrator .*$", TEXT, re.MULTILINE))
    named = set(re.findall(r"(?:^|[`/])orchestrator ([a-z]+)\b", text, re.MULTILINE))
    assert named - set(typer.main.get_command(app).commands) == set()  # type: ignore[attr-defined]
    assert {"init", "check", "graph", "simulate", "bench", "explain"} <= named


def test_every_variable_that_is_named_is_a_setting() -> None:
    """A misspelt one would be ignored by readers' shells, not by us."""
    named = set(re.findall(r"ORCHESTRATOR_([A-Z_]+)", TEXT))
    assert {name for name in named if name.lower() not in Settings.model_fields} == set()


def test_the_make_targets_exist() -> None:
    """Those of the two commands."""
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", TEXT, re.MULTILINE):
        assert f"\n{target}:" in makefile
