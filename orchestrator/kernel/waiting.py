"""Waiting: for events, for an instant, for the interruption of a scope.

Rules of this file
- An event goes to the oldest open subscription of this saga that wants it, and to exactly one (S9).
- `accepts_from` says how old an event may be: since the saga's start (less `early_age`), since a step was asked, or
  since the wait opened (rule 23). It is recorded when the wait opens.
- Between inputs that are both in time the first committed record wins (S1).
"""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.fences import settle_unknown, withdrawn_inside
from orchestrator.kernel.graph import DelayNode, ScopeNode, WaitNode, node_path
from orchestrator.kernel.inject import shared_prefix
from orchestrator.kernel.inputs import Arrived
from orchestrator.kernel.ladder import extended
from orchestrator.kernel.places import enter_block
from orchestrator.kernel.tasks import amendments, expire
from orchestrator.kernel.turn import MS, StuckError, Turn, subject_hash
from orchestrator.kernel.turning import fail, fail_scope

Want = dict[str, Any]


def want(turn: Turn, type_: str, key: str, accepts_from: int) -> Want:
    """One subscription as it is recorded."""
    return {"type": type_, "key": key, "from": accepts_from}


def earliest(turn: Turn) -> int:
    """Events of this saga's own key count from its start, or `early_age` before it."""
    return turn.state.started_at - turn.program.graph.early_age_ms * MS


def open_wait(turn: Turn, token: str, activity: str, node: WaitNode) -> None:
    """Starts to wait for an event."""
    key = turn.call(activity, "match") if node.match else turn.state.business_key
    since = turn.now if not node.early else earliest(turn)
    if node.since:  # the step of this very round and item
        prefix = shared_prefix(turn.program, activity, node.since, rounds=False)
        asked = [
            found.requested_at
            for key, found in turn.state.activities.items()
            if key.startswith(prefix) and node_path(key) == node.since
        ]
        since = max(asked, default=turn.now)
    due = turn.due(activity, node.within)
    turn.emit("event.awaited", activity, takes=token, wants=[want(turn, node.event, key, since)], due=due)


def open_delay(turn: Turn, token: str, activity: str, node: DelayNode) -> None:
    """A durable pause."""
    due = turn.due(activity, node.within)
    turn.emit("timer.set", activity, takes=token, due=max(due or turn.now, turn.now))


def open_scope(turn: Turn, token: str, activity: str, node: ScopeNode) -> None:
    """Enters a scope: its body may start, its events are wanted, its time runs."""
    since = {event: turn.now if event in node.fresh else earliest(turn) for event in node.events}
    wants = [want(turn, event, turn.state.business_key, since[event]) for event in node.events]
    gives = [enter_block(turn.program.graph, activity, "body")]
    due = turn.due(activity, node.within)
    turn.emit("scope.entered", activity, takes=token, wants=wants, due=due, gives=gives)


def arrived(turn: Turn, event: Arrived) -> bool:
    """An event came. False where no open subscription of this saga wants it: it stays an early event."""
    open_ = [
        (found.opened, key)
        for key, found in turn.state.activities.items()
        for wanted in found.wants
        if wanted["type"] == event.type and wanted["key"] == event.key and event.arrived_at >= wanted["from"]
    ]
    if not open_ or turn.state.phase not in ("forward", "on_failed"):
        turn.refuse("not_awaited", f"saga {turn.state.saga_id} does not wait for {event.type} {event.key}")
        return False
    _, activity = min(open_)
    found = turn.state.activities[activity]
    limit = found.task.expires if found.task is not None else found.due
    if limit and event.arrived_at >= limit:
        # The event came after the limit: the limit was first, whether or not its timer has fired (rule 31).
        limit_reached(turn, activity, event.arrived_at)
        return arrived(turn, event)
    facts = {"event": event.data, "type": event.type, "event_id": event.event_id, "arrived_at": event.arrived_at}
    if found.kind == "wait":
        turn.emit("event.received", activity, gives=turn.gives(activity, "then"), **facts)
    elif found.kind == "task":
        _amend(turn, activity, facts)
    else:
        _interrupt(turn, activity, f"on/{event.type}", "event", facts)
    return True


def _amend(turn: Turn, activity: str, facts: dict[str, Any]) -> None:
    """What is shown is built anew; earlier votes are void."""
    found = turn.state.touch(activity)
    before = found.result, found.result_type
    found.result, found.result_type = facts["event"], facts["type"]
    try:
        plain = turn.call_plain(activity, "shown")
        more = amendments(turn, activity, plain)
    except StuckError as error:
        found.result, found.result_type = before
        turn.emit("task.amend_failed", activity, **facts)  # nobody may decide on what is shown now
        turn.stick(f"!{activity}", error.cause, error.reason, error)
        return
    turn.emit("task.amended", activity, shown=plain, hash=subject_hash(plain), at=turn.now, **more, **facts)


def amend_again(turn: Turn, activity: str) -> None:
    """An operator's retry: what is shown is built from the event that came."""
    found = turn.state.activities[activity]
    if found.status == "open" and found.task is not None and not found.task.hash:
        _amend(turn, activity, {"event": found.result, "type": found.result_type})


def _interrupt(turn: Turn, scope: str, block: str, by: str, facts: dict[str, Any]) -> None:
    node = turn.node(scope)
    assert isinstance(node, ScopeNode)
    if block in node.own_failures:
        kind = "expired" if by == "timeout" else "failed"
        reason = _own_reason(turn, scope, block, facts)
        fail_scope(turn, scope, {"step": scope, "kind": kind, "reason": reason}, by=by, **facts)
        return
    then = enter_block(turn.program.graph, scope, block)
    withdrawn = withdrawn_inside(turn, scope)
    turn.emit("scope.interrupted", scope, by=by, withdrawn=withdrawn, then=then, **facts)
    settle_unknown(turn, scope)


def _own_reason(turn: Turn, scope: str, block: str, facts: dict[str, Any]) -> str:
    """The reason of the fail(...) that a handler consists of."""
    path = turn.node(scope).blocks[block]
    assert path is not None
    node = turn.program.graph.nodes[path]
    function = getattr(node, "function", None)
    if not function:
        return str(getattr(node, "reason", ""))
    found = turn.state.touch(scope)
    before = found.status, found.result, found.result_type
    if "event" in facts:
        found.status, found.result, found.result_type = "succeeded", facts["event"], facts["type"]
    try:
        return str(turn.call(scope + path[len(node.parent or "") :], "reason", path))
    except StuckError as error:
        return error.reason
    finally:
        found.status, found.result, found.result_type = before


def limit_reached(turn: Turn, activity: str, at: int = 0) -> None:
    """The time of a wait, a delay, a task or a scope is over. `at`: by an event of then, whose clock may be ahead."""
    found = turn.state.activities[activity]
    node = turn.node(activity)
    if found.kind == "task":
        if not extended(turn, activity, at or turn.now):
            expire(turn, activity)
    elif found.kind == "delay":
        turn.emit("timer.fired", activity, gives=turn.gives(activity))
    elif found.kind == "wait":
        handled = "on_timeout" in node.blocks
        turn.emit("event.expired", activity, gives=turn.gives(activity, "on_timeout") if handled else [])
        if not handled and turn.live(activity):
            fail(turn, activity, "expired", f"{node.name} waited in vain")
    elif found.kind == "scope":
        if "on_timeout" in node.blocks:
            _interrupt(turn, activity, "on_timeout", "timeout", {})
        elif "on_failed" in node.blocks:
            failure = {"step": activity, "kind": "expired", "reason": f"{node.name} took too long"}
            fail_scope(turn, activity, failure, by="timeout")
        else:
            fail(turn, activity, "expired", f"{node.name} took too long")
