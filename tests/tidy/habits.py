"""Sizes, SQL in its place, docstrings, and words that do not belong in the product."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from tests.tidy.source import Source

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

_SQL = re.compile(
    r"""^\s*(?:
        (?:SELECT|WITH|INSERT|UPDATE|DELETE|MERGE|TRUNCATE|COPY|LISTEN|NOTIFY)\s+[^.]   # shouted like a keyword
      | (?i:select\s+.+\sfrom\s | insert\s+into\s+\w | update\s+\S+\s+set\s | delete\s+from\s+\w)
    )""",
    re.VERBOSE | re.DOTALL,
)

# Where a machine shows through: somebody's home or checkout, and the hosts that package tools talk to.
_MACHINE = re.compile(
    r"(?<![\w.$}~-])/(?:work|root|home/\w+|Users/\w+)/[\w.]"
    # Spelled in pieces, so that this file passes its own check.
    r"|\b(?:[\w-]+\.)*(?:py" + r"pi\.org|python" + r"hosted\.org|npm" + r"js\.org|maven" + r"\.org|crates" + r"\.io)\b"
    r"|\brepo\.maven" + r"\.apache\.org\b|\bproxy\.go" + r"lang\.org\b"
)


def too_long(
    sources: Iterable[Source], exempt: Mapping[str, tuple[int, str]], checked_all: bool = True
) -> Iterator[str]:
    """Files and functions over the limit, and exemptions that are too generous, needless or without a reason.

    exempt: "path" or "path::function" to the lines it has today and why; the number may only go down.
    """
    seen = set()
    for source in sources:
        measured = [(source.path, source.lines, FILE_LINES_MAX)]
        measured += [(f"{source.path}::{f.name}", f.lines, FUNCTION_LINES_MAX) for f in source.functions()]
        for name, lines, limit in measured:
            if name in exempt:
                seen.add(name)
                yield from _exemption_problems(name, lines, limit, *exempt[name])
            elif lines > limit:
                yield f"{name} has {lines} lines, more than {limit}; split it by what it does"
    if checked_all:
        yield from (
            f"{name} is exempt but does not exist; remove it from the list" for name in exempt if name not in seen
        )


def _exemption_problems(name: str, lines: int, limit: int, allowed: int, reason: str) -> Iterator[str]:
    if len(reason.split()) < 3:
        yield f"{name} is exempt without a reason"
    if lines <= limit:
        yield f"{name} has {lines} lines and needs no exemption; remove it from the list"
    elif lines > allowed:
        yield f"{name} grew from {allowed} to {lines} lines; exemptions only shrink"
    elif lines < allowed:
        yield f"{name} shrank to {lines} lines; lower its exemption from {allowed}"


def sql_in_python(sources: Iterable[Source]) -> Iterator[str]:
    """Statements in text literals; they belong into .sql files, where they are read, named and tested as SQL."""
    for source in sources:
        for line, text in source.texts():
            if _SQL.match(text):
                yield f"{source.path}:{line}: SQL in Python ({' '.join(text.split())[:40]} ...); move it to a .sql file"


def without_docstring(sources: Iterable[Source]) -> Iterator[str]:
    """Modules that do not say what they are for. An empty __init__.py of a namespace says nothing either."""
    for source in sources:
        if len((ast.get_docstring(source.tree) or "").split()) < 3:
            yield f"{source.path}: begin with a docstring: what lives here, what it refuses to know"


def machine_words(files: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Paths and hosts that are true of one machine only, in (path, text) pairs."""
    for path, text in files:
        for number, line in enumerate(text.splitlines(), start=1):
            if found := _MACHINE.search(line):
                yield f"{path}:{number}: {found.group().strip()} is true of one machine only"
