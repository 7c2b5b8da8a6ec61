"""The layout: every word of a flow at its place, with its path.

Rules of this file
- path = path of the parent + block name, unless it is the body or the path of a `when` + the word's own name. So a path
  begins with the path of its parent, and never holds a position in a file.
- A word without a name of its own (scope, parallel, repeat) is called after the first thing in it: `hold_funds.scope`.
  `.named("…")` says another name.
- A task or wait with `.on_event` is laid out inside a scope called `<name>.scope`; its own paths lie inside it too.
- A branch of a parallel is called after its first word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from orchestrator.definition.findings import Reporter
from orchestrator.definition.forks import Parallel, When
from orchestrator.definition.loops import ForEach, Repeat
from orchestrator.definition.place import Place
from orchestrator.definition.tasks import Task, outcome_enum
from orchestrator.definition.waits import Scope, Wait
from orchestrator.definition.words import Block, Path, Word, text_of
from orchestrator.messages import Verdict

BODY = "body"
ON_FAILED = "on_failed"
_APPROVE = f"on/{text_of(Verdict.APPROVE)}"
NAME = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclass(eq=False, slots=True)
class Placed:
    """One word at its place. `block` names the block of the parent; `blocks` are its own, in the author's order."""

    word: Word
    name: str
    path: str
    parent: Placed | None
    block: str
    blocks: dict[str, tuple[Placed, ...]] = field(default_factory=dict)
    next: Placed | None = None
    order: int = 0

    @property
    def label(self) -> str:
        """How messages call it."""
        text = self.word.label()
        return text if self.word.name else text.replace("(…)", f" {self.name}")

    def ancestors(self) -> Iterator[tuple[Placed, str]]:
        """Every node around it, innermost first, with the block of that node in which it lies."""
        node: Placed = self
        while node.parent is not None:
            yield node.parent, node.block
            node = node.parent

    @property
    def root(self) -> str:
        """The outermost block: the flow (`body`) or the saga's `on_failed` path."""
        node: Placed = self
        while node.parent is not None:
            node = node.parent
        return node.block


@dataclass(frozen=True, slots=True)
class Layout:
    """A laid-out saga: two root blocks, and every node by path in the author's order."""

    flow: tuple[Placed, ...]
    on_failed: tuple[Placed, ...]
    nodes: Mapping[str, Placed]


def lay(flow: Path, on_failed: Path | None, report: Reporter) -> Layout:
    """Lays out the two root paths. Reports two nodes of one path, bad names, and what is no word of a flow."""
    builder = _Builder(report)
    body = builder.block((flow,), None, BODY, "")
    failed = builder.block((on_failed,), None, ON_FAILED, ON_FAILED) if on_failed is not None else ()
    return Layout(body, failed, builder.nodes)


def flatten(path: object, report: Reporter, place: Place) -> list[Word]:
    """The words of a path, nested lists opened. Reports whatever is no word."""
    if isinstance(path, Word):
        return [path]
    if isinstance(path, (list, tuple)):
        return [word for part in path for word in flatten(part, report, place)]
    name = getattr(path, "__name__", None) or repr(path)
    do = "put a word of the flow here: a @step, a @task, compute(…), publish(…), when(…), …"
    if callable(path):
        do = f"decorate it with @step or @task, or write compute({name}), publish({name}) or when({name}, …)"
    report("ORC209", place, f"{name} stands in the flow, but is no word of a flow", do=do)
    return []


class _Builder:
    def __init__(self, report: Reporter) -> None:
        self._report = report
        self.nodes: dict[str, Placed] = {}

    def block(self, path: tuple[Path, ...], parent: Placed | None, key: str, segment: str) -> tuple[Placed, ...]:
        """Lays out one block. `segment` is what it adds to paths, "" for nothing."""
        place = parent.word.place if parent else self._report.place
        prefix = "/".join(part for part in (parent.path if parent else "", segment) if part)
        placed: list[Placed] = []
        for word in flatten(path, self._report, place):
            node = self._place(_lower(word), parent, key, prefix)
            if node is not None:
                if placed:
                    placed[-1].next = node
                placed.append(node)
        return tuple(placed)

    def _place(self, word: Word, parent: Placed | None, key: str, prefix: str) -> Placed | None:
        name = _name_of(word)
        if not NAME.fullmatch(name):
            do = "use letters, digits, '_', '-' and '.' (names become part of activity ids)"
            self._report("ORC201", word.place, f"{name!r} cannot be a name", do=do)
            return None
        path = f"{prefix}/{name}" if prefix else name
        if path in self.nodes:
            other = self.nodes[path]
            self._report(
                "ORC201", word.place, f"two things are called {path}: {other.label} and {word.label()}",
                made_by=f"{other.label} ({other.word.place})", do=f'give one of them another name: .named("{name}_2")',
            )  # fmt: skip
            return None
        node = Placed(word, name, path, parent, key, order=len(self.nodes))
        self.nodes[path] = node
        for block_key, segment, inner in _blocks_of(word, self._report):
            node.blocks[block_key] = self.block(inner, node, block_key, segment)
        return node


def _lower(word: Word) -> Word:
    """A task or wait that an event may interrupt becomes a scope around it."""
    if isinstance(word, (Task, Wait)) and word.events:
        inner: Word = replace(word, events=())
        return Scope(path=(inner,), events=word.events, name=f"{_name_of(word)}.scope", place=word.place, lowered=True)
    return word


def _name_of(word: Word) -> str:
    """Its own name, or that of the first thing in it with its kind."""
    if word.name:
        return word.name
    kind = type(word).__name__.lower()
    first = _first_name(word)
    return f"{first}.{kind}" if first else kind


def _first_name(path: object) -> str:
    """The name of the first thing on a path that has one of its own, "" where there is none."""
    if isinstance(path, Word) and path.name:
        return path.name
    if isinstance(path, (Scope, Repeat)):
        return _first_name(path.path)
    if isinstance(path, Parallel):
        return _first_name(path.branches)
    parts = path if isinstance(path, (list, tuple)) else ()
    return next((name for part in parts if (name := _first_name(part))), "")


def _blocks_of(word: Word, report: Reporter) -> list[tuple[str, str, tuple[Path, ...]]]:
    """(block name, segment of paths, path) of every block; two paths for one value are reported."""
    found: list[tuple[str, str, tuple[Path, ...]]] = []
    if isinstance(word, (Scope, ForEach, Repeat)):
        found.append((BODY, "", word.path))
    if isinstance(word, Parallel):
        found += _branches(word, report)
    written: dict[str, Block] = {}
    for block in word.blocks:
        if block.key in written:
            text = f"{word.label()} has two paths for {block.key.removeprefix('on/')}"
            report(
                "ORC212", block.place, text, made_by=f"the first ({written[block.key].place})", do="join or drop one"
            )
            continue
        written[block.key] = block
        found.append(
            (block.key, "" if isinstance(word, When) and block.key == "true" else _segment(block.key), block.path)
        )
    if isinstance(word, When) and "otherwise" not in written:
        found.append(("otherwise", "otherwise", ()))
    if isinstance(word, Task) and outcome_enum(word.answer) is Verdict and not {_APPROVE, "otherwise"} & written.keys():
        found.append((_APPROVE, _APPROVE, ()))  # a plain approval goes on; every other form says a path per outcome
    for on_event in word.events if isinstance(word, Scope) else ():
        key = f"on/{on_event.event.wire_name}"
        if any(key == other for other, _, _ in found):
            text = f"{word.label()} has two paths for {on_event.event.__name__}"
            report("ORC212", on_event.place, text, do="join them, or drop one")
            continue
        found.append((key, _segment(key), on_event.path))
    return found


def _branches(word: Parallel, report: Reporter) -> list[tuple[str, str, tuple[Path, ...]]]:
    found: list[tuple[str, str, tuple[Path, ...]]] = []
    for branch in word.branches:
        key = _first_name(branch) or "empty"
        if any(key == other for other, _, _ in found):
            do = f'give one of them another name: .named("{key}_2")'
            report("ORC201", word.place, f"two branches of {word.label()} begin with {key}", do=do)
            continue
        found.append((key, _segment(key), (branch,)))
    return found


def _segment(key: str) -> str:
    """A block's name as part of a path: what would confuse an activity id is percent-encoded."""
    kind, slash, value = key.partition("/") if key.startswith("on/") else ("", "", key)
    return kind + slash + quote(value, safe=" ._-")
