"""20x: names, and what can never happen."""

from __future__ import annotations

from collections import defaultdict

from orchestrator.definition.draft import Draft
from orchestrator.definition.forks import Parallel
from orchestrator.definition.known import innermost_keeper
from orchestrator.definition.layout import NAME, ON_FAILED, Placed
from orchestrator.definition.loops import ForEach
from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task
from orchestrator.definition.waits import Scope
from orchestrator.definition.words import Compute, End, Keep


def check(draft: Draft) -> None:
    """Codes 201–208 (201 of paths and 209 come from the layout)."""
    settings = draft.settings
    if not NAME.fullmatch(settings.name) or settings.version < 1:
        text = f"saga {settings.name!r}, version {settings.version}: this cannot be a name and a version"
        do = "use letters, digits, '_', '-' and '.' for the name; versions count from 1"
        draft.report("ORC201", settings.place, text, do=do)
    _names(draft)
    _unreachable(draft)
    _failure_paths(draft)
    for node in draft.layout.nodes.values():
        if isinstance(node.word, End):
            _ending(draft, node)
        if isinstance(node.word, Keep) and innermost_keeper(node) is None:
            do = "put it inside the scope or for_each that it is about; for the whole saga write pivot(…)"
            draft.report("ORC208", node.word.place, "keep() stands in no scope and no for_each", do=do)


def _names(draft: Draft) -> None:
    groups: dict[str, list[Placed]] = defaultdict(list)
    for node in draft.layout.nodes.values():
        word = node.word
        if isinstance(word, (Step, Call, Task, Compute)):
            groups[node.name].append(node)
        if isinstance(word, Step) and len(word.undos) > 1:
            first, second = word.undos[0], word.undos[1]
            text = f"{node.label} has two undos: {first.__name__} and {second.__name__}"
            draft.report("ORC201", second.place, text, made_by=f"the first ({first.place})", do="drop one")
    for name, nodes in groups.items():
        first_node = nodes[0]
        for other in nodes[1:]:
            if _function(other) is not _function(first_node):
                text = f"two things are called {name}: {first_node.label} and {other.label}"
                made_by = f"{first_node.label} ({first_node.word.place})"
                do = f'give one of them another name: .named("{name}_2")'
                draft.report("ORC201", other.word.place, text, made_by=made_by, do=do)
                break
        else:
            _twice(draft, nodes)


def _function(node: Placed) -> object:
    word = node.word
    return word.function if isinstance(word, (Step, Call, Task, Compute)) else None


def _twice(draft: Draft, nodes: list[Placed]) -> None:
    if len(nodes) < 2:
        return
    given = [found for found in draft.results if found.owner in nodes and found.source.origin == "result"]
    question, walk = draft.known(given, many=True)
    for node in nodes:
        others = [found for found in given if found.owner is not node and found.owner and _same_root(found.owner, node)]
        other_bits = sum(found.bit for found in others)
        trail = next(
            (trail for (state, _), trail in walk.seen.get(node.path, {}).items() if question.there(state) & other_bits),
            None,
        )
        beside = next((found for found in others if found.owner and _side_by_side(found.owner, node)), None)
        if trail is not None or beside is not None:
            path = ", ".join(trail or ()) or ("side by side" if beside else "the straight way")
            do = f'give the second another name: {node.name}.named("{node.name}_2")'
            draft.report("ORC202", node.word.place, f"{node.label} stands twice on one path", path=path, do=do)
            return


def _same_root(one: Placed, other: Placed) -> bool:
    """The failure path may repeat what the flow has done."""
    return one.root == other.root


def _side_by_side(one: Placed, other: Placed) -> bool:
    around = {parent.path: block for parent, block in other.ancestors()}
    return any(
        isinstance(parent.word, Parallel) and around.get(parent.path, block) != block
        for parent, block in one.ancestors()
    )


def _unreachable(draft: Draft) -> None:
    blocks = [draft.layout.flow, *(block for node in draft.layout.nodes.values() for block in node.blocks.values())]
    for block in blocks:
        parent = block[0].parent if block else None
        if parent is not None and not draft.reached(parent.path):
            continue
        before: Placed | None = None
        for node in block:
            if not draft.reached(node.path):
                _report_unreachable(draft, node, before)
                break
            before = node


def _report_unreachable(draft: Draft, node: Placed, before: Placed | None) -> None:
    if before is not None:
        text = f"{node.label} is never reached: every path has ended at {before.label}"
        do = f"drop it, or let a path of {before.label} go on"
        draft.report("ORC204", node.word.place, text, made_by=f"{before.label} ({before.word.place})", do=do)
    elif node.parent is not None and node.block != ON_FAILED:
        text = f"the path {node.block} of {node.parent.label} can never be taken"
        draft.report("ORC203", node.word.place, text, do="drop the path")


def _failure_paths(draft: Draft) -> None:
    settings = draft.settings
    if settings.has_on_failed and not draft.reach.turned:
        why = "a forward-only saga undoes nothing" if settings.forward_only else "nothing before the pivot can fail"
        draft.report("ORC205", settings.place, f"on_failed can never happen: {why}", do="drop on_failed")
    for node in draft.layout.nodes.values():
        is_scope = isinstance(node.word, Scope) and ON_FAILED in node.blocks and draft.reached(node.path)
        if is_scope and node.path not in draft.reach.failing:
            text = f"on_failed of {node.label} can never happen: nothing inside can fail"
            draft.report("ORC205", node.word.place, text, do="drop on_failed")


def _ending(draft: Draft, node: Placed) -> None:
    around = next((parent for parent, _ in node.ancestors() if isinstance(parent.word, (Parallel, ForEach))), None)
    if around is not None:
        text = f"{node.label} stands inside {around.label}, where other branches may still run"
        do = f"let the branch be over, and end after {around.label}"
        draft.report("ORC206", node.word.place, text, do=do)
    if node.root == ON_FAILED:
        text = f"{node.label} stands on the saga's failure path, which ends the saga as compensated"
        draft.report("ORC207", node.word.place, text, do="drop it: the saga ends when this path is over")
