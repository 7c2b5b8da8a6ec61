"""Named queries: what a file may hold, and how a bad one is named."""

import sys
from pathlib import Path

import pytest

from orchestrator.store.sql import QueryFileError, load_queries


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package to put query files into."""
    name = f"queries_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def write(package: str, text: str) -> None:
    """Put a query file into the package."""
    root = Path(next(entry for entry in sys.path if (Path(entry) / package).is_dir()))
    (root / package / "q.sql").write_text(text)


def test_queries_are_found_by_name_and_carry_it_into_the_servers_statistics(package: str) -> None:
    write(package, "-- A file.\n\n-- name: one\nSELECT 1;\n\n--name:  two_2 \n-- Why.\nSELECT ';';\n")
    assert load_queries(package, "q.sql") == {"one": "-- one\nSELECT 1", "two_2": "-- two_2\n-- Why.\nSELECT ';'"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("SELECT 1;\n-- name: one\nSELECT 1;", "before the first"),
        ("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;", "twice"),
        ("-- name: One\nSELECT 1;", "not a query name"),
        ("-- name: one\n-- only words\n;", "no statement"),
        ("-- name: one\n\n-- name: two\nSELECT 2;", "'one' has no statement"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(package: str, text: str, complaint: str) -> None:
    write(package, text)
    with pytest.raises(QueryFileError, match=complaint) as caught:
        load_queries(package, "q.sql")
    assert f"{package}/q.sql" in str(caught.value)


def test_a_missing_file_or_package_is_named(package: str) -> None:
    with pytest.raises(QueryFileError, match=f"{package}/nowhere.sql"):
        load_queries(package, "nowhere.sql")
    with pytest.raises(QueryFileError, match="no_such_package/q"):
        load_queries("no_such_package", "q.sql")
