"""What the check finds: numbered findings, one error that lists them all, and the pages that explain each code.

Rules of this file
- A finding is a small report: place, code, saga, what is wrong, and rows (`path`, `made by`, `do`, `used in`).
- Every code has a page in `errors/ORCnnn.md` beside this file: first line `# ORCnnn: title`, then a summary, a broken
  and a mended example. The pages ship with the package, so `orchestrator explain` needs no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path as FilePath

from orchestrator.definition.place import Place

_PAGES = FilePath(__file__).parent / "errors"
_LABEL_WIDTH = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake in one saga. `rows` are (label, text) in the order in which they are printed."""

    code: str
    place: Place
    saga: str
    text: str
    rows: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        head = f"{self.place}  {self.code}  {self.saga}: {self.text}"
        return "\n".join([head, *(f"    {label:<{_LABEL_WIDTH}}{text}" for label, text in self.rows)])


class DefinitionError(ValueError):
    """A saga definition is broken. Lists every finding; the author must act, a retry changes nothing."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n" + "\n".join(map(str, self.findings)))

    def __reduce__(self) -> tuple[type[DefinitionError], tuple[tuple[Finding, ...]]]:
        return type(self), (self.findings,)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of all findings, in order."""
        return tuple(finding.code for finding in self.findings)


class Reporter:
    """Collects findings of one saga; a finding that was reported already is dropped."""

    def __init__(self, saga: str, place: Place) -> None:
        self.saga = saga
        self.place = place
        self._found: dict[Finding, None] = {}

    def __call__(self, code: str, place: Place, text: str, **rows: str) -> None:
        """Adds a finding. Rows are printed in the order given; `made_by` is printed as `made by`."""
        if place.file != self.place.file:
            rows["used_in"] = str(self.place)
        self._found[Finding(code, place, self.saga, text, tuple((k.replace("_", " "), v) for k, v in rows.items()))] = (
            None
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, in order of file, line and code."""
        return tuple(sorted(self._found, key=lambda found: (found.place.file, found.place.line, found.code)))


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a code means. `page` is the whole page in Markdown."""

    code: str
    title: str
    summary: str
    page: str


@lru_cache(maxsize=1)
def explanations() -> Mapping[str, Explanation]:
    """Every code with its title, summary and page, in order of the codes."""
    found = {}
    for file in sorted(_PAGES.glob("ORC*.md")):
        text = file.read_text(encoding="utf-8")
        head, _, rest = text.partition("\n")
        code, _, title = head.removeprefix("# ").partition(": ")
        found[code] = Explanation(code, title, rest.strip().partition("\n\n")[0].replace("\n", " "), text)
    return found


def explain(code: str) -> str | None:
    """The page of this code, or None where there is no such code."""
    entry = explanations().get(code.upper())
    return entry.page if entry else None
