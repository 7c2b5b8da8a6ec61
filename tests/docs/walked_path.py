"""Walks a guide: writes the files that it shows and runs the commands that it gives, in order, in an empty directory.

What the words after the language of a fenced block mean:
- ```` ```python shop/contracts.py ````  the whole file, written there (any language)
- ```` ```sh ````                        run by bash; ```` ```sh exit=6 ```` where another exit code is expected
- ```` ```text ````                      lines that the command before must have printed; `...` stands for anything
- any other block is only for reading, and needs the word `only`
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<info>[^\n`]+)\n(?P<body>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
COMMAND_SECONDS_MAX = 90


@dataclass(frozen=True)
class Block:
    """One fenced block: language, the words after it, text, and the line where it begins."""

    language: str
    words: tuple[str, ...]
    body: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text."""
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split()
        yield Block(language, tuple(words), match["body"], text.count("\n", 0, match.start()) + 1)


def walk(guide: Path, directory: Path) -> int:
    """Walks the guide in this directory; gives how many commands were run. Raises AssertionError naming the line."""
    environment = _environment()
    output, commands = "", 0
    for block in blocks(guide.read_text()):
        where = f"{guide.name}, line {block.line}"
        if "only" in block.words:
            continue
        if block.language == "sh":
            expected = next((int(word[5:]) for word in block.words if word.startswith("exit=")), 0)
            output = _run(block.body, directory, environment, expected, where)
            commands += 1
        elif block.language == "text":
            _compare(block.body, output, where)
        elif block.words:
            file = directory / block.words[0]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.body)
        else:
            raise AssertionError(f"{where}: nobody runs this block; say where its file goes, or add the word `only`")
    return commands


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORCHESTRATOR_", "PYTEST_"))}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"NO_COLOR": "1"}


def _run(script: str, directory: Path, environment: dict[str, str], expected: int, where: str) -> str:
    """Runs one block; what it exports is kept for the blocks after it, as in a reader's own shell."""
    saved = directory / ".environment"
    done = subprocess.run(
        ["bash", "-e", "-c", f"trap 'env -0 > {saved}' EXIT\n{script}"],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert done.returncode == expected, f"{where}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    for entry in saved.read_text().split("\0"):
        name, _, value = entry.partition("=")
        if name.startswith("ORCHESTRATOR_"):
            environment[name] = value
    saved.unlink()
    return done.stdout + done.stderr


def _compare(wanted: str, output: str, where: str) -> None:
    """Every line must be there, in order; `...` inside a line stands for any text, alone for any lines."""
    rest = output
    for line in filter(None, (line.strip() for line in wanted.splitlines())):
        if line == "...":
            continue
        pattern = ".*".join(re.escape(part) for part in line.split("..."))
        found = re.search(pattern, rest)
        assert found is not None, f"{where}: {line!r} is not in what was printed:\n{output}"
        rest = rest[found.end() :]
