"""What is installed elsewhere is what we mean: pinned, complete, and nothing of ours that belongs to others."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.tidy.source import ROOT

PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>\S+)")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


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
    names = {re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0] for requirement in wanted}
    assert names <= pins("requirements.lock").keys(), "run make lock"


def test_tests_run_on_the_versions_that_are_shipped() -> None:
    """The dev lock is the runtime lock and more."""
    runtime, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert {name: dev.get(name) for name in runtime} == runtime, "run make lock"


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """events/, sagas/, projections/ and tests/ belong to whoever deploys; SQL and types are part of the product."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"orchestrator"}
    source = ROOT / "orchestrator"
    data = {f"orchestrator/{p.relative_to(source).as_posix()}" for p in source.rglob("*.sql")} | {
        "orchestrator/py.typed"
    }
    assert data <= names
    assert not [name for name in names if "__pycache__" in name]
