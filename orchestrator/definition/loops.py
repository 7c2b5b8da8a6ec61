"""Loops: for_each over items, repeat in rounds. Both have a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from orchestrator.definition.words import Path, Word, name_of


@dataclass(frozen=True, eq=False, kw_only=True)
class ForEach(Word):
    """One run of the path per item."""

    function: Callable[..., Sequence[Any]]
    path: tuple[Path, ...]
    at_once: int = 1

    def label(self) -> str:
        return f"for_each({name_of(self.function)})"


def for_each(function: Callable[..., Sequence[Any]], *path: Path, at_once: int = 1) -> ForEach:
    """Runs the path once per item, `at_once` items side by side. Inside, the item is injected by its type; outside,
    what the items gave comes as `list[T]` in item order."""
    return ForEach(function=function, path=path, at_once=at_once, name=name_of(function))


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeat(Word):
    """Rounds of a path."""

    path: tuple[Path, ...]
    at_most: int

    def label(self) -> str:
        return f"repeat {self.name}" if self.name else "repeat(…)"

    def otherwise(self, *path: Path) -> Self:
        """What follows `at_most` rounds without `leave()`; unwritten, the saga turns back."""
        return self._with("otherwise", path)


def repeat(*path: Path, at_most: int) -> Repeat:
    """Runs the path in rounds until `leave()`, at most so many. Outside, `T` is the last round's, `list[T]` all."""
    return Repeat(path=path, at_most=at_most)
