"""Pictures and differences of graphs: `mermaid(graph)`, and in words what has changed between two of them.

Rules of this file
- It reads the graph only, so a version whose code is gone can be drawn and compared: `mermaid(graph_of(stored))`.
- Mermaid ids are numbers in the order of the flow; what people read is escaped, and never part of an id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from orchestrator.kernel import graph as g

_MS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
_SHAPES = {
    "task": ("[/", "/]"), "wait": ("([", "])"), "delay": ("([", "])"), "choose": ("{", "}"), "end": ("(((", ")))"),
    "fail": ("{{", "}}"), "publish": (">", "]"), "compute": ("(", ")"), "enter": ("(", ")"), "call": ("[[", "]]"),
}  # fmt: skip
_GROUPS = ("scope", "parallel", "for_each", "repeat")


def mermaid(graph: g.Graph) -> str:
    """The graph as a Mermaid flowchart: steps with their undo, the pivot, loops, scopes, who decides, time limits."""
    return "\n".join(_Drawing(graph).lines()) + "\n"


class _Drawing:
    """Edges leave a node by its written blocks, or go on to what follows it, however far out that is."""

    def __init__(self, graph: g.Graph) -> None:
        self._graph = graph
        self._ids = {path: f"n{number}" for number, path in enumerate(graph.nodes)}

    def lines(self) -> Iterator[str]:
        graph = self._graph
        yield "flowchart TD"
        yield f"  start([{_quote(f'{graph.name} v{graph.version}: ' + ', '.join(graph.starts_on))}])"
        yield f"  over([{_quote('completed')}])"
        yield from self._nodes(None, "  ")
        yield f"  start --> {self._target(graph.first, 'over')}"
        if graph.has_on_failed:
            yield f"  failed([{_quote('after the last undo')}])"
            yield f"  compensated([{_quote('compensated')}])"
            yield f"  failed --> {self._target(graph.on_failed, 'compensated')}"
        for node in graph.nodes.values():
            yield from self._edges(node)
        yield "  classDef pivot stroke-width:4px"
        yield "  classDef undo stroke-dasharray:4"
        pivots = [self._ids[node.path] for node in graph.nodes.values() if getattr(node, "pivot", False)]
        if pivots:
            yield f"  class {','.join(pivots)} pivot"

    def _nodes(self, parent: str | None, indent: str) -> Iterator[str]:
        for node in self._graph.nodes.values():
            if self._holder(node) != parent:
                continue
            own = self._ids[node.path]
            if node.kind in _GROUPS:
                yield f"{indent}subgraph {own}g [{_quote(describe(node))}]"
                yield f"{indent}  {own}(( ))"
                yield from self._nodes(node.path, indent + "  ")
                yield f"{indent}end"
            else:
                left, right = _SHAPES.get(node.kind, ("[", "]"))
                yield f"{indent}{own}{left}{_quote(describe(node))}{right}"
                if isinstance(node, g.StepNode) and node.undo:
                    yield f"{indent}{own}u[{_quote(f'undo {node.undo}')}]:::undo"
                    yield f"{indent}{own}u -.- {own}"

    def _holder(self, node: g.Node) -> str | None:
        """The group in whose frame a node is drawn: handlers of a scope lie outside it."""
        while node.parent is not None:
            parent = self._graph.nodes[node.parent]
            if parent.kind in _GROUPS and (parent.kind == "parallel" or node.block in ("", "body")):
                return parent.path
            node = parent
        return None

    def _edges(self, node: g.Node) -> Iterator[str]:
        own = self._ids[node.path]
        after = self._after(node)
        if isinstance(node, g.EndNode):
            yield f"  {own} --> over"
        elif isinstance(node, g.LeaveNode):
            yield f"  {own} -.-> {self._after(self._graph.nodes[node.loop])}"
        elif isinstance(node, g.FailNode):
            target = self._turns_to(node)
            yield from [f"  {own} -.-> {target}"] if target else []
        else:
            for block, first in node.blocks.items():
                plain = block in ("body", "then") or node.kind == "parallel"
                label = "" if plain else f"|{_quote(_words(node, block))}|"
                yield f"  {own} -->{label} {self._target(first, after)}"
            if self._goes_on(node):
                label = '|"when all are over"|' if node.kind == "for_each" else ""
                yield f"  {own} -->{label} {after}"

    @staticmethod
    def _goes_on(node: g.Node) -> bool:
        """What follows is reached from the node itself, not only from the ends of its blocks."""
        if node.kind in ("choose", "parallel", "scope", "repeat"):
            return not node.blocks
        if node.kind == "task":
            return False  # every outcome has a path, written or empty
        return "then" not in node.blocks

    def _target(self, first: str | None, after: str) -> str:
        return self._ids[first] if first else after

    def _turns_to(self, node: g.Node) -> str:
        """Where a failure goes: the innermost scope with on_failed around it, else the saga's failure path."""
        outer, block = node, node.block
        while outer.parent is not None:
            outer, block = self._graph.nodes[outer.parent], outer.block
            inside = block in ("", "body") or (isinstance(outer, g.ScopeNode) and block in outer.own_failures)
            if outer.kind == "scope" and inside and "on_failed" in outer.blocks:
                return self._target(outer.blocks["on_failed"], self._after(outer))
        return "failed" if self._graph.has_on_failed else ""

    def _after(self, node: g.Node) -> str:
        """What follows a node that is over: its sibling, the next round or item, or what follows the node around it."""
        while True:
            if node.next is not None:
                return self._ids[node.next]
            if node.parent is None:
                return "compensated" if node.block == "on_failed" else "over"
            in_body = node.block in ("", "body")
            node = self._graph.nodes[node.parent]
            if in_body and node.kind in ("repeat", "for_each"):
                return self._ids[node.path]
            if in_body and node.kind == "scope" and node.blocks.get("then"):
                return self._ids[str(node.blocks["then"])]


def describe(node: g.Node) -> str:
    """One line about a node, as people read it."""
    kind = node.kind.replace("_", " ")
    texts = [node.name if node.kind in ("task", "call") else f"{kind} {node.name.removesuffix(f'.{node.kind}')}"]
    if isinstance(node, g.StepNode):
        texts = [f"step {node.name} → {node.participant}", "PIVOT" if node.pivot else ""]
    elif isinstance(node, g.CallNode):
        child = f"call {node.name} → saga {node.child} v{node.child_version}"
        texts = [child, "PIVOT" if node.pivot else "", _limit(node.within)]
    elif isinstance(node, g.TaskNode):
        votes = f"{node.votes} votes" if node.votes > 1 else ""
        texts += [f"decided by {_people(node.to)}", votes, "limits of authority" if node.limits else ""]
        texts += [_limit(node.within)]
    elif isinstance(node, g.WaitNode):
        texts = [f"wait for {node.event}", _limit(node.within)]
    elif isinstance(node, g.DelayNode):
        texts = [f"delay {_limit(node.within).removeprefix('within ')}"]
    elif isinstance(node, g.ScopeNode):
        texts += [_limit(node.within)]
    elif isinstance(node, g.ForEachNode):
        texts += [f"{node.at_once} at once"]
    elif isinstance(node, g.RepeatNode):
        texts += [f"at most {node.at_most}"]
    elif isinstance(node, g.ChooseNode):
        texts = [f"{node.test}?"]
    elif isinstance(node, g.PublishNode):
        texts = [f"publish {node.event}"]
    elif isinstance(node, (g.EnterNode, g.EndNode, g.FailNode)):
        value = {"enter": "state", "end": "outcome", "fail": "reason"}[node.kind]
        texts = [f"{node.kind} {getattr(node, value) or getattr(node, 'function', '')}"]
    elif isinstance(node, (g.LeaveNode, g.KeepNode)):
        texts = [node.kind]
    return ", ".join(text for text in texts if text)


def _words(node: g.Node, block: str) -> str:
    if node.kind == "choose":
        no = "no" if "true" in node.blocks else "otherwise"
        return {"true": "yes", "false": "no", "otherwise": no}.get(block, block)
    return block.removeprefix("on/").replace("_", " ")


def _limit(limit: g.Limit | None) -> str:
    if limit is None:
        return ""
    if limit.ms is None:
        return f"within {limit.function}"
    return f"within {duration(limit.ms)}" + (f" of working time in {limit.calendar}" if limit.calendar else "")


def duration(ms: int) -> str:
    """A duration as people say it: `24 h`, `1 d 12 h`."""
    if ms < 0:
        return f"-{duration(-ms)}"
    parts = []
    for unit, size in _MS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"


def _people(to: Any) -> str:
    if isinstance(to, dict):
        return str(to.get("function") or to.get("role") or to.get("person"))
    return " or ".join(_people(one) for one in to)


def _quote(text: str) -> str:
    """Mermaid's quoted text; entities keep an author's characters from being read as syntax."""
    escaped = text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return f'"{escaped}"'


def difference(before: g.Graph, after: g.Graph) -> list[str]:
    """What has changed from one graph to another, in words, one sentence each; empty where they are the same."""
    found = list(_compare("the saga", _facts(before), _facts(after)))
    for path in [path for path in before.nodes if path not in after.nodes]:
        found.append(f"{path} is gone ({describe(before.nodes[path])})")
    for path, node in after.nodes.items():
        old = before.nodes.get(path)
        if old is None:
            found.append(f"{path} is new ({describe(node)})")
        elif old.kind != node.kind:
            found.append(f"{path} was a {old.kind}, and is a {node.kind}")
        else:
            found += _compare(path, _facts(old), _facts(node))
    contracts = [graph.data["contracts"] if graph.data else {} for graph in (before, after)]
    for name in sorted(contracts[0].keys() & contracts[1].keys()):
        if contracts[0][name] != contracts[1][name]:
            found.append(f"contract {name} was version {contracts[0][name]}, and is version {contracts[1][name]}")
    return found


_UNSAID = {"nodes", "hash", "data", "path", "kind", "help", "form_schema"}


def _facts(thing: g.Graph | g.Node) -> dict[str, Any]:
    return {field.name: getattr(thing, field.name) for field in fields(thing) if field.name not in _UNSAID}


def _compare(what: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name, old in before.items():
        new = after[name]
        if old != new:
            field = name.removesuffix("_ms").replace("_", " ")
            yield f"{what}: {field} was {_value(name, old)}, and is {_value(name, new)}"


def _value(name: str, value: Any) -> str:
    if name.endswith("_ms") and isinstance(value, int):
        return duration(value)
    if isinstance(value, g.Limit):
        return _limit(value) or "none"
    if isinstance(value, g.RetryPolicy):
        pauses = f"{duration(value.first_ms)} to {duration(value.ceiling_ms)}"
        return f"{value.attempts} attempts, pauses from {pauses} growing by {value.factor:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} → {item}" for key, item in value.items()) or "nothing"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "nothing"
    return "nothing" if value in (None, "") else str(value)
