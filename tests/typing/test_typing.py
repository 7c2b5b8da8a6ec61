"""The checkers as part of the API: what is planted is refused, what is clean accepted, by mypy and by pyright."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MARKER = "# planted: "
PLANTED_MIN = 32


def marked_lines() -> set[int]:
    """The lines of planted.py that carry the marker."""
    text = (HERE / "planted.py").read_text(encoding="utf-8")
    return {number for number, line in enumerate(text.splitlines(), 1) if MARKER in line}


def mypy_lines(file: Path) -> dict[int, str]:
    """Line → message of every error that mypy --strict finds."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(rf"{re.escape(file.name)}:(\d+):(?:\d+:)? error: (.*)", done.stdout)
    return {int(line): text for line, text in found}


def pyright_lines(file: Path) -> dict[int, str]:
    """Line → message of every error that pyright finds with the project's configuration (strict)."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 0
    errors = [entry for entry in report["generalDiagnostics"] if entry["severity"] == "error"]
    return {entry["range"]["start"]["line"] + 1: entry["message"] for entry in errors}


@pytest.fixture(params=["mypy", "pyright"])
def checker(request: pytest.FixtureRequest) -> Callable[[Path], dict[int, str]]:
    """Both checkers, one after the other."""
    return mypy_lines if request.param == "mypy" else pyright_lines


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_planted_mistake_is_refused_and_nothing_else(checker: Callable[[Path], dict[int, str]]) -> None:
    found = checker(HERE / "planted.py")
    marked = marked_lines()
    assert len(marked) >= PLANTED_MIN
    assert {line: text for line, text in found.items() if line not in marked} == {}
    assert marked - found.keys() == set(), "accepted, but planted"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_authors_may_write_is_accepted(checker: Callable[[Path], dict[int, str]]) -> None:
    assert checker(HERE / "clean.py") == {}
