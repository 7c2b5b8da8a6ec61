"""Where an author wrote something: `file:line`, for messages.

Rules of this file
- A place is taken when a word is written (its frame) or from a function's code; it is never part of a graph's hash.
- Frames of this package are skipped, so that the place is the author's line and not ours.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


@dataclass(frozen=True, slots=True)
class Place:
    """One line of the author's code."""

    file: str = "?"
    line: int = 0

    def __str__(self) -> str:
        return f"{_short(self.file)}:{self.line}"


def here() -> Place:
    """The nearest line outside this package that is being executed."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not file.startswith(("<string>", _PACKAGE)):
            return Place(file, frame.f_lineno)
        frame = frame.f_back
    return Place()


def place_of(function: Callable[..., Any]) -> Place:
    """Where the function is defined: the line of its `def`, below its decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return Place()
    starts = [line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno]
    return Place(code.co_filename, _def_line(code.co_filename, code.co_firstlineno, min(starts, default=0)))


def _def_line(file: str, first: int, body: int) -> int:
    """`co_firstlineno` is the first decorator's line; the `def` is at or below it, above the body."""
    import linecache

    for line in range(first, max(first, body) + 1):
        if linecache.getline(file, line).lstrip().startswith(("def ", "async def ")):
            return line
    return first


def _short(file: str) -> str:
    """Relative to the working directory where it lies below it, as compilers print it."""
    root = os.getcwd() + os.sep
    return file.removeprefix(root)
