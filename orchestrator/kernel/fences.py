"""Settling: unknown outcomes are made known before anything is undone (rules 13-15).

Rules of this file
- A fence asks the participant for the stored outcome of a key, or to refuse that key for ever. It is repeated by the
  undo policy, then the place `?activity` is stuck: outcome unknown.
- A running child is settled by asking it to undo itself (`unwind`), over the same record.
- In doubt is no answer: asked again when the participant says. Never is final, and needs evidence of two people.
"""

from __future__ import annotations

from orchestrator.kernel.graph import CallNode, RetryPolicy, StepNode
from orchestrator.kernel.state import in_body
from orchestrator.kernel.turn import MS, Turn, backoff_ms

CHILD_POLICY = RetryPolicy(attempts=0, first_ms=30_000, factor=2.0, ceiling_ms=600_000)
OWED_POLICY = RetryPolicy(attempts=0, first_ms=60_000, factor=2.0, ceiling_ms=3_600_000)


def undo_policy(turn: Turn, activity: str) -> tuple[RetryPolicy, int]:
    """Retry policy and time for one attempt, milliseconds, of fences and undos of this activity."""
    node = turn.node(activity)
    if isinstance(node, StepNode):
        return node.undo_retry, node.undo_within_ms
    return CHILD_POLICY, 600_000


def fence(turn: Turn, activity: str, after: str = "") -> None:
    """Asks for the outcome of an unsettled step (or asks a running child to undo itself)."""
    found = turn.state.activities[activity]
    _, within_ms = undo_policy(turn, activity)
    base = found.fence_base if found.fence else found.fence_attempt  # asked anew: with all its attempts
    turn.emit(
        "fence.requested",
        activity,
        round=found.round,
        attempt=found.fence_attempt + 1,
        due=turn.now + within_ms * MS,
        base=base,
        after=after or found.after,
    )


def owe(turn: Turn, activity: str) -> None:
    """Evidence settled the saga, not the key: the participant is asked until it has said what it did (rule 15)."""
    found = turn.state.activities[activity]
    attempt = found.fence_attempt + 1
    wait = backoff_ms(OWED_POLICY, attempt - found.fence_base, f"{turn.state.saga_id}:{activity}:owed:{attempt}")
    turn.emit("fence.owed", activity, round=found.round, attempt=attempt, due=turn.now + wait * MS)


def fence_failed(turn: Turn, activity: str, reason: str, until: int = 0) -> None:
    """The fence brought no outcome: again later, or stuck. `until` (microseconds): the participant says when to ask."""
    found = turn.state.activities[activity]
    policy, _ = undo_policy(turn, activity)
    tries = found.fence_attempt - found.fence_base
    if until:
        due = max(until, turn.now + policy.first_ms * MS)
        turn.emit("fence.failed", activity, attempt=found.fence_attempt, reason=reason, due=due)
        return
    if policy.attempts and tries >= policy.attempts:
        turn.emit("fence.failed", activity, attempt=found.fence_attempt, reason=reason)
        turn.stick(f"?{activity}", "unknown", f"the outcome is unknown, and {tries} fences brought none: {reason}")
        return
    wait = backoff_ms(policy, tries, f"{turn.state.saga_id}:{activity}:fence:{found.fence_attempt}")
    turn.emit("fence.failed", activity, attempt=found.fence_attempt, reason=reason, due=turn.now + wait * MS)


def fence_never(turn: Turn, activity: str, reason: str) -> None:
    """The participant can never know. Only evidence settles it now."""
    found = turn.state.activities[activity]
    turn.emit("fence.failed", activity, attempt=found.fence_attempt, reason=reason, never=True)
    text = reason or "the participant can never know this outcome"
    turn.stick(f"?{activity}", "never", f"{text}; settle it by evidence of two people")


def settle_unknown(turn: Turn, prefix: str) -> None:
    """Fences every step of unknown outcome inside `prefix`, newest first, and asks running children to undo (S3, 16c).

    A step that only reads is withdrawn instead: it has no effect. One without undo is fenced too, or its queued command
    would act after the saga has ended.
    """
    closing = [
        key for key, s in turn.state.scopes.items() if s.mode != "open" and key != prefix and in_body(key, prefix)
    ]
    unknown = [
        key
        for key, found in turn.state.inside(prefix)
        if found.unsettled and not any(in_body(key, scope) for scope in closing)  # those settle already
    ]
    for activity in sorted(unknown, key=lambda key: -turn.state.activities[key].opened):
        fence(turn, activity)


def withdrawn_inside(turn: Turn, prefix: str) -> list[str]:
    """What a closing takes back at once: open tasks, waits, delays, scopes, loops, and steps that only read."""
    keys = []
    for key, found in turn.state.inside(prefix):
        scope = turn.state.scopes.get(key)
        reading = found.unsettled and found.reads
        if (found.status == "open" and not (scope and scope.mode != "open")) or reading:
            keys.append(key)
    return keys


def is_child(turn: Turn, activity: str) -> bool:
    """True for a call of another saga."""
    return isinstance(turn.node(activity), CallNode)
