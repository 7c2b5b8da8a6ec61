"""Voices: by whose right a person acts on a task. Their own, or that of somebody for whom they stand in.

Rules of this file
- A substitute gains no right: they may do what the other could when it was lent and can still, and only while the
  arrangement lasts. Whoever is excluded stays excluded, as oneself, as a substitute and as the one who is stood in for.
- One human being has one voice on a task, and so has the one for whom it was given.
- Limits are those of the person whose right is used, in the currency of what is shown. Nothing is converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.kernel.inputs import Held, Refusal, TaskAct, Vote
from orchestrator.kernel.state import TaskState
from orchestrator.kernel.turn import Turn


@dataclass(frozen=True, slots=True)
class Voice:
    """By whose right somebody acts: `behalf` "" is their own. `source` names the arrangement."""

    by: str
    behalf: str
    roles: tuple[str, ...]
    source: str = ""

    @property
    def right_of(self) -> str:
        """The person whose right is used."""
        return self.behalf or self.by


def speaks(turn: Turn, given: Vote, task: TaskState, node: TaskNode) -> Voice | None:
    """The voice with which this person may vote; None where there is none, and then the vote is refused."""
    first: Refusal | None = None
    for voice in voices(given, task, given.on_behalf_of):
        refusal = barred(turn, voice, task, node) or _over_limit(voice, task)
        if refusal is None:
            return voice
        first = first or refusal
    turn.refusal = first or Refusal(
        "not_substitute", f"{given.by} does not stand in for {given.on_behalf_of} on this task now", {}
    )
    return None


def voices(given: Vote | TaskAct, task: TaskState, on_behalf_of: str = "") -> Iterator[Voice]:
    """Every voice that this person could act with, their own first. `on_behalf_of`: only that of this person.

    Whoever may not decide any more lends nothing, whatever was arranged before; a role that was lent and lost is gone.
    """
    if on_behalf_of in ("", given.by):
        yield Voice(given.by, "", given.roles)
    for known in task.delegations:
        if known["by"] in given.barred:
            continue
        if known["to"] == given.by and given.received_at < known["until"] and on_behalf_of in ("", known["by"]):
            yield Voice(given.by, known["by"], still_held(known, given.holds), "delegated")
    for absent in given.stands_in:
        if absent.since <= given.received_at < absent.until and on_behalf_of in ("", absent.person):
            yield Voice(given.by, absent.person, absent.roles, absent.source)


def still_held(lent: Mapping[str, Any], holds: Sequence[Held]) -> tuple[str, ...]:
    """The roles of a delegation that whoever lent them holds still; all of them where that is not known."""
    now = next((held.roles for held in holds if held.person == lent["by"]), None)
    return tuple(role for role in lent["roles"] if now is None or role in now)


def barred(turn: Turn, voice: Voice, task: TaskState, node: TaskNode) -> Refusal | None:
    """Why this voice does not count on this task, whatever it says."""
    heads = {voice.by, voice.right_of}
    earlier = earlier_voters(turn, node)
    out = next((name for name in (voice.by, voice.right_of) if name in task.excluded or name in earlier), "")
    if out:
        nor = "" if out == voice.by else ", nor anybody for them"
        return Refusal("excluded", f"{out} may not decide this task{nor}: four eyes are needed", {"by": out})
    if heads & set(task.steered):
        return Refusal("excluded", f"{voice.by} chose who decides this task, and may not decide it", {"by": voice.by})
    if not eligible(voice.right_of, voice.roles, task.to):
        may = ", ".join(entry.get("role") or entry.get("person", "") for entry in task.to)
        who = voice.right_of
        return Refusal("not_eligible", f"{who} is not among those who may decide this task: {may}", {"may": may})
    for cast in task.votes:
        again = heads & {cast["by"], cast["on_behalf_of"]}
        if again:
            name = min(again)
            return Refusal("voted_already", f"{name} has voted on this task already", {"by": name})
    return None


def eligible(person: str, roles: tuple[str, ...], to: list[dict[str, str]]) -> bool:
    """Is this person asked, by name or by a role?"""
    return any(entry.get("person") == person or entry.get("role") in roles for entry in to)


def earlier_voters(turn: Turn, node: TaskNode) -> set[str]:
    """Who voted on the tasks that this one excludes: also with votes that an amendment made void, and for whom."""
    voters: set[str] = set()
    if not node.exclude_tasks:
        return voters
    for key, found in turn.state.activities.items():
        if found.task is not None and node_path(key) in node.exclude_tasks:
            for cast in (*found.task.votes, *found.task.void):
                voters.update({cast["by"], cast["on_behalf_of"]} - {""})
    return voters


def authority(voice: Voice, task: TaskState) -> dict[str, str] | None:
    """The limit that covers the amount of this task, None where none does."""
    assert task.amount is not None
    return covers(voice, task.amount, task.limits)


def covers(voice: Voice, amount: Mapping[str, str], limits: Sequence[dict[str, str]]) -> dict[str, str] | None:
    """The first limit of this person or their roles that is not below the amount, in its own currency."""
    for limit in limits:
        if limit.get("person") != voice.right_of and limit.get("role") not in voice.roles:
            continue
        if "amount" not in limit:
            return limit
        if limit["currency"] == amount["currency"] and Decimal(amount["amount"]) <= Decimal(limit["amount"]):
            return limit
    return None


def _over_limit(voice: Voice, task: TaskState) -> Refusal | None:
    if task.amount is None or not task.limits or authority(voice, task) is not None:
        return None
    amount, currency = task.amount["amount"], task.amount["currency"]
    held = [
        Decimal(limit["amount"])
        for limit in task.limits
        if limit.get("currency") == currency
        and (limit.get("person") == voice.right_of or limit.get("role") in voice.roles)
    ]
    facts = {"amount": amount, "currency": currency}
    if not held:
        text = f"{voice.right_of} has no authority in {currency}, and amounts are never converted"
        return Refusal("over_limit", text, facts)
    limit = f"{max(held):f}"
    text = f"{amount} {currency} is above the limit of {voice.right_of}, {limit} {currency}"
    return Refusal("over_limit", text, {**facts, "limit": limit})


def evidence(voice: Voice, task: TaskState) -> dict[str, Any]:
    """What a vote records of the right that it rests on, where that was not simply the voter's own."""
    found: dict[str, Any] = {}
    if voice.behalf:
        found = {"behalf_roles": list(voice.roles), "stands_in": voice.source}
    if task.amount is not None and task.limits:
        found |= {"amount": task.amount, "limit": authority(voice, task)}
    if task.claim is not None and task.claim["by"] != voice.by:
        found["claimed_by"] = task.claim["by"]
    return found
