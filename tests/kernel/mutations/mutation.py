"""A planted bug: old text → new text in files of the kernel. It fails loudly when the old text is gone."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[3]


class StaleMutationError(Exception):
    """The text that a mutation changes is not there, or not once: the mutation must follow the code."""


@dataclass(frozen=True)
class Edit:
    """One replacement in one file, relative to the repository. The old text must be there exactly once."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutation:
    """One planted bug. `theme`: of the flows, where few schedules reach the situation otherwise."""

    name: str
    edits: tuple[Edit, ...]
    theme: str = ""

    def sources(self) -> dict[Path, str]:
        """The changed text of every file that it touches. Raises StaleMutationError."""
        found: dict[Path, str] = {}
        for edit in self.edits:
            path = ROOT / edit.file
            text = found.get(path) or path.read_text()
            times = text.count(edit.old)
            if times != 1:
                raise StaleMutationError(f"{self.name}: {edit.file} has {times} times\n{edit.old}")
            found[path] = text.replace(edit.old, edit.new)
        for path, text in found.items():
            compile(text, str(path), "exec")
        return found


def mutation(name: str, file: str, old: str, new: str, *more: tuple[str, str, str], theme: str = "") -> Mutation:
    """A mutation of the kernel: `file` is a module of it; further edits as triples."""
    triples = ((file, old, new), *more)
    return Mutation(name, tuple(Edit(f"orchestrator/{_path(f)}.py", o, n) for f, o, n in triples), theme)


def _path(file: str) -> str:
    return file if "/" in file else f"kernel/{file}"


class _Loader(SourceFileLoader):
    """Compiles the changed text instead of the file's, and never from or to a cache."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._text.encode(), self.path)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, sources: dict[Path, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        text = self._sources.get(Path(spec.origin))
        if text is not None:
            spec.loader = _Loader(fullname, spec.origin, text)
        return spec


def plant(planted: Mutation) -> bool:
    """From now on this process imports the mutated code. True where what was loaded before had to be dropped for it.

    Raises RuntimeError where something of the kernel is loaded that is not loaded anew.
    """
    sources = planted.sources()
    loaded = {name for name, module in sys.modules.items() if Path(getattr(module, "__file__", None) or "") in sources}
    if loaded:
        for name in [name for name in sys.modules if name.startswith(("orchestrator", "tests.kernel.flow"))]:
            del sys.modules[name]
    if "orchestrator.kernel.decide" in sys.modules:
        raise RuntimeError("too late to plant a bug: the kernel is imported already")
    sys.meta_path.insert(0, _Finder(sources))
    return bool(loaded)
