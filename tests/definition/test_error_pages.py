"""Every code has a page that is true: its broken example raises exactly that code, its mended one compiles."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.definition import DefinitionError, explain, explanations

PACKAGE = Path(__file__).parents[2] / "orchestrator" / "definition"
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)
PRELUDE = FENCE.findall((PACKAGE / "errors" / "PRELUDE.md").read_text(encoding="utf-8"))[0]
CODES = list(explanations())


def run(code: str, name: str) -> None:
    """Runs an example after the prelude, as a module of its own."""
    module = ModuleType("examples")
    sys.modules["examples"] = module  # pydantic looks a model's module up
    try:
        exec(compile(PRELUDE, "PRELUDE.md", "exec", dont_inherit=True), module.__dict__)
        exec(compile(code, name, "exec", dont_inherit=True), module.__dict__)
    finally:
        del sys.modules["examples"]


def examples(code: str) -> tuple[str, str]:
    """The broken and the mended example of a page."""
    broken, mended = FENCE.findall(explanations()[code].page)
    return broken, mended


@pytest.mark.parametrize("code", CODES)
def test_the_broken_example_raises_exactly_its_code(code: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        run(examples(code)[0], f"{code}.md")
    assert set(raised.value.codes) == {code}, str(raised.value)


@pytest.mark.parametrize("code", CODES)
def test_the_mended_example_compiles(code: str) -> None:
    run(examples(code)[1], f"{code}.md")


@pytest.mark.parametrize("code", CODES)
def test_every_finding_says_where_and_what_to_do(code: str) -> None:
    """file:line, code, saga and version in the first line; a `do` line; `used in` only where it is another file."""
    with pytest.raises(DefinitionError) as raised:
        run(examples(code)[0], f"{code}.md")
    for finding in raised.value.findings:
        text = str(finding)
        assert re.match(rf"(ORC|PRELUDE)\w*\.md:[1-9]\d*  {code}  (order|parcel) v1: ", text), text
        assert any(label == "do" and row for label, row in finding.rows), text
        assert ("used in" in dict(finding.rows)) == (finding.place.file != f"{code}.md"), text
        assert "<" not in text, text


def test_every_code_in_the_source_has_a_page_and_every_page_a_code() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    assert set(re.findall(r'"(ORC\d{3})"', source)) == set(CODES)


GROUPS = {
    "10": "Injection", "11": "Injection", "20": "Structure", "21": "Choices", "22": "Waiting", "23": "Loops",
    "24": "Contracts", "30": "Turning back", "40": "Life cycle, children, people",
}  # fmt: skip


def index() -> str:
    """The list of all codes, as docs/errors shows it."""
    pages = "../../orchestrator/definition/errors"
    lines = [
        "# Errors of a saga definition",
        "",
        "What the check at import refuses. `orchestrator explain CODE` prints a page; each has a broken and a mended",
        f"example, which a test runs, on top of [these contracts]({pages}/PRELUDE.md).",
    ]
    group = ""
    for code, entry in explanations().items():
        if GROUPS[code[3:5]] != group:
            group = GROUPS[code[3:5]]
            lines += ["", f"## {group}", "", "| code | what |", "|---|---|"]
        lines.append(f"| [{code}]({pages}/{code}.md) | {entry.title} |")
    return "\n".join(lines) + "\n"


def test_the_list_of_codes_is_complete() -> None:
    """It is generated: write `index()` to the file when this fails."""
    assert (PACKAGE.parents[1] / "docs" / "errors" / "README.md").read_text(encoding="utf-8") == index()


def test_explaining_a_code_gives_its_page() -> None:
    assert (explain("orc104") or "").startswith("# ORC104: a result that is not there on every path")
    assert explain("ORC999") is None
    entry = explanations()["ORC104"]
    assert entry.title == "a result that is not there on every path"
    assert entry.summary.startswith("Some path leads to the function")
