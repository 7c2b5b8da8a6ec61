"""Sizes, SQL, docstrings and words: the tree is tidy, and the checks notice when it is not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.tidy.exemptions import EXEMPT
from tests.tidy.habits import machine_words, sql_in_python, too_long, without_docstring
from tests.tidy.source import ROOT, Source, read_sources


def test_files_and_functions_fit_on_a_few_screens() -> None:
    """400 lines a file, 60 a function; a reader has half an hour."""
    found = list(too_long(read_sources(), EXEMPT))
    assert not found, "\n".join(found)


def test_sql_stands_in_sql_files() -> None:
    """Also what a projection writes. The verifier that stands alone has nothing beside it, and a table of its own."""
    sources = read_sources(["orchestrator", "projections"])
    found = list(sql_in_python(one for one in sources if str(one.path) != "orchestrator/evidence/verifier.py"))
    assert not found, "\n".join(found)


def test_every_module_says_what_it_is_for() -> None:
    """The first line of a file is the first thing its reader gets."""
    found = list(without_docstring(read_sources()))
    assert not found, "\n".join(found)


def test_nothing_names_a_machine() -> None:
    """A path of somebody's checkout works nowhere else, a registry's name breaks behind a mirror."""
    found = list(machine_words(text_files()))
    assert not found, "\n".join(found)


def text_files() -> Iterator[tuple[str, str]]:
    """Every file that is or would be committed and is text."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this copy of the source is not a git checkout")
    for name in sorted(filter(None, listed.stdout.decode().split("\0"))):
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue


def function_of(lines: int) -> str:
    return "def long():\n" + "    x = 1\n" * (lines - 1)


def test_a_planted_giant_is_found() -> None:
    """One line over is over."""
    assert not list(too_long([Source("a.py", function_of(60))], {}))
    assert list(too_long([Source("a.py", function_of(61))], {})) == [
        "a.py::long has 61 lines, more than 60; split it by what it does"
    ]
    assert not list(too_long([Source("a.py", "x = 1\n" * 400)], {}))
    assert "a.py has 401 lines" in next(too_long([Source("a.py", "x = 1\n" * 401)], {}))
    inner = "class A:\n    async def m(self):\n" + "        x = 1\n" * 60
    assert "a.py::A.m has 61 lines" in next(too_long([Source("a.py", inner)], {}))


@pytest.mark.parametrize(
    ("lines", "exempt", "expected"),
    [
        (70, {"a.py::long": (70, "a table of transitions")}, ""),
        (71, {"a.py::long": (70, "a table of transitions")}, "grew from 70 to 71"),
        (65, {"a.py::long": (70, "a table of transitions")}, "shrank to 65 lines; lower its exemption"),
        (60, {"a.py::long": (70, "a table of transitions")}, "needs no exemption"),
        (70, {"a.py::long": (70, "")}, "exempt without a reason"),
        (10, {"b.py": (500, "a table of transitions")}, "b.py is exempt but does not exist"),
    ],
)
def test_exemptions_only_shrink(lines: int, exempt: dict[str, tuple[int, str]], expected: str) -> None:
    """A ratchet: what is better than its exemption must say so."""
    found = "\n".join(too_long([Source("a.py", function_of(lines))], exempt))
    assert expected in found
    assert bool(found) is bool(expected)


@pytest.mark.parametrize(
    ("text", "is_sql"),
    [
        ('q = "SELECT 1"', True),
        ('q = "select id from sagas"', True),
        ('q = """\n    INSERT INTO t VALUES ($1)\n"""', True),
        ('q = f"UPDATE {table} SET x = 1"', True),
        ('q = "delete from t where id = $1"', True),
        ('q = "WITH own AS (SELECT 1) SELECT * FROM own"', True),
        ('q = f"LISTEN {channel}"', True),
        ('q = "Select a saga first."', False),
        ('q = "update the definition"', False),
        ('q = "WITHDRAWN"', False),
        ('q = "delete"', False),
        ('"""SELECT is explained in this docstring."""', False),
    ],
)
def test_planted_sql_is_found_and_prose_is_not(text: str, is_sql: bool) -> None:
    """Docstrings may talk about SQL."""
    assert bool(list(sql_in_python([Source("orchestrator/x.py", text)]))) is is_sql


@pytest.mark.parametrize("text", ["", "x = 1", '"""placeholder"""', "x = 1\n'''too late to be one'''"])
def test_a_missing_docstring_is_found(text: str) -> None:
    """A placeholder is missing, too."""
    assert list(without_docstring([Source("orchestrator/x.py", text)]))


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("cd /home/" + "somebody/checkout", True),
        ('"/ro' + 'ot/.cache"', True),
        ("see /Users/" + "me/x", True),
        ("--index-url https://py" + "pi.org/simple", True),
        ("https://files.python" + "hosted.org/x", True),
        ("https://repo1.maven" + ".org/maven2", True),
        ("a checkout under /root, a umask", False),
        ("GET /workflow/{id}/status and /homework/x", False),
        ("https://repo.maven" + ".apache.org/maven2", True),
        ('xmlns="http://maven.apache.org/POM/4.0.0"', False),
        ("$HOME/.m2/repository", False),
    ],
)
def test_planted_machine_words_are_found(text: str, is_found: bool) -> None:
    """And nothing that is merely similar."""
    assert bool(list(machine_words([("a.md", text)]))) is is_found
