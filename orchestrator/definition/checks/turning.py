"""30x: the point of no return, undos, and what may not give up behind it."""

from __future__ import annotations

from collections import defaultdict

from orchestrator.definition.draft import Draft
from orchestrator.definition.forks import Parallel
from orchestrator.definition.layout import BODY, ON_FAILED, Placed
from orchestrator.definition.loops import ForEach, Repeat
from orchestrator.definition.steps import Call, Step
from orchestrator.definition.waits import Scope


def check(draft: Draft) -> None:
    """Codes 301–306."""
    steps: dict[str, list[Placed]] = defaultdict(list)
    for node in draft.layout.nodes.values():
        word = node.word
        if isinstance(word, (Step, Call)) and word.is_pivot:
            _pivot(draft, node)
        if isinstance(word, Step):
            steps[node.name].append(node)
        if isinstance(word, Scope) and ON_FAILED in node.blocks and _trail(draft, node, passed=True) is not None:
            text = f"{node.label} has on_failed, but stands {_where(draft, node)}, where nothing is undone"
            draft.report("ORC306", word.place, text, do="drop on_failed, or put the scope before the pivot")
    for nodes in steps.values():
        _undo(draft, nodes)
    _giving_up(draft)


def _trail(draft: Draft, node: Placed, passed: bool) -> str | None:
    """The path on which the node is reached before or after the pivot, None where there is none."""
    for (_, was_passed), trail in draft.reach.seen.get(node.path, {}).items():
        if was_passed is passed:
            return ", ".join(trail) or "the straight way"
    return None


def _where(draft: Draft, node: Placed) -> str:
    if node.root == ON_FAILED:
        return "on the failure path"
    return "in a forward-only saga" if draft.settings.forward_only else "after the pivot"


def _pivot(draft: Draft, node: Placed) -> None:
    place = node.word.place
    path = _trail(draft, node, passed=True)
    if path is not None:
        where = _where(draft, node)
        text = f"{node.label} is a second pivot" if where == "after the pivot" else f"{node.label} is a pivot {where}"
        do = "drop pivot(…) here: there is no way back already"
        draft.report("ORC301", place, text, path=path, do=do)
    for parent, block in node.ancestors():
        why = _why_no_pivot(parent, block)
        if why:
            do = f"put the pivot after {parent.label}; inside a scope or item, keep() is its own point of no return"
            draft.report("ORC302", place, f"{node.label} is a pivot inside {parent.label}, {why}", do=do)
            return


def _why_no_pivot(parent: Placed, block: str) -> str:
    word = parent.word
    if isinstance(word, Parallel):
        return "whose other branches could not be undone"
    if block != BODY:
        return ""
    if isinstance(word, (ForEach, Repeat)):
        return "which may run it more than once"
    if isinstance(word, Scope) and (word.events or word.within is not None):
        return "which may be interrupted while the outcome is unknown"
    return "which undoes what is inside when it fails" if isinstance(word, Scope) and ON_FAILED in parent.blocks else ""


def _undo(draft: Draft, nodes: list[Placed]) -> None:
    """One step at all its places: it has an undo where it may be undone, and only there."""
    step = nodes[0].word
    assert isinstance(step, Step)
    pivots = [node for node in nodes if isinstance(node.word, Step) and node.word.is_pivot]
    before = [node for node in nodes if node not in pivots and _trail(draft, node, passed=False) is not None]
    if not step.undos:
        for node in before[:1] if step.undoable else []:
            do = f"write @{step.function.__name__}.undo, or @step(undo=None) if there is nothing to undo, on purpose"
            rows = {"path": _trail(draft, node, passed=False) or "", "do": do}
            draft.report("ORC303", step.place, f"{node.label} stands before the pivot and has no undo", **rows)
        return
    undo = step.undos[0]
    why = ""
    if not step.undoable:
        why = "it only reads" if step.reads else "the step says undo=None"
    elif pivots:
        why = "it is a pivot, and a pivot is not undone"
    elif not before and any(draft.reached(node.path) for node in nodes):
        why = f"it stands only {_where(draft, nodes[0])}"
    if why:
        do = "drop the undo, or use a copy without it here: .without_undo()"
        text = f"undo {undo.__name__} of {nodes[0].label} can never run: {why}"
        draft.report("ORC304", undo.place, text, do=do)


_REMEDIES = {
    "fail": "end(…) instead of fail(…), or put it before the pivot",
    "expired": "write .on_timeout(…)",
    "rejected": "write .on_reject(…), or a path for that outcome",
    "count": "write .otherwise(…)",
    "refused": "write .on_refused(…)",
}
_GIVES_UP = {
    "fail": "turns back",
    "expired": "may run out of time without a path",
    "rejected": "may be rejected without a path",
    "count": "may reach its last round without a path",
    "refused": "may be refused without a path",
}


def _giving_up(draft: Draft) -> None:
    for failure in draft.reach.failures:
        (_, passed), node, kind = failure.state, failure.node, failure.kind
        if not passed or failure.caught or isinstance(node.word, Step):
            continue  # a step is asked until it is done
        text = f"{node.label} {_GIVES_UP[kind]} {_where(draft, node)}"
        path = ", ".join(failure.trail) or "the straight way"
        draft.report("ORC305", node.word.place, text, path=path, do=_REMEDIES[kind])
