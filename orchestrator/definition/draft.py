"""A saga while it is being compiled: everything that the checks ask about, in one place."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import TypeVar

from orchestrator.definition.findings import Reporter
from orchestrator.definition.known import Known, bits
from orchestrator.definition.layout import Layout
from orchestrator.definition.place import Place
from orchestrator.definition.results import Result
from orchestrator.definition.roles import Use
from orchestrator.definition.walk import Question, Trail, Walk
from orchestrator.messages import Contract

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a saga says about itself, beside its flow."""

    name: str
    version: int
    starts_on: tuple[type[Contract], ...]
    place: Place
    within: timedelta | None = None
    forward_only: bool = False
    has_on_failed: bool = False
    rerun: bool = False
    early_age: timedelta = timedelta(hours=1)
    states: Mapping[Enum, tuple[Enum, ...]] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Draft:
    """One saga between its flow and its graph."""

    settings: Settings
    layout: Layout
    uses: Sequence[Use]
    results: Sequence[Result]
    report: Reporter
    reach: Walk[None] = field(init=False)
    _walks: dict[tuple[int, bool], tuple[Known, Walk[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reach = self.walk(Question[None](), {None: ()})

    def walk(self, question: Question[S], starts: Mapping[S, Trail]) -> Walk[S]:
        """Walks the flow with a question."""
        return Walk(self.layout, question, starts, self.settings.forward_only)

    def known(self, tracked: Sequence[Result], many: bool = False) -> tuple[Known, Walk[int]]:
        """The walk that follows these results; one walk for all parameters that ask the same."""
        key = (bits(tracked), many)
        if key not in self._walks:
            question = Known(tracked, self.results, many)
            starts = [found for found in self.results if found.owner is None]
            trails: dict[int, Trail] = {}
            for start in starts:
                mark: Trail = (f"started by {start.type.__name__}",) if len(starts) > 1 else ()
                trails.setdefault(question.start(start), mark)
            self._walks[key] = (question, self.walk(question, trails))
        return self._walks[key]

    def reached(self, path: str) -> bool:
        """Some path leads to this node."""
        return bool(self.reach.seen.get(path))
