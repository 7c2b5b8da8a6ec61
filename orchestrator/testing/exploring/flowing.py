"""Checks of control: a node opens only when what stands before it is over, and nothing is left out.

`over` says it once more, from the definition: an activity is over when it has ended and the block that its end chose is
over too. Tokens do not occur here, so a token that goes astray is seen.
"""

from __future__ import annotations

from orchestrator.kernel.graph import EndNode, FailNode, ForEachNode, LeaveNode, Node, RepeatNode, TaskNode
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.facts import OPENS, opens
from orchestrator.testing.exploring.story import BODY, Fact, Place, Seen, Story


def check_flow(seen: Seen, record: Record) -> None:
    """Before the record is learned."""
    if seen.story.expect is not None:
        _failure_goes_there(seen, record)
    if record.type in OPENS and opens(record):
        _opening(seen, record)
    elif check := CHECKS.get(record.type):
        check(seen, record)
    _expect_failure(seen, record)


def instance(activity: str, node: Node, path: str, index: int | None = None) -> str:
    """The activity of node `path`, which stands in a block of this one."""
    middle = "" if index is None else f"[{index}]"
    return f"{activity}{middle}{path[len(node.path) :]}"


def last_of(story: Story, activity: str, block: str, index: int | None = None) -> str | None:
    """The last activity of a block, None for an empty one."""
    node = story.node(activity)
    path = node.blocks.get(block)
    if path is None:
        return None
    while following := story.graph.nodes[path].next:
        path = following
    return instance(activity, node, path, index)


def block_over(story: Story, activity: str, block: str, index: int | None = None) -> bool:
    """Everything in a block is over."""
    last = last_of(story, activity, block, index)
    return last is None or over(story, last)


def over(story: Story, activity: str) -> bool:
    """It has ended, and so has what its end chose."""
    fact, node = story.facts.get(activity), story.node(activity)
    if fact is None:
        return False
    if node.kind == "parallel":
        return all(block_over(story, activity, branch) for branch in node.blocks)
    if isinstance(node, ForEachNode):
        return all(block_over(story, activity, "body", index) for index in range(fact.count))
    if not fact.ended or fact.state in ("open", "unknown", "withdrawn", "closing"):
        return False
    return _chosen_over(story, activity, fact, node)


def _chosen_over(story: Story, activity: str, fact: Fact, node: Node) -> bool:
    block = fact.block
    if block is None:
        return True
    if node.kind == "choose":
        block = block if block in node.blocks else "otherwise"
    if block in node.blocks:
        return block_over(story, activity, block)
    return not _fails(fact, node)


def _fails(fact: Fact, node: Node) -> bool:
    """Its end has no path, and means a failure."""
    if fact.state == "no" or fact.block in ("on_timeout", "otherwise"):
        return True
    return isinstance(node, TaskNode) and (fact.block or "").removeprefix("on/") in node.rejects


def _opening(seen: Seen, record: Record) -> None:
    story, activity = seen.story, record.activity
    old = story.facts.get(activity)
    if old is not None:
        sent_again = old.kind == "call" and old.unknown and record.data["round"] == old.round
        seen.demand(
            sent_again or (old.state == "no" and record.data.get("round", 1) == old.round + 1),
            f"{activity} opens a second time, and its round {old.round} has no definite no (rule 4)",
        )
        return
    reachable(seen, activity)


def reachable(seen: Seen, activity: str) -> None:
    """Raises unless the flow has come to this activity, and may open it."""
    story = seen.story
    node = story.node(activity)
    seen.demand(story.phase in ("forward", "on_failed"), f"{activity} opens while the saga is {story.phase}")
    seen.demand(not story.pending, f"{activity} opens while a failure waits for the pivot (rule 16b)")
    closing = story.closing_around(activity)
    seen.demand(closing is None, f"{activity} opens inside {closing}, which is closing (S7)")
    around = story.around(activity)
    before = _before(story, activity)
    if before is not None:
        seen.demand(over(story, before), f"{activity} opens, but {before} before it is not over")
    elif around:
        _first_of_block(seen, activity, around[0])
    else:
        phase = "on_failed" if _is_on_failed(story, node) else "forward"
        seen.demand(story.phase == phase, f"{activity} opens in phase {story.phase}")


def _is_on_failed(story: Story, node: Node) -> bool:
    path = story.graph.on_failed
    while path:
        if path == node.path:
            return True
        path = story.graph.nodes[path].next
    return False


def _before(story: Story, activity: str) -> str | None:
    path = story.node(activity).path
    around = story.around(activity)
    for other in story.graph.nodes.values():
        if other.next == path:
            if not around:
                return other.path
            place = around[0]
            return instance(place.owner, place.node, other.path, place.number)
    return None


def _first_of_block(seen: Seen, activity: str, place: Place) -> None:
    story = seen.story
    owner = story.facts.get(place.owner)
    seen.demand(owner is not None, f"{activity} opens inside {place.owner}, which has not begun")
    assert owner is not None
    kind, index = place.node.kind, place.number
    if kind == "parallel" or (kind == "scope" and place.block in BODY):
        seen.demand(owner.state == "open", f"{activity} opens in {place.owner}, which is {owner.state}")
    elif isinstance(place.node, ForEachNode) and index is not None:
        seen.demand(index < owner.count, f"{activity} opens, but there are {owner.count} items")
        _items(seen, place.owner, place.node, index)
    elif isinstance(place.node, RepeatNode) and place.block in BODY and index is not None:
        seen.demand(index < place.node.at_most, f"{activity} opens beyond the bound of {place.owner}")
        done = index == 0 or block_over(story, place.owner, "body", index - 1)
        seen.demand(done and owner.state == "open", f"{activity} opens, but the round before it is not over")
    else:
        chosen = owner.block
        if kind == "choose" and chosen not in place.node.blocks:
            chosen = "otherwise"
        fits = chosen == place.block or (kind == "task" and place.block == "otherwise" and chosen == "then")
        seen.demand(owner.ended and fits, f"{activity} opens in block {place.block}, but {place.owner} chose {chosen}")
        seen.demand(owner.state not in ("closing", "open"), f"{activity} opens before {place.owner} has closed (S4)")


def _items(seen: Seen, owner: str, node: ForEachNode, index: int) -> None:
    story = seen.story
    running = 0
    for number in range(index):
        running += not block_over(story, owner, "body", number)
    seen.demand(running < node.at_once, f"{owner}: item {index} starts while {running} run, at_once={node.at_once}")


def _iterated(seen: Seen, record: Record) -> None:
    story, index = seen.story, record.data["round"]
    seen.demand(block_over(story, record.activity, "body", index - 1), f"{record.activity}: round {index} too early")


def _loop_left(seen: Seen, record: Record) -> None:
    story, activity = seen.story, record.activity
    node, fact = story.node(activity), story.facts[activity]
    assert isinstance(node, RepeatNode)
    scopes = {key for key, found in story.facts.items() if found.mode == "open" and _under(story, key, activity)}
    listed = set(record.data.get("withdrawn", ()))
    seen.demand(scopes == listed, f"{activity} is left, open scopes {scopes}, withdrawn {listed} (S10)")
    if record.data.get("exhausted"):
        seen.demand(fact.count == node.at_most, f"{activity} is exhausted after {fact.count} of {node.at_most} rounds")
        seen.demand(
            block_over(story, activity, "body", fact.count - 1), f"{activity} is exhausted, its last round is not over"
        )
        return
    leaves = [n.path for n in story.graph.nodes.values() if isinstance(n, LeaveNode) and n.loop == node.path]
    seen.demand(leaves, f"{activity} is left, but holds no leave()")


def _under(story: Story, key: str, owner: str) -> bool:
    return any(place.owner == owner for place in story.around(key))


def _scope_left(seen: Seen, record: Record) -> None:
    story, activity = seen.story, record.activity
    seen.demand(story.facts[activity].mode == "open", f"{activity} is left, but it is {story.facts[activity].mode}")
    seen.demand(block_over(story, activity, "body"), f"{activity} is left, but its inside is not over")


def _advanced(seen: Seen, record: Record) -> None:
    story, activity = seen.story, record.activity
    if f"-{activity}" in record.data.get("gives", ()):
        seen.demand(over(story, activity), f"{activity} joins, but not all of its branches are over")


def _top_over(story: Story, first: str | None) -> bool:
    path = first
    while path and (following := story.graph.nodes[path].next):
        path = following
    return path is None or over(story, path)


def _completed(seen: Seen, record: Record) -> None:
    story = seen.story
    unknown = [key for key, fact in story.facts.items() if fact.unknown and not fact.reads]
    seen.demand(not unknown, f"completed while {unknown} are not settled")
    seen.demand(not story.pending, "completed although a failure waits: an accepted cancel is forgotten (rule 20)")
    ends = [n for n in story.graph.nodes.values() if isinstance(n, EndNode) and n.outcome == record.data["outcome"]]
    seen.demand(ends or _top_over(story, story.graph.first), "completed, but the flow is not over")
    listed = set(record.data.get("withdrawn", ()))
    still_open = {key for key, fact in story.facts.items() if fact.state == "open"}
    seen.demand(still_open == listed, f"completed: open {still_open}, withdrawn {listed}")


def _compensated(seen: Seen, record: Record) -> None:
    story, graph = seen.story, seen.story.graph
    if graph.has_on_failed and graph.on_failed:
        seen.demand(story.phase == "on_failed", "compensated without its on_failed path (rule 22)")
        seen.demand(_top_over(story, graph.on_failed), "compensated, but the on_failed path is not over")


def _expect_failure(seen: Seen, record: Record) -> None:
    """An end without a path is a failure: of the innermost open scope with on_failed, else of the saga (S5)."""
    story, activity = seen.story, record.activity
    if record.type not in _MAY_FAIL or story.pending or not story.live(activity):
        return
    node, data = story.node(activity), record.data
    block = _MAY_FAIL[record.type]
    fact = story.facts[activity]
    silent = fact.after == "exhausted" and data.get("not_done")
    if record.type == "step.refused" and (silent or data.get("exhausted")):
        block = "on_exhausted"
    if record.type == "child.failed" and fact.after == "expired":
        block = "on_timeout"
    if record.type == "task.decided":
        assert isinstance(node, TaskNode)
        if data["outcome"] not in node.rejects or f"on/{data['outcome']}" in node.blocks:
            return
    if record.type == "loop.left" and not data.get("exhausted"):
        return
    if block not in node.blocks:
        story.expect, story.expect_of = _catcher(story, activity), activity


_MAY_FAIL = {
    "step.refused": "on_refused", "child.failed": "on_refused", "task.expired": "on_timeout", "loop.left": "otherwise",
    "event.expired": "on_timeout", "task.decided": "otherwise",
}  # fmt: skip


def _catcher(story: Story, activity: str) -> str:
    for place in story.around(activity):
        fact = story.facts.get(place.owner)
        catches = place.node.kind == "scope" and place.block in BODY and "on_failed" in place.node.blocks
        if catches and fact is not None and fact.mode == "open":
            return place.owner
    return ""


def _failure_goes_there(seen: Seen, record: Record) -> None:
    story = seen.story
    target, of, story.expect = story.expect, story.expect_of, None
    if target:
        seen.demand(
            record.type == "scope.failing" and record.activity == target,
            f"{of} failed: scope {target} must fail, but {record.type} {record.activity} follows (S5)",
        )
        return
    no_way_back = story.pivot == "passed" or story.forward_only or story.phase == "on_failed"
    expected = ("saga.stuck",) if no_way_back else ("compensation.started", "saga.failing")
    seen.demand(record.type in expected, f"{of} failed: {expected} must follow, not {record.type} {record.activity}")


def check_fail_node(seen: Seen, record: Record) -> None:
    """A failure that a fail(...) node makes: the flow must have come to it."""
    failure = record.data["failure"]
    story, step = seen.story, failure["step"]
    if failure["kind"] == "failed" and step and isinstance(story.node(step), FailNode):
        reachable(seen, step)
        target = record.activity if record.type == "scope.failing" else ""
        catcher = _catcher(story, step)
        seen.demand(catcher == target, f"{step} fails {target or 'the saga'}, not {catcher or 'the saga'}")


def _started(seen: Seen, record: Record) -> None:
    """The deadline counts from the start (rule 26)."""
    within = seen.story.graph.within_ms
    due = seen.now + within * 1000 if within else 0
    seen.demand(record.data["deadline"] == due, f"the deadline is {record.data['deadline']}, must be {due} (rule 26)")


CHECKS = {
    "saga.started": _started,
    "loop.iterated": _iterated,
    "loop.left": _loop_left,
    "scope.left": _scope_left,
    "parallel.advanced": _advanced,
    "saga.completed": _completed,
    "saga.compensated": _compensated,
    "scope.failing": check_fail_node,
    "compensation.started": check_fail_node,
}
