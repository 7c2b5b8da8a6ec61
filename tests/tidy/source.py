"""Python source as the tidy tests see it: modules, their imports, functions and text literals. Nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("orchestrator", "events", "sagas", "projections", "tests")


@dataclass(frozen=True)
class Import:
    """One imported module, wherever the statement stands: at the top, in a function, under TYPE_CHECKING."""

    module: str
    line: int


@dataclass(frozen=True)
class Function:
    """A function with its outermost name and how many lines it has, decorators not counted."""

    name: str
    line: int
    lines: int


@dataclass(frozen=True)
class Source:
    """One file: `path` relative to the repository with forward slashes, and its text."""

    path: str
    text: str

    @property
    def module(self) -> str:
        """Its dotted name; a package is named like its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.path)

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    def imports(self, modules: frozenset[str] = frozenset()) -> Iterator[Import]:
        """Every import. `from a import b` means module a.b when `modules` has that, else module a."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(inner if inner in modules else base, node.lineno)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        above = node.level - (1 if self.is_package else 0)
        return ".".join([*parts[: len(parts) - above], *([node.module] if node.module else [])])

    def functions(self) -> Iterator[Function]:
        """Every function and method, inner ones too."""
        for node, name in _named(self.tree, ""):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield Function(name, node.lineno, node.end_lineno - node.lineno + 1)

    def texts(self) -> Iterator[tuple[int, str]]:
        """Line and value of every text literal but docstrings; of an f-string the fixed parts, joined by a space."""
        docstrings = {id(node) for node in _docstrings(self.tree)}
        inside = {
            id(part) for node in ast.walk(self.tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)
        } - {id(node) for node in ast.walk(self.tree) if isinstance(node, ast.JoinedStr)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.JoinedStr) and id(node) not in inside:
                parts = (p.value if isinstance(p, ast.Constant) else " " for p in node.values)
                yield node.lineno, "".join(str(part) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
                yield node.lineno, node.value


def _named(node: ast.AST, prefix: str) -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{child.name}"
            yield child, name
            yield from _named(child, f"{name}.")
        else:
            yield from _named(child, prefix)


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Docstrings, and any other text that stands alone as a statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def read_sources(packages: Iterable[str] = PACKAGES, root: Path = ROOT) -> list[Source]:
    """All Python files of these top-level packages, in order of their paths."""
    return [
        Source(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8"))
        for package in packages
        for file in sorted((root / package).rglob("*.py"))
    ]
