"""The types of `orchestrator.testing`: a reply belongs to its step, an outcome to its task, under both checkers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.typing.test_typing import HERE, MARKER, mypy_lines, pyright_lines

IGNORED = "# mypy: ignore-errors"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("lines", [mypy_lines, pyright_lines])
def test_a_wrong_specification_does_not_type_check(lines: Callable[[Path], dict[int, str]], tmp_path: Path) -> None:
    """Every planted line is refused, and no other."""
    text = (HERE / "specifications.py").read_text(encoding="utf-8")
    assert text.startswith(IGNORED)
    file = tmp_path / "specifications.py"
    file.write_text(text.replace(IGNORED, "#", 1), encoding="utf-8")
    marked = {number for number, line in enumerate(text.splitlines(), 1) if MARKER in line}
    found = lines(file)
    assert {line: message for line, message in found.items() if line not in marked} == {}
    assert marked - found.keys() == set(), "accepted, but planted"
    assert len(marked) == 25
