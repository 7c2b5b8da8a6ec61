"""Forks and loops: choose, parallel, for_each, repeat, leave, keep, and the ends of their blocks.

Rules of this file
- A join counts: total, started, done. It is over when done = total; started - done never exceeds `at_once`.
- A round or an item is addressed by its index in the activity id; a loop's bound is a limit, not a count.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from orchestrator.kernel.graph import ChooseNode, ForEachNode, KeepNode, LeaveNode, ParallelNode, RepeatNode
from orchestrator.kernel.places import End, child, enter_block, spot
from orchestrator.kernel.state import in_body
from orchestrator.kernel.turn import StuckError, Turn
from orchestrator.kernel.turning import fail


def choose(turn: Turn, token: str, activity: str, node: ChooseNode) -> None:
    """Takes the branch that the author's function names."""
    value = turn.call(activity, "test")
    label, block = branch(turn, activity, value is not None if node.present else value)
    turn.emit(
        "branch.taken", activity, takes=token, label=label, gives=[enter_block(turn.program.graph, activity, block)]
    )


def branch(turn: Turn, activity: str, value: Any) -> tuple[str, str]:
    """The label of a chosen value, and the block that it takes. Raises StuckError for a value without a path."""
    node = turn.node(activity)
    assert isinstance(node, ChooseNode)
    label = _label(value)
    block = label if label in node.blocks else "otherwise"
    if block not in node.blocks:
        reason = f"{node.test} gave {label!r}, which has no path: add .on({label!r}, ...) or .otherwise"
        raise StuckError("function", reason, f"{node.path}#test", activity)
    return label, block


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.value) if isinstance(value, Enum) else str(value)


def open_parallel(turn: Turn, token: str, activity: str, node: ParallelNode) -> None:
    """Starts all branches side by side; empty ones are over at once."""
    gives = [enter_block(turn.program.graph, activity, branch) for branch in node.branches if node.blocks.get(branch)]
    if not gives:
        turn.emit("branch.taken", activity, takes=token, label="", gives=[f"-{activity}"])
        return
    total = len(gives)
    turn.emit("parallel.opened", activity, takes=token, kind="parallel", total=total, started=total, gives=gives)


def open_for_each(turn: Turn, token: str, activity: str, node: ForEachNode) -> None:
    """Records the items and starts the first `at_once` of them."""
    items = turn.call_plain(activity, "items")
    if not isinstance(items, list):
        raise StuckError("function", f"{node.items} must give a list of items, got {type(items).__name__}")
    if not items or not node.blocks.get("body"):
        turn.emit("loop.opened", activity, takes=token, kind="for_each", items=items, gives=[f"-{activity}"])
        return
    started = min(len(items), node.at_once)
    gives = [enter_block(turn.program.graph, activity, "body", index) for index in range(started)]
    turn.emit(
        "loop.opened",
        activity,
        takes=token,
        kind="for_each",
        items=items,
        total=len(items),
        started=started,
        gives=gives,
    )


def open_repeat(turn: Turn, token: str, activity: str, node: RepeatNode) -> None:
    """Starts the first round."""
    gives = [enter_block(turn.program.graph, activity, "body", 0)]
    turn.emit("loop.opened", activity, takes=token, kind="repeat", gives=gives)


def branch_over(turn: Turn, token: str, end: End) -> None:
    """A branch or an item is over: start the next one, or go on after the join."""
    join = turn.state.joins[end.owner]
    over = join.done + 1 == join.total
    data: dict[str, Any] = {"gives": [f"-{end.owner}"] if over else []}
    if join.started < join.total:
        data["started"] = 1
        data["gives"] = [enter_block(turn.program.graph, end.owner, "body", join.started)]
    turn.emit("parallel.advanced", end.owner, takes=token, **data)


def round_over(turn: Turn, token: str, end: End) -> None:
    """A round is over without leave(): the next one, or the bound is reached."""
    node = turn.node(end.owner)
    assert isinstance(node, RepeatNode)
    done = (end.index or 0) + 1
    if done < node.at_most:
        gives = [enter_block(turn.program.graph, end.owner, "body", done)]
        turn.emit("loop.iterated", end.owner, takes=token, round=done, gives=gives)
        return
    handled = "otherwise" in node.blocks
    turn.emit(
        "loop.left", end.owner, takes=token, exhausted=True, gives=turn.gives(end.owner, "otherwise") if handled else []
    )
    if not handled:
        fail(turn, end.owner, "exhausted", f"{node.name}: {node.at_most} rounds, and never left")


def leave(turn: Turn, token: str, activity: str, node: LeaveNode) -> None:
    """Leaves the innermost repeat; open scopes of that round close with it (S10)."""
    loop = activity
    while spot(turn.program.graph, loop).node.path != node.loop:
        loop = spot(turn.program.graph, loop).parent
    withdrawn = [key for key in turn.state.scopes if in_body(key, loop)]
    turn.emit("loop.left", loop, takes=token, withdrawn=withdrawn, gives=turn.gives(loop))


def keep(turn: Turn, token: str, activity: str, node: KeepNode) -> None:
    """What the innermost scope or item has done so far enters no plan any more (S5a)."""
    owner, index = _owner(turn, activity, node.within_node)
    prefix = owner if index is None else f"{owner}[{index}]"
    closing = [key for key, scope in turn.state.scopes.items() if scope.mode != "open" and in_body(key, prefix)]
    kept = [
        key
        for key, found in turn.state.inside(prefix)
        if found.stands and found.kind != "compute" and not any(in_body(key, scope) for scope in closing)
    ]
    turn.emit("scope.kept", activity, takes=token, kept=kept, gives=[f"-{activity}"])


def _owner(turn: Turn, activity: str, path: str) -> tuple[str, int | None]:
    here = activity
    while path:
        place = spot(turn.program.graph, here)
        if place.node.parent == path:
            return place.parent, place.index
        if place.node.parent is None:
            break
        here = place.parent
    return "", None


__all__ = [
    "branch_over", "child", "choose", "keep", "leave", "open_for_each", "open_parallel", "open_repeat", "round_over",
]  # fmt: skip
