"""The catalog: which sagas and participants are installed here, and what follows from them for routing and topics.

Rules of this file
- Looked up once, at the start; nothing is registered by importing. Sagas are attributes of the configured modules, of
  packages below them, and of submodules named `definition`; participants are found in submodules named `participants`.
- Every version stays routable: a saga keeps its version for life; only new starts take the newest one, or, of a
  definition under approval (ADR 67), the one that is active.
- `(name, version)` stands for one shape. Two different ones, here or in the database, stop the start.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from orchestrator.kernel.graph import Graph, Program, PublishNode, ScopeNode, StepNode, TaskNode, WaitNode
from orchestrator.messages.contract import Contract, ContractError, Done, Event
from orchestrator.messages.customers import CustomerView
from orchestrator.messages.protocol import SAGAS_TOPIC, commands_topic, events_topic, replies_topic
from orchestrator.messages.registry import Registry

_SUBMODULES = ("definition", "participants")
DIFFERENCES_MAX = 12
APPROVAL = "approval"  # of a saga's versions: two people say when one takes new sagas


class CatalogError(Exception):
    """The installed sagas cannot run together; the author must act. The text names both places."""

    retriable = False


class DefinitionChangedError(CatalogError):
    """A saga's shape was changed under a version that has run before; give the new shape a new version."""


class InstalledSaga(Protocol):
    """What the runtime needs of a compiled saga definition."""

    @property
    def name(self) -> str:
        """The saga's name."""

    @property
    def version(self) -> int:
        """Its version, from 1."""

    @property
    def graph(self) -> Graph:
        """Its shape."""

    @property
    def program(self) -> Program:
        """Its shape with the installed code."""

    @property
    def contracts(self) -> Iterable[type[Contract]]:
        """Every contract that it uses."""

    @property
    def children(self) -> Iterable[Any]:
        """The sagas that it calls."""


Stored = Callable[[str, int], Awaitable[Any]]
"""Gives the JSON of a definition as it was stored, or None."""


class DefinitionStore(Protocol):
    """The one method of the store that is needed here."""

    async def register_definition(self, name: str, version: int, hash_: str, data: Any) -> str:
        """Stores a definition; gives the hash that is stored."""


@dataclass(frozen=True, slots=True)
class Routes:
    """What the graphs of all versions want. Types are wire names."""

    starts: Mapping[str, tuple[str, ...]]  # type -> names of the sagas that it starts
    awaiters: Mapping[str, frozenset[str]]  # event type -> names of the sagas that may wait for it
    shared: frozenset[str]  # event types that some graph matches by another key than the saga's own
    own_key: Mapping[str, tuple[str, ...]]  # saga name -> types that its newest version awaits under its own key
    participants: Mapping[str, str]  # replies topic -> the participant that answers there
    consumed: tuple[str, ...]
    produced: tuple[str, ...]

    def may_want_more(self, type_: str, taken_by: Set[str]) -> bool:
        """Could another run still come to a wait for an event that sagas of these names have taken?"""
        return type_ in self.shared or not self.awaiters.get(type_, _NOBODY) <= taken_by


_NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class Catalog:
    """Installed sagas by (name, version). Raises CatalogError when two of them, or two contracts, contradict."""

    sagas: dict[tuple[str, int], InstalledSaga] = field(default_factory=dict)
    newest: dict[str, InstalledSaga] = field(default_factory=dict)
    participants: list[Any] = field(default_factory=list)
    views: dict[str, CustomerView] = field(default_factory=dict)  # by saga: what customers may see
    registry: Registry = field(default_factory=lambda: Registry([Done]))
    routes: Routes = field(init=False)
    programs: dict[tuple[str, int], Program] = field(default_factory=dict)
    governed: frozenset[str] = frozenset()  # sagas whose versions become active by approval
    active: dict[str, int] = field(default_factory=dict)  # of these, as far as this process knows; 0: none

    def __post_init__(self) -> None:
        self.routes = _routes([])

    @classmethod
    def of(cls, sagas: Iterable[Any], participants: Iterable[Any] = (), views: Iterable[CustomerView] = ()) -> Catalog:
        """The catalog of these sagas, the ones that they call included."""
        catalog = cls()
        for saga in sagas:
            catalog._add(saga)
        for app in participants:
            if app not in catalog.participants:
                catalog.participants.append(app)
        for view in views:
            if catalog.views.setdefault(view.saga, view) != view:
                raise CatalogError(f"there are two customer views of saga {view.saga}: keep the one that is meant")
        catalog.routes = _routes(list(catalog.sagas.values()))
        return catalog

    @classmethod
    def load(cls, modules: Sequence[str]) -> Catalog:
        """Imports the modules and takes what they hold. Raises CatalogError for one that is not there, or is empty."""
        from orchestrator.definition import Saga
        from orchestrator.participants import Participant

        sagas: list[Any] = []
        participants: list[Any] = []
        views: list[CustomerView] = []
        for name in modules:
            before = len(sagas)
            for module in _modules(name):
                values = list(vars(module).values())
                sagas += [value for value in values if isinstance(value, Saga)]
                participants += [value for value in values if isinstance(value, Participant)]
                views += [value for value in values if isinstance(value, CustomerView)]
            if len(sagas) == before:
                raise CatalogError(
                    f"module {name} holds no saga: define one there, in a package below it, or in its submodule "
                    "definition, or set ORCHESTRATOR_SAGAS to the modules that do"
                )
        return cls.of(sagas, participants, views)

    def govern(self, *, all_of_them: bool) -> None:
        """Puts all sagas under approval, or those that say so themselves, and takes in the saga that asks people."""
        from orchestrator.activation.definition import definition_activation

        names = {n for (n, _), saga in self.sagas.items() if all_of_them or getattr(saga, "activation", "") == APPROVAL}
        if names:
            self._add(definition_activation)
            self.governed = frozenset(names - {definition_activation.name})
            self.routes = _routes(list(self.sagas.values()), self.governed)

    def believe(self, active: Mapping[str, int]) -> None:
        """Takes what is active, as just read. Kept as one value: readers see all of it or nothing."""
        self.active = dict(active)

    def version_for_new(self, name: str) -> int:
        """The version that new sagas take, as far as this process knows; 0: none. Raises KeyError for no such saga."""
        return self.active.get(name, 0) if name in self.governed else self.newest[name].version

    def program_for(self, name: str, version: int) -> Program | None:
        """The program for a new saga: of this version, or (0) of the newest one. None where it is not installed."""
        if version:
            return self.programs.get((name, version))
        newest = self.newest.get(name)
        return newest.program if newest is not None else None

    def program(self, name: str, version: int) -> Program | None:
        """The installed program of a version, or None: then its sagas are parked as stuck until it is installed."""
        return self.programs.get((name, version))

    async def register(self, store: DefinitionStore, stored: Stored | None = None) -> None:
        """Stores every definition. Raises DefinitionChangedError for all whose shape was changed under a version."""
        changed = []
        for saga in self.sagas.values():
            hash_ = await store.register_definition(saga.name, saga.version, saga.graph.hash, saga.graph.data)
            if hash_ != saga.graph.hash:
                text = (
                    f"saga {saga.name} v{saga.version}: the shape of this version was changed after it had been stored "
                    f"(stored {hash_[:12]}, installed {saga.graph.hash[:12]}). Sagas may be running on it: give the "
                    f"new shape version={saga.version + 1} and leave v{saga.version} as it was."
                )
                before = await stored(saga.name, saga.version) if stored is not None else None
                lines = list(_difference("", before, saga.graph.data)) if before is not None else []
                changed.append("\n  ".join([text, *lines[:DIFFERENCES_MAX]]))
        if changed:
            raise DefinitionChangedError("\n".join(changed))

    def _add(self, saga: InstalledSaga) -> None:
        key = (saga.name, saga.version)
        known = self.sagas.get(key)
        if known is not None:
            if known is not saga and known.graph.hash != saga.graph.hash:
                raise CatalogError(
                    f"two different sagas are called {saga.name} v{saga.version}: rename one of them, or give the "
                    "newer shape another version"
                )
            return
        self.sagas[key] = saga
        self.programs[key] = saga.program
        newest = self.newest.get(saga.name)
        if newest is None or newest.version < saga.version:
            self.newest[saga.name] = saga
        for contract in saga.contracts:
            try:
                self.registry.add(contract)
            except ContractError as error:
                raise CatalogError(f"saga {saga.name} v{saga.version}: {error}") from error
        for child in saga.children:
            self._add(child)


def _difference(place: str, before: Any, after: Any) -> Iterator[str]:
    """What differs between two JSON values, one line per place."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            here = f"{place}/{key}"
            if key not in before:
                yield f"{here}: new"
            elif key not in after:
                yield f"{here}: gone"
            else:
                yield from _difference(here, before[key], after[key])
    elif before != after:
        yield f"{place}: {str(before)[:80]} before, {str(after)[:80]} now"


def _modules(name: str) -> Iterator[ModuleType]:
    """A module, the packages below it, and their submodules that by convention hold sagas or participants."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise CatalogError(f"module {name} is not installed; ORCHESTRATOR_SAGAS names it") from error
        raise
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        below = f"{name}.{found.name}"
        if found.ispkg:
            yield from _modules(below)
        elif found.name in _SUBMODULES:
            yield importlib.import_module(below)


def _routes(sagas: Sequence[InstalledSaga], governed: frozenset[str] = frozenset()) -> Routes:
    newest: dict[str, InstalledSaga] = {}
    for saga in sagas:
        if saga.name not in newest or newest[saga.name].version < saga.version:
            newest[saga.name] = saga
    starts: dict[str, list[str]] = {}
    for name, saga in sorted(newest.items()):
        may_start = [one.graph for one in sagas if one.name == name] if name in governed else [saga.graph]
        for type_ in dict.fromkeys(type_ for graph in may_start for type_ in graph.starts_on):
            starts.setdefault(type_, []).append(name)
    awaiters: dict[str, set[str]] = {}
    shared: set[str] = set()
    participants: set[str] = set()
    produced = {SAGAS_TOPIC}
    for saga in sagas:
        for type_, own_key in _awaited(saga.graph):
            awaiters.setdefault(type_, set()).add(saga.name)
            if not own_key:
                shared.add(type_)
        participants |= _participants(saga.graph)
        produced |= {node.topic for node in saga.graph.nodes.values() if isinstance(node, PublishNode) and node.topic}
    contracts = {contract.wire_name: contract for saga in sagas for contract in saga.contracts}
    wanted = {contracts[type_] for type_ in (*awaiters, *starts) if type_ in contracts}
    # A command that starts a saga comes by a call or over HTTP; only events have a topic of their own to be read.
    events = {events_topic(contract.context) for contract in wanted if issubclass(contract, Event)}
    replies = {replies_topic(participant): participant for participant in participants}
    return Routes(
        starts={type_: tuple(names) for type_, names in starts.items()},
        awaiters={type_: frozenset(names) for type_, names in awaiters.items()},
        shared=frozenset(shared),
        own_key={
            name: tuple(sorted({type_ for type_, own_key in _awaited(saga.graph) if own_key}))
            for name, saga in newest.items()
        },
        participants=replies,
        consumed=tuple(sorted(events | set(replies) | {SAGAS_TOPIC})),
        produced=tuple(sorted(produced | {commands_topic(participant) for participant in participants})),
    )


def _awaited(graph: Graph) -> Iterator[tuple[str, bool]]:
    """Every event type that a graph may wait for, and whether it is matched by the saga's own business key."""
    for node in graph.nodes.values():
        if isinstance(node, WaitNode):
            yield node.event, node.match is None
        elif isinstance(node, ScopeNode):
            yield from ((event, True) for event in node.events)
        elif isinstance(node, TaskNode) and node.amend_on:
            yield node.amend_on, True


def _participants(graph: Graph) -> set[str]:
    steps = [node for node in graph.nodes.values() if isinstance(node, StepNode)]
    return {name for node in steps for name in (node.participant, node.undo_participant) if name}
