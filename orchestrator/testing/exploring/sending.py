"""Checks of what leaves a turn: messages with their keys, and the clocks that start when a message was published.

Rules of this file
- A key is tenant, saga, activity, round and the digest of the bytes; never the attempt (rules 1-3).
- A command carries the keys of the rounds before it, an undo the key that it undoes (rules 13, 15).
- The clock of an attempt, an undo or a fence starts when its message was published; every other clock at once (rule 9).
"""

from __future__ import annotations

import hashlib

from orchestrator.kernel.effects import Effects, Outgoing
from orchestrator.kernel.graph import CallNode
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.testing.exploring.story import Seen

ASKS = frozenset({"step.requested", "undo.requested", "undo.taken_over", "fence.requested"})


def check_messages(seen: Seen, effects: Effects) -> None:
    """After a turn."""
    for message in effects.outbox:
        if message.kind in ("do", "undo", "fence"):
            _message(seen, message)
    _clocks(seen, effects)


def _message(seen: Seen, message: Outgoing) -> None:
    """One key a round, and the author's functions saw only results that stand."""
    story, attributes = seen.story, message.attributes
    purpose, activity, round_ = attributes["purpose"], attributes["activity"], attributes["round"]
    way = "undo" if "undo" in purpose else "do"
    place = (way, activity, int(round_))
    key = attributes["idempotencykey"]
    first = story.keys.get(place)
    if first is None:
        story.keys[place] = key
        sign = "~" if way == "undo" else ":"
        digest = hashlib.sha256(canonical_bytes(message.body)).hexdigest()[:16]
        made = f"{story.tenant}:{story.saga_id}:{activity}{sign}{round_}:{digest}"
        seen.demand(key == made, f"{place}: key {key}, must be {made} (rules 1, 2)")
    seen.demand(first in (None, key), f"{place}: key {key}, was {first}: a second effect (rule 2)")
    if way == "undo":
        fact = story.facts[activity]
        undone = fact.under or story.keys.get(("do", activity, fact.round))
        named = attributes.get("undoes")
        seen.demand(named == undone, f"{place} names {named}, not {undone}")
        return
    earlier = story.facts[activity].earlier
    sent = attributes.get("earlier", "").split()
    seen.demand(sent == earlier, f"{place} names the earlier keys {sent}, must name {earlier} (rule 15)")
    if message.kind == "do" and attributes["attempt"] == "1":
        _saw(seen, message)


def _saw(seen: Seen, message: Outgoing) -> None:
    """Results of undone steps are gone (S6): a command that quotes results quotes only those that stand."""
    quoted = str(message.body.get("what", "")) if isinstance(message.body, dict) else ""
    for activity in quoted.split():
        if activity.startswith("@") and (fact := seen.story.facts.get(activity[1:])):
            stands = fact.state == "done" and fact.undo not in ("done", "by_hand")
            who = message.attributes["activity"]
            seen.demand(stands, f"{who} saw the result of {activity}, which is undone (S6)")


def _clocks(seen: Seen, effects: Effects) -> None:
    begun = len(seen.story.records) - len(seen.records)
    for timer in effects.timers_set:
        record = seen.records[timer.armed - begun - 1]
        asks = record.type in ASKS and not isinstance(seen.story.node(timer.activity), CallNode)
        expected = timer.armed if asks else 0
        seen.demand(
            timer.command_version == expected,
            f"the clock of {timer.activity} starts with message {timer.command_version}, must with {expected} (rule 9)",
        )
