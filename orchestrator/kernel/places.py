"""Places: how tokens move over the graph, without any record.

Rules of this file
- `+id` means that activity may start, `-id` that it is over. Blocks that only hang below a node (a task's on_reject, a
  step's then, the branch of a fork) are transparent: when their last node is over, the node they hang below is over.
- Parallel, for_each and repeat bodies and a scope's body are not: their end is a record of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.kernel.graph import Graph, Node, node_path

BODY = frozenset({"", "body"})


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an activity stands: its node, the enclosing activity ("" at the top), and the loop index around it."""

    node: Node
    parent: str
    index: int | None
    base: str  # what stands before a sibling's own part of the path


def spot(graph: Graph, activity: str) -> Spot:
    """The place of an activity in the graph. Raises KeyError where the graph has no such node."""
    path = node_path(activity)
    node = graph.nodes[path]
    if node.parent is None:
        return Spot(node, "", None, "")
    rest = path[len(node.parent) :]
    base = activity[: len(activity) - len(rest)]
    if base.endswith("]"):
        cut = base.rindex("[")
        return Spot(node, base[:cut], int(base[cut + 1 : -1]), base)
    return Spot(node, base, None, base)


def child(graph: Graph, parent: str, path: str, index: int | None = None) -> str:
    """The id of node `path` inside activity `parent` (round or item `index`)."""
    parent_path = node_path(parent)
    middle = "" if index is None else f"[{index}]"
    return f"{parent}{middle}{path[len(parent_path) :]}"


def enter_block(graph: Graph, activity: str, block: str, index: int | None = None) -> str:
    """The token that a block of `activity` gives: its first node may start, or (empty path) the activity is over."""
    first = graph.nodes[node_path(activity)].blocks.get(block)
    return f"+{child(graph, activity, first, index)}" if first else f"-{activity}"


@dataclass(frozen=True, slots=True)
class End:
    """What follows a node that is over: `start` a sibling, or the end of `block` of `owner` ("" = the saga's flow)."""

    start: str = ""
    owner: str = ""
    block: str = ""
    index: int | None = None


def after(graph: Graph, activity: str) -> End:
    """What follows when this activity is over, through all transparent blocks."""
    while True:
        here = spot(graph, activity)
        if here.node.next:
            base = here.base if here.node.parent else ""
            cut = len(here.node.parent) if here.node.parent else 0
            return End(start=f"{base}{here.node.next[cut:]}")
        if here.node.parent is None:
            return End()
        owner = graph.nodes[here.node.parent]
        concurrent = owner.kind in ("parallel", "for_each")
        own_body = owner.kind in ("repeat", "scope") and here.node.block in BODY
        if concurrent or own_body:
            return End(owner=here.parent, block=here.node.block, index=here.index)
        activity = here.parent


def enclosing_scopes(graph: Graph, activity: str) -> list[str]:
    """The scopes in whose *body* an activity lies, innermost first."""
    found: list[str] = []
    while True:
        here = spot(graph, activity)
        if here.node.parent is None:
            return found
        if graph.nodes[here.node.parent].kind == "scope" and here.node.block in BODY:
            found.append(here.parent)
        activity = here.parent


def siblings_apart(graph: Graph, one: str, other: str) -> bool:
    """True where two activities lie in different branches of one parallel or different items of one for_each."""
    ours = {owner: (block, index) for owner, block, index in _ways(graph, one)}
    for owner, block, index in _ways(graph, other):
        if owner in ours and ours[owner] != (block, index):
            return graph.nodes[node_path(owner)].kind in ("parallel", "for_each")
    return False


def _ways(graph: Graph, activity: str) -> list[tuple[str, str, int | None]]:
    ways: list[tuple[str, str, int | None]] = []
    while True:
        here = spot(graph, activity)
        if here.node.parent is None:
            return ways
        ways.append((here.parent, here.node.block, here.index))
        activity = here.parent
