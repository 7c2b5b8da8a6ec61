"""`Saga`: a definition, compiled and checked where it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, cast

from typing_extensions import TypeVar

from orchestrator.definition import checks
from orchestrator.definition.child import Callee, GoodEnd
from orchestrator.definition.draft import Draft, Settings
from orchestrator.definition.emit import emit
from orchestrator.definition.findings import DefinitionError, Reporter
from orchestrator.definition.functions import Signatures
from orchestrator.definition.layout import lay
from orchestrator.definition.place import here
from orchestrator.definition.program import codecs_of, contracts_of, plans_of, program_of
from orchestrator.definition.results import results_of
from orchestrator.definition.roles import uses_of
from orchestrator.definition.steps import Call
from orchestrator.definition.words import Path
from orchestrator.kernel.graph import Graph, Program
from orchestrator.messages import Contract

S = TypeVar("S", bound=Contract, default=Any)


class Saga(Callee[S]):
    """One version of one saga: `transfer = Saga("transfer", version=1, starts_on=TransferRequested, flow=[…])`.

    starts_on: the event or command that starts it, or several. flow: the path it takes. on_failed: what follows the
    last undo, forward only. within: time for the whole saga. forward_only: nothing is ever undone. states: the business
    life cycle, `{State.A: [State.B]}`; the first is where it begins. rerun: a new start after the end is a new run.
    early_age: how long before its start an event may have come that it still takes. activation: "approval": a new
    version takes new sagas when two people say so, whatever the product's setting; no part of the shape.

    Raises DefinitionError that lists everything that is wrong with the definition.
    """

    graph: Graph
    program: Program
    contracts: tuple[type[Contract], ...]
    children: tuple[Callee[Any], ...]

    def __init__(
        self,
        name: str,
        *,
        version: int,
        starts_on: type[S] | Sequence[type[Contract]],
        flow: Path,
        on_failed: Path | None = None,
        within: timedelta | None = None,
        forward_only: bool = False,
        states: Mapping[Enum, Sequence[Enum]] | None = None,
        rerun: bool = False,
        early_age: timedelta = timedelta(hours=1),
        activation: Literal["", "approval"] = "",
    ) -> None:
        starts = cast("tuple[type[Contract], ...]", (starts_on,) if isinstance(starts_on, type) else tuple(starts_on))
        settings = Settings(
            name=name, version=version, starts_on=starts, place=here(), within=within, forward_only=forward_only,
            has_on_failed=on_failed is not None, rerun=rerun, early_age=early_age,
            states={state: tuple(nexts) for state, nexts in (states or {}).items()},
        )  # fmt: skip
        self.name, self.version, self.starts_on, self.place = name, version, starts, settings.place
        self.activation = activation
        draft = _draft(settings, flow, on_failed)
        self._compile(draft)

    def _compile(self, draft: Draft) -> None:
        plans = plans_of(draft)
        codecs_of(draft)
        contracts = contracts_of(draft)
        checks.run(draft)
        if draft.report.findings:
            raise DefinitionError(draft.report.findings)
        self.contracts = contracts
        self.graph = emit(draft, self.contracts)
        self.program = program_of(draft, self.graph, plans)
        called = (node.word.child for node in draft.layout.nodes.values() if isinstance(node.word, Call))
        self.children = tuple(dict.fromkeys(called))
        self.pivots = self.graph.has_pivot or self.graph.forward_only
        self.may_fail = not self.graph.forward_only and (
            self.graph.within_ms is not None
            or any(not failure.caught and not failure.state[1] for failure in draft.reach.failures)
        )
        self.good_ends = tuple(_good_ends(draft))

    def __repr__(self) -> str:
        return f"Saga({self.name!r}, version={self.version})"


def _draft(settings: Settings, flow: Path, on_failed: Path | None) -> Draft:
    report = Reporter(f"{settings.name} v{settings.version}", settings.place)
    layout = lay(flow, on_failed, report)
    uses = uses_of(layout, Signatures(report), report)
    results = results_of(layout, uses, settings.starts_on, settings.place)
    return Draft(settings, layout, uses, results, report)


def _good_ends(draft: Draft) -> Iterator[GoodEnd]:
    """How the saga completes: at each `end(…)` of its flow, or where the flow is over."""
    results = {use.node.path: use.signature.returns for use in draft.uses if use.role == "result"}
    for path, states in draft.reach.ends.items():
        for (_, passed), trail in states.items():
            yield GoodEnd(", ".join((*trail, draft.layout.nodes[path].label)), passed, results.get(path))
    for (_, passed), trail in draft.reach.out.items():
        yield GoodEnd(", ".join((*trail, "the flow is over")), passed, None)
