"""The JSON form of a graph, its hash, and the way back: `graph_of(stored)` reads what was registered long ago.

Rules of this file
- What equals its default is left out. So a field that a later release adds changes the hash of no saga that does not
  use it, and versions that run keep their hash.
- What is prose (the help of a task, the schema of a form) is left out too: a better sentence is no new version.
- Contracts stand in the form by name and version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

from orchestrator.kernel import graph as g
from orchestrator.messages import Contract, canonical_bytes

_PROSE = frozenset({"help", "form_schema"})
_OWN = frozenset({"nodes", "hash", "data"})
_ALWAYS = frozenset({"kind"})
_CLASSES: dict[str, type[g.Node]] = {
    "step": g.StepNode, "call": g.CallNode, "task": g.TaskNode, "wait": g.WaitNode, "delay": g.DelayNode,
    "compute": g.ComputeNode, "choose": g.ChooseNode, "parallel": g.ParallelNode, "for_each": g.ForEachNode,
    "repeat": g.RepeatNode, "scope": g.ScopeNode, "publish": g.PublishNode, "enter": g.EnterNode, "end": g.EndNode,
    "fail": g.FailNode, "leave": g.LeaveNode, "keep": g.KeepNode,
}  # fmt: skip
_NESTED: dict[str, Any] = {"retry": g.RetryPolicy, "undo_retry": g.RetryPolicy, "within": g.Limit}


def with_data(graph: g.Graph, contracts: Sequence[type[Contract]]) -> g.Graph:
    """The graph with its JSON form and hash (SHA-256, hex, over the form's canonical bytes)."""
    data: dict[str, Any] = _form(graph, _OWN)
    data["nodes"] = {path: _form(node, _PROSE) for path, node in graph.nodes.items()}
    data["contracts"] = {contract.wire_name: contract.wire_version for contract in contracts}
    return replace(graph, data=data, hash=hashlib.sha256(canonical_bytes(data)).hexdigest())


def _form(thing: Any, left_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    found = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if field.name not in left_out and (field.name in _ALWAYS or value != _default(field)):
            found[field.name] = _plain(value)
    return found


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _plain(value: Any) -> Any:
    """Tuples as lists, dataclasses and mappings as dicts: what JSON gives back."""
    if is_dataclass(value):
        return _form(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def graph_of(data: Mapping[str, Any]) -> g.Graph:
    """The graph whose JSON form this is, without the prose of tasks. For pictures and comparison; it runs nothing.

    Raises KeyError or TypeError for data that no release has written.
    """
    own = {key: value for key, value in data.items() if key not in ("nodes", "contracts")}
    own["starts_on"] = tuple(own["starts_on"])
    own["transitions"] = {state: tuple(nexts) for state, nexts in own.get("transitions", {}).items()}
    unordered = {path: _node(node) for path, node in data["nodes"].items()}
    nodes = {path: unordered[path] for first in ("first", "on_failed") for path in _walk(unordered, own.get(first))}
    hash_ = hashlib.sha256(canonical_bytes(data)).hexdigest()
    return g.Graph(**{"first": None, **own}, nodes=nodes, hash=hash_, data=data)


def _walk(nodes: Mapping[str, g.Node], path: str | None) -> Iterator[str]:
    """The paths of a block in the order of the flow: stored JSON has its keys sorted."""
    while path is not None:
        yield path
        for first in nodes[path].blocks.values():
            yield from _walk(nodes, first)
        path = nodes[path].next


def _node(data: Mapping[str, Any]) -> g.Node:
    kind = _CLASSES[data["kind"]]
    values = dict(data)
    for name, nested in _NESTED.items():
        if isinstance(values.get(name), Mapping):
            values[name] = nested(**values[name])
    if "escalate" in values:
        values["escalate"] = tuple(g.Escalation(**level) for level in values["escalate"])
    if "remind" in values:
        values["remind"] = tuple(g.Reminder(**reminder) for reminder in values["remind"])
    for field in fields(kind):
        if isinstance(field.default, tuple) and field.name in values:
            values[field.name] = tuple(values[field.name])
    return kind(**values)
