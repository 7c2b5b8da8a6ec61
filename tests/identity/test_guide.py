"""The guide to sign-in says what is true: its settings, its table, its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from orchestrator.cli.main import app
from orchestrator.config import PREFIX, Settings, load_settings
from orchestrator.identity.production import flaws
from orchestrator.identity.rules import ACTIONS, PUBLIC

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "sign-in.md").read_text()
ENVIRONMENT_ONLY = {"ORCHESTRATOR_API_TOKEN"}  # of the command line, not of a process


def test_its_table_is_the_table() -> None:
    """Every action in every column, and none that is not there."""
    head, *rows = re.findall(r"^\| (.+) \|$", GUIDE, re.MULTILINE)
    columns = [cell.strip() for cell in head.split("|")][1:]
    told = {}
    for row in rows:
        name, *cells = (cell.strip() for cell in row.split("|"))
        told[name.strip("`")] = {column for column, cell in zip(columns, cells, strict=True) if cell == "yes"}
    assert told == {name: set(action.capacities) for name, action in ACTIONS.items() if name != PUBLIC}


def test_its_settings_are_settings() -> None:
    """A misspelt one would be ignored by whoever copies it."""
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", GUIDE)) - ENVIRONMENT_ONLY
    assert len(named) > 12
    assert {name for name in named if name.removeprefix(PREFIX).lower() not in Settings.model_fields} == set()


def test_what_it_sets_is_fit_for_production_but_for_database_and_evidence() -> None:
    """Whoever follows it gets no other complaint than about what other guides are for."""
    lines = [line for block in re.findall(r"```env\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    given = {name.removeprefix(PREFIX).lower(): value for name, _, value in (line.partition("=") for line in lines)}
    assert [line.split()[0] for line in flaws(load_settings(**given), {})] == [
        "ORCHESTRATOR_DATABASE_URL",
        "ORCHESTRATOR_VAULT_KEY_FILE",  # docs/guides/erase-a-person.md
        "ORCHESTRATOR_EVIDENCE_KEY_FILE",  # docs/guides/verify-the-audit.md
        "ORCHESTRATOR_EVIDENCE_FILE",
    ]


@pytest.mark.parametrize("line", re.findall(r"^orchestrator .+$", GUIDE, re.MULTILINE))
def test_its_commands_are_commands(line: str) -> None:
    """Verbs and options exist as written; what they do has tests of its own."""
    verb, *rest = shlex.split(line)[1:]
    group = get_command(app).get_command(None, verb)  # type: ignore[attr-defined]
    command = group.get_command(None, rest[0])
    command.make_context(rest[0], list(rest[1:]), resilient_parsing=False)
