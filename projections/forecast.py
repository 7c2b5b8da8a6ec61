"""What lies ahead of a saga: the nodes that remain, and when it will probably be over.

Rules of this file
- Pure: a definition, how long its nodes usually take, and where a saga stands. None of it is a promise.
- A path that only a failure takes (on_refused, on_timeout, on_failed, ...) is not counted on.
- Quick is what a tenth of all sagas needed at a node, slow what 95 of 100 did; where nobody was yet, a step counts as
  nothing and a person or a wait as their whole time limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.kernel.graph import Graph, Limit, Node, node_path
from projections.answers import Remaining

PLACES = frozenset({"step", "call", "task", "wait", "delay"})
_EXCEPTIONAL = ("on_refused", "on_exhausted", "on_timeout", "on_failed")


@dataclass(frozen=True, slots=True)
class Usual:
    """How long stays at a node take, in seconds; None where nobody knows."""

    quick: float | None = None
    usual: float | None = None
    slow: float | None = None


@dataclass(slots=True)
class Ahead:
    """What remains. `slow` None: somebody may take for ever."""

    nodes: list[Remaining] = field(default_factory=list)
    quick: float = 0.0
    slow: float | None = 0.0

    def add(self, quick: float, slow: float | None) -> None:
        """One after the other."""
        self.quick += quick
        self.slow = None if self.slow is None or slow is None else self.slow + slow


def ahead(graph: Graph, activity: str, usual: Mapping[str, Usual]) -> Ahead:
    """What comes after the node of an activity, up to the end of the saga."""
    found = Ahead()
    path: str | None = node_path(activity)
    while path is not None and path in graph.nodes:
        node = graph.nodes[path]
        for name, first in node.blocks.items():
            if node.kind in PLACES and first is not None and not name.startswith(_EXCEPTIONAL):
                _block(graph, first, usual, found, certain=False)
        if node.next is not None and not _block(graph, node.next, usual, found, certain=True):
            return found  # it ends there
        path = node.parent
    return found


def limit_seconds(node: Node) -> float | None:
    """The constant time limit of a node; None where it has none, or a function gives it."""
    within = getattr(node, "within", None)
    if isinstance(within, Limit) and within.ms is not None:
        return within.ms / 1000
    return None


def _block(graph: Graph, first: str | None, usual: Mapping[str, Usual], found: Ahead, *, certain: bool) -> bool:
    """Adds the nodes of a block; False where the saga ends in it."""
    path = first
    while path is not None:
        node = graph.nodes[path]
        if node.kind in ("end", "fail"):
            return not certain
        if node.kind == "leave":
            return True
        if node.kind in PLACES:
            _place(node, usual, found, certain=certain)
        _inner(graph, node, usual, found, certain=certain)
        path = node.next
    return True


def _place(node: Node, usual: Mapping[str, Usual], found: Ahead, *, certain: bool) -> None:
    known = usual.get(node.path, Usual())
    found.nodes.append(Remaining(node.path, node.name, node.kind, certain, known.quick, known.usual, known.slow))
    slow = limit_seconds(node)
    if slow is None:
        slow = known.slow if known.slow is not None else 0.0 if node.kind == "step" else None
    found.add((known.quick or 0.0) if certain else 0.0, slow)


def _inner(graph: Graph, node: Node, usual: Mapping[str, Usual], found: Ahead, *, certain: bool) -> None:
    """The blocks inside a node: side by side the slowest counts, of alternatives the quickest and the slowest."""
    parts = []
    for first in _ordinary(node):
        part = Ahead()
        inside = certain and node.kind in ("parallel", "scope", "repeat")
        _block(graph, first, usual, part, certain=inside)
        parts.append(part)
    for part in parts:
        found.nodes += part.nodes
    if parts:
        together = max if node.kind == "parallel" else min
        quick = together(part.quick for part in parts) if node.kind in ("parallel", "scope", "repeat") else 0.0
        slows = [part.slow for part in parts]
        slow = None if None in slows else max(part.slow or 0.0 for part in parts)
        times = getattr(node, "at_most", 1)
        found.add(quick, None if slow is None else slow * times)


def _ordinary(node: Node) -> Iterator[str]:
    for name, first in node.blocks.items():
        if first is not None and not name.startswith(_EXCEPTIONAL) and not (node.kind == "scope" and name[:3] == "on/"):
            yield first
