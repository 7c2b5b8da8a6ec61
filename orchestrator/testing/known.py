"""What the parts of a specification share: what a saga definition must offer, and the one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from orchestrator.definition.words import Word, name_of
from orchestrator.kernel.graph import Program, node_path
from orchestrator.messages import Contract

At: TypeAlias = "int | tuple[int, ...] | None"
Place: TypeAlias = "Word | Callable[..., object] | str"


class SpecificationError(AssertionError):
    """The specification gives something that cannot be, or expects what does not happen."""


class Definition(Protocol):
    """What a specification needs of a saga definition: `Saga` has it."""

    @property
    def program(self) -> Program:
        """Graph, functions and codecs."""
        ...

    @property
    def contracts(self) -> tuple[type[Contract], ...]:
        """Every contract that the saga uses."""
        ...

    @property
    def children(self) -> tuple[Any, ...]:
        """The sagas that it calls, as definitions."""
        ...


def title(definition: Definition) -> str:
    """How messages call a saga."""
    graph = definition.program.graph
    return f"{graph.name} v{graph.version}"


def indices_of(at: At) -> tuple[int, ...] | None:
    """`at=2` and `at=(2, 0)` as loop indices, outermost first. None means: whichever it is."""
    return (at,) if isinstance(at, int) else at


def place_name(place: Place) -> str:
    """How an author calls a place: a word (by `.named(…)`, if it was), a function of the flow, or its name."""
    if isinstance(place, Word) and place.name:
        return place.name
    return place if isinstance(place, str) else name_of(place)


def author_name(definition: Definition, activity: str) -> str:
    """The author's name of the node that an activity runs."""
    return definition.program.graph.nodes[node_path(activity)].name
