"""Forward: what a token does. One function per kind; one place that knows them all (`OPENERS`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.kernel.children import open_call
from orchestrator.kernel.fences import withdrawn_inside
from orchestrator.kernel.forks import (
    branch_over,
    choose,
    keep,
    leave,
    open_for_each,
    open_parallel,
    open_repeat,
    round_over,
)
from orchestrator.kernel.graph import ComputeNode, EndNode, EnterNode, FailNode, PublishNode
from orchestrator.kernel.places import after
from orchestrator.kernel.steps import open_step
from orchestrator.kernel.tasks import open_task
from orchestrator.kernel.turn import StuckError, Turn
from orchestrator.kernel.turning import compensated, fail
from orchestrator.kernel.waiting import open_delay, open_scope, open_wait
from orchestrator.messages.contract import Event


def compute(turn: Turn, token: str, activity: str, node: ComputeNode) -> None:
    """A pure derivation, recorded once."""
    value = turn.call_plain(activity, "value")
    turn.emit("value.computed", activity, takes=token, value=value, gives=[f"-{activity}"])


def publish(turn: Turn, token: str, activity: str, node: PublishNode) -> None:
    """A domain event, sent through the outbox."""
    event = turn.call(activity, "event")
    if not isinstance(event, Event):
        raise StuckError("function", f"{node.function} must return an Event, got {type(event).__name__}")
    message = turn.message(activity, event, "", "")
    key = event.key() if event.key_fields else turn.state.business_key
    message.update(topic=node.topic, partition_key=key)
    turn.emit("event.published", activity, takes=token, event=message, gives=[f"-{activity}"])


def enter(turn: Turn, token: str, activity: str, node: EnterNode) -> None:
    """A state of the business life cycle; an illegal transition names both states."""
    allowed = turn.program.graph.transitions.get(turn.state.entered)
    if allowed is not None and node.state not in allowed:
        raise StuckError("transition", f"from {turn.state.entered} to {node.state} is not allowed")
    turn.emit("state.entered", activity, takes=token, state=node.state, gives=[f"-{activity}"])


def end(turn: Turn, token: str, activity: str, node: EndNode) -> None:
    """Ends the saga here."""
    result = turn.call_plain(activity, "result") if node.result else None
    _complete(turn, token, node.outcome, result)


def _complete(turn: Turn, token: str, outcome: str, result: Any = None) -> None:
    if turn.state.phase == "on_failed":
        compensated(turn)
        return
    turn.emit("saga.completed", takes=token, outcome=outcome, result=result, withdrawn=withdrawn_inside(turn, ""))


def fail_here(turn: Turn, token: str, activity: str, node: FailNode) -> None:
    """Turns to compensation, of the innermost scope with on_failed, else of the saga."""
    reason = str(turn.call(activity, "reason")) if node.function else node.reason
    fail(turn, activity, "failed", reason, place=token)


OPENERS: dict[str, Callable[..., None]] = {
    "step": open_step,
    "call": open_call,
    "task": open_task,
    "wait": open_wait,
    "delay": open_delay,
    "compute": compute,
    "choose": choose,
    "parallel": open_parallel,
    "for_each": open_for_each,
    "repeat": open_repeat,
    "leave": leave,
    "keep": keep,
    "scope": open_scope,
    "publish": publish,
    "enter": enter,
    "end": end,
    "fail": fail_here,
}


def move(turn: Turn, token: str) -> None:
    """Moves one token. A user function that raises makes the place stuck; other branches go on (rule 12)."""
    activity = token[1:]
    try:
        if token[0] == "+":
            start(turn, token, activity)
            return
        following = after(turn.program.graph, activity)
        if following.start:
            start(turn, token, following.start)
        elif following.owner:
            _end_of_block(turn, token, following)
        else:
            _complete(turn, token, "completed")
    except StuckError as error:
        turn.stick(token, error.cause, error.reason, error)


def start(turn: Turn, token: str, activity: str) -> None:
    """Opens the node of an activity; its record takes the token."""
    node = turn.node(activity)
    OPENERS[node.kind](turn, token, activity, node)


def _end_of_block(turn: Turn, token: str, following: Any) -> None:
    kind = turn.node(following.owner).kind
    if kind == "scope":
        turn.emit("scope.left", following.owner, takes=token, gives=turn.gives(following.owner, "then"))
    elif kind == "repeat":
        round_over(turn, token, following)
    else:
        branch_over(turn, token, following)
