"""What the command line prints, and where: data on stdout, everything else on stderr.

Rules of this file
- With `--json` stdout holds one JSON object, or one per line for lists, and nothing else; without it, text for people.
- Text that came from somebody's data never controls the terminal: control and direction characters are made visible.
- Tables show full values when piped; `NO_COLOR` is obeyed; nothing asks a question without a terminal.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 10_000  # columns: a pipe gets every character


class ExitCode(IntEnum):
    """What the shell sees. Documented in `--help`; a number never changes its meaning."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    CONFLICT = 5
    FOUND_SOMETHING = 6
    UNREACHABLE = 7
    NOTHING_TO_COMPARE = 8
    TIME_OUT = 124
    INTERRUPTED = 130


EXIT_CODES = (
    "Exit codes: 0 done · 1 failed · 2 usage · 3 not found · 4 not allowed · 5 conflict, reload · "
    "6 check or verify found something · 7 service unreachable · 8 nothing to compare with · 124 time-out · "
    "130 interrupted"
)


class CliError(Exception):
    """An error for the person at the keyboard: what happened, and (in `do`) what to type next."""

    def __init__(self, code: ExitCode, what: str, do: str = "", facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(what)
        self.code, self.what, self.do, self.facts = code, what, do, dict(facts or {})


class Output:
    """Prints data and messages in the form that the caller asked for."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        tty = sys.stdout.isatty()
        self.stdout = Console(highlight=False, soft_wrap=not tty, width=None if tty else PIPE_WIDTH)
        self.stderr = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """A message or progress for people, on stderr."""
        self.stderr.print(Text(visible(text)))

    def line(self, text: str = "", style: str = "") -> None:
        """One line of human output on stdout; nothing with `--json`."""
        if not self.as_json:
            self.stdout.print(Text(visible(text), style=style))

    def object(self, value: Mapping[str, Any]) -> None:
        """One JSON object on stdout, if `--json`."""
        if self.as_json:
            print_json(value)

    def objects(self, values: Iterable[Mapping[str, Any]]) -> None:
        """One JSON object per line on stdout, if `--json`."""
        if self.as_json:
            for value in values:
                print_json(value)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table for people; nothing with `--json`."""
        if self.as_json:
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=not self.stdout.is_terminal)
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        self.stdout.print(table)

    def error(self, error: CliError) -> None:
        """An error on stderr: as JSON with `--json`, else in words with the next step."""
        if self.as_json:
            body = {"error": error.what, "do": error.do, "exitCode": int(error.code), **error.facts}
            sys.stderr.write(json.dumps(body, ensure_ascii=False, default=str) + "\n")
            return
        self.stderr.print(Text(f"error: {visible(error.what)}", style="red"))
        if error.do:
            self.stderr.print(Text(f"   do: {visible(error.do)}"))


def print_json(value: Mapping[str, Any]) -> None:
    """One line of JSON on stdout, at once: whoever reads a pipe waits for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def visible(text: object) -> str:
    """The text with control, format and surrogate characters written out, except line breaks and tabs."""
    return "".join(
        f"\\u{ord(mark):04x}" if unicodedata.category(mark) in ("Cc", "Cf", "Cs") and mark not in "\n\t" else mark
        for mark in str(text)
    )
