"""What is installed elsewhere is what we mean: pinned, complete, and nothing of ours that belongs to others."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.tidy.source import PACKAGES, ROOT, Source, read_sources

PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>\S+)")
_SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = _SETTINGS["project"]
GROUPS = _SETTINGS["dependency-groups"]


def pins(file: str) -> dict[str, str]:
    """Package to version of a lock file."""
    matches = map(PIN.match, (ROOT / file).read_text().splitlines())
    return {match["name"]: match["version"] for match in matches if match is not None}


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-dev.lock"])
def test_locks_pin_by_hash_and_name_no_index(file: str) -> None:
    """Whoever installs chooses the mirror; the hashes decide whether it told the truth."""
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert "-index" not in text
    for block in re.split(r"\n(?=[a-z0-9])", text):
        assert PIN.match(block), f"not an exact version: {block[:60]}"
        assert "--hash=sha256:" in block, f"without a hash: {block[:60]}"


def test_the_runtime_lock_holds_every_dependency() -> None:
    """Somebody edited pyproject.toml and forgot make lock."""
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["embedded"]
    assert distribution_names(wanted) <= pins("requirements.lock").keys(), "run make lock"


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    """The dev lock is the runtime lock and more."""
    runtime, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: dev.get(name) for name in runtime} == runtime, "run make lock"


def distribution_names(requirements: list[str]) -> set[str]:
    """The bare names of requirement lines."""
    return {re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0] for requirement in requirements}


def undeclared(sources: Iterable[Source], declared: set[str]) -> Iterator[str]:
    """Imports of installed packages that only came along with somebody else's dependencies."""
    owners = packages_distributions()
    for source in sources:
        for imported in source.imports():
            root = imported.module.partition(".")[0]
            if root in sys.stdlib_module_names or root in PACKAGES:
                continue
            names = {name.lower().replace("_", "-") for name in owners.get(root, [])}
            if not names & declared:
                yield f"{source.path}:{imported.line}: {imported.module} is not declared; add it, then make lock"


def test_what_is_imported_is_declared() -> None:
    """A package that happens to be installed today may be gone after the next make lock."""
    optional = PROJECT["optional-dependencies"]
    declared = distribution_names(PROJECT["dependencies"] + optional["embedded"] + optional["live"])
    found = list(undeclared(read_sources(["orchestrator", "events", "sagas", "projections"]), declared))
    found += undeclared(
        read_sources(["tests"]), declared | distribution_names(GROUPS["dev"]) | distribution_names(GROUPS["build"])
    )
    assert not found, "\n".join(found)


def test_a_planted_undeclared_import_is_found() -> None:
    """Starlette comes with FastAPI; it is still somebody else's."""
    source = Source(
        "orchestrator/x.py", "import os\nimport fastapi\ndef f():\n    from starlette.types import ASGIApp\n"
    )
    assert [line.split()[1] for line in undeclared([source], {"fastapi"})] == ["starlette.types"]


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """events/, sagas/ and tests/ belong to whoever deploys; SQL, types, templates and assets are ours."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"orchestrator", "projections"}
    sources = [ROOT / "orchestrator", ROOT / "projections"]
    data = {p.relative_to(ROOT).as_posix() for source in sources for p in source.rglob("*.sql")} | {
        f"{source.name}/py.typed" for source in sources
    }
    data |= {
        file.relative_to(ROOT).as_posix()
        for folder in ("pages/templates", "pages/assets", "notices/templates")
        for file in (ROOT / "orchestrator" / folder).rglob("*.*")
        if file.is_file()
    }
    assert data <= names
    assert not [name for name in names if "__pycache__" in name]
