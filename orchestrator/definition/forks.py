"""Forks: when, choose, parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from orchestrator.definition.words import Path, Word, name_of, text_of

K = TypeVar("K")


@dataclass(frozen=True, eq=False, kw_only=True)
class When(Word):
    """One path if the condition holds. A condition that is a type asks whether such a result is there."""

    condition: Callable[..., bool] | type[Any]

    def label(self) -> str:
        return f"when({name_of(self.condition)})"

    def otherwise(self, *path: Path) -> Self:
        """The path if it does not hold; unwritten, the flow goes on."""
        return self._with("otherwise", path)


def when(condition: Callable[..., bool] | type[Any], *path: Path) -> When:
    """Takes the path if the function says yes, or if a result of that type is there."""
    return When(condition=condition, name=name_of(condition))._with("true", path)


@dataclass(frozen=True, eq=False, kw_only=True)
class Choose(Word, Generic[K]):
    """One path per value of an Enum, a Literal or a bool."""

    function: Callable[..., K]

    def label(self) -> str:
        return f"choose({name_of(self.function)})"

    def on(self, values: K | Sequence[K], *path: Path) -> Self:
        """The path for this value, or for each of these."""
        chosen = values if isinstance(values, (list, tuple)) else (values,)
        word = self
        for value in chosen:
            word = word._with(text_of(value), path)
        return word

    def otherwise(self, *path: Path) -> Self:
        """The path for every value without one."""
        return self._with("otherwise", path)


def choose(function: Callable[..., K]) -> Choose[K]:
    """Forks over what the function returns. Every value needs a path, or the fork an `.otherwise`."""
    return Choose(function=function, name=name_of(function))


@dataclass(frozen=True, eq=False, kw_only=True)
class Parallel(Word):
    """Branches side by side."""

    branches: tuple[Path, ...]

    def label(self) -> str:
        return f"parallel {self.name}" if self.name else "parallel(…)"


def parallel(*branches: Path) -> Parallel:
    """Runs the branches side by side and joins when all have ended. A branch is a word or a list of them."""
    return Parallel(branches=branches)
