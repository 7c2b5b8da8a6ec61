"""`orchestrator init`: a package whose test passes, small enough to be read, and never over something that is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.local import scaffold
from tests import forking

LINES_MAX = 120


def shell(directory: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command line in a directory, with the new package as the only saga module."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PYTEST_"))}
    variables = kept | {"ORCHESTRATOR_SAGAS": "shop"}
    if module == "orchestrator":
        return forking.run(module, *arguments, cwd=directory, env=variables)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=directory, env=variables,
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


def test_what_init_makes_is_right(tmp_path: Path) -> None:
    """The checker, its own test, the linter and the type checker have nothing to say, and it can be drawn."""
    made = shell(tmp_path, "orchestrator", "init", "shop")
    assert made.returncode == 0, made.stderr
    assert "export ORCHESTRATOR_SAGAS=shop" in made.stdout
    checked = shell(tmp_path, "orchestrator", "check")
    assert (checked.returncode, "1 sagas, 0 errors" in checked.stdout) == (0, True), checked.stdout
    drawn = shell(tmp_path, "orchestrator", "graph", "shop-order")
    assert "release_stock" in drawn.stdout
    tested = shell(tmp_path, "pytest", "-q", "shop")
    assert tested.returncode == 0, tested.stdout
    linted = shell(tmp_path, "ruff", "check", "--isolated", "--select", "E,F,I,B,UP", "--line-length", "120", "shop")
    assert linted.returncode == 0, linted.stdout
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nplugins = pydantic.mypy\n")
    typed = shell(tmp_path, "mypy", "--config-file", "mypy.ini", "shop")
    assert typed.returncode == 0, typed.stdout


def test_what_init_makes_is_short() -> None:
    """Whoever opens it reads all of it."""
    assert sum(text.count("\n") for _, text in scaffold("shop")) <= LINES_MAX


@pytest.mark.parametrize("name", ["Shop", "1shop", "my-shop", "class", "json", "s", "shop/../x", ""])
def test_a_name_that_cannot_be_imported_is_refused(name: str, tmp_path: Path) -> None:
    """Nothing is made."""
    done = shell(tmp_path, "orchestrator", "init", name)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    """A directory of that name stays as it is."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "contracts.py").write_text("mine")
    done = shell(tmp_path, "orchestrator", "init", "shop")
    assert (done.returncode, (tmp_path / "shop" / "contracts.py").read_text()) == (5, "mine")


def test_check_finds_every_mistake_of_every_module(tmp_path: Path) -> None:
    """Exit code 6, codes with places, and other modules are still looked at."""
    assert shell(tmp_path, "orchestrator", "init", "shop").returncode == 0
    definition = tmp_path / "shop" / "definition.py"
    broken = definition.read_text().replace("@reserve_stock.undo\n", "").replace("@step\ndef ship", "def ship")
    definition.write_text(broken)
    done = shell(tmp_path, "orchestrator", "check")
    assert done.returncode == 6
    assert "Traceback" not in done.stdout + done.stderr
    definition.write_text(definition.read_text().replace("def ship", "@step\ndef ship"))
    done = shell(tmp_path, "orchestrator", "check")
    assert (done.returncode, "ORC303" in done.stdout, "explain ORC303" in done.stderr) == (6, True, True), done.stdout
