"""Named queries from ``.sql`` files, so that SQL is written, read and tested as SQL.

A file is a list of queries, each under a header line ``-- name: some_query``. Comment lines between a header and its
statement stay with the statement: the database's own statistics then show which query it was.
"""

import re
from functools import cache
from importlib import resources

_HEADER = re.compile(r"^--\s*name:\s*(?P<name>\S+)\s*$", re.MULTILINE)
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class QueryFileError(ValueError):
    """A query file is not as ``load_queries`` needs it; the text names file and query."""


@cache
def load_queries(package: str, file: str) -> dict[str, str]:
    """All queries of ``file`` (a file name) in ``package`` (dotted), by name. Read once per process.

    Raises QueryFileError for a missing file, text before the first header, a bad or doubled name, an empty query.
    """
    where = f"{package}/{file}"
    try:
        text = resources.files(package).joinpath(file).read_text(encoding="utf-8")
    except (ModuleNotFoundError, OSError) as error:
        raise QueryFileError(
            f"{where}: cannot be read ({error}); is the file part of the installed package?"
        ) from error
    before, *parts = _HEADER.split(text)
    if any(line.strip() and not line.lstrip().startswith("--") for line in before.splitlines()):
        raise QueryFileError(f"{where}: there is SQL before the first '-- name:' line, so nobody could call it")
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if not _NAME.match(name):
            raise QueryFileError(f"{where}: {name!r} is not a query name; use small letters, digits and underscores")
        if name in queries:
            raise QueryFileError(f"{where}: query {name!r} stands there twice")
        statement = body.strip().removesuffix(";").strip()
        if not any(line.strip() and not line.lstrip().startswith("--") for line in statement.splitlines()):
            raise QueryFileError(f"{where}: query {name!r} has no statement")
        queries[name] = f"-- {name}\n{statement}"
    return queries
