"""Chains: approvals of which each excludes the voters of those before it."""

from __future__ import annotations

from orchestrator.kernel.graph import Graph, TaskNode


def is_excluded(graph: Graph, node: TaskNode) -> bool:
    """A later task excludes this one's voters."""
    return any(isinstance(other, TaskNode) and node.path in other.exclude_tasks for other in graph.nodes.values())


def chain_of(graph: Graph, node: TaskNode) -> list[int]:
    """[position, length] of a task in the longest chain through it, [] where it stands alone."""
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for path, other in graph.nodes.items():
        if isinstance(other, TaskNode):
            before[path] = list(other.exclude_tasks)
            for excluded in other.exclude_tasks:
                after.setdefault(excluded, []).append(path)
    position = _longest(before, node.path, frozenset())
    length = position + _longest(after, node.path, frozenset()) - 1
    return [position, length] if length > 1 else []


def _longest(ways: dict[str, list[str]], path: str, seen: frozenset[str]) -> int:
    """`seen`: a task in a loop may exclude itself."""
    seen = seen | {path}
    return 1 + max((_longest(ways, other, seen) for other in ways.get(path, ()) if other not in seen), default=0)
