"""Tasks as people see them: from a task's stored data, or from a saga's folded state, to one view.

Rules of this file
- List and page say the same, since both are made of `task_data`. Nothing here decides: what a view says of "may" is the
  same rules read without the lock, and the vote is decided by the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.api.times import instant, optional_instant
from orchestrator.api.views import Actor, SagaView, TaskView, task_id_of
from orchestrator.kernel.effects import task_data
from orchestrator.kernel.inputs import Held, StandIn
from orchestrator.kernel.state import Activity
from orchestrator.kernel.voices import Voice, covers, eligible, still_held

AT_RISK_SHARE = 0.25  # of the time that a task has: when less is left, it is at risk
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth")
_NUMBERS = ("", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, when (microseconds), and for whom they stand in. `barred`, `holds`: as of a vote, of their lenders."""

    actor: Actor
    now: int
    stands_in: Sequence[StandIn] = ()
    barred: Sequence[str] = ()
    holds: Sequence[Held] = ()


def lenders_of(actor: Actor, data: Mapping[str, Any]) -> list[str]:
    """Who has lent this actor a right on a task, by its stored data."""
    return [one["by"] for one in data.get("delegations", ()) if one["to"] == actor.id]


def view_of_activity(saga: SagaView, activity: str, found: Activity, viewer: Viewer | None) -> TaskView:
    """A task, open or closed, from the saga's state."""
    assert found.task is not None
    state = {"succeeded": "decided"}.get(found.status, found.status)
    view = view_of(saga.saga_id, saga.name, saga.business_key, activity, state, task_data(found), viewer)
    return replace(view, decision=found.result if found.status == "succeeded" else None)


def view_of(
    saga_id: str,
    saga_name: str,
    business_key: str,
    activity: str,
    state: str,
    data: Mapping[str, Any],
    viewer: Viewer | None,
) -> TaskView:
    """A task from its stored data."""
    expires = data.get("expires", 0)
    whose, why = _standing(data, viewer) if viewer is not None and state == "open" else ((), "")
    claim = data.get("claim") or {}
    return TaskView(
        id=task_id_of(saga_id, activity),
        saga_id=saga_id,
        saga_name=saga_name,
        business_key=business_key,
        activity=activity,
        state=state,
        shown=data.get("shown"),
        form_schema=data.get("form_schema"),
        outcomes=tuple(data.get("outcomes", ())),
        to=tuple(data.get("to", ())),
        excluded=tuple(dict.fromkeys((*data.get("excluded", ()), *data.get("earlier", ())))),
        votes=tuple(data.get("votes", ())),
        votes_needed=data.get("votes_needed", 1),
        subject_hash=data.get("hash", ""),
        opened_at=instant(data.get("opened_at", 0)),
        due=optional_instant(expires),
        help=data.get("help", ""),
        claimed_by=claim.get("by", ""),
        claimed_at=optional_instant(claim.get("at", 0)),
        **_lists(data, viewer),
        expires=optional_instant(expires),
        sla=_sla(data, viewer.now) if viewer is not None and state == "open" else "",
        position=_position(data.get("chain", ())),
        amount=data.get("amount"),
        limits=tuple(data.get("limits", ())),
        authority=authority_text(data),
        round=data.get("round", 1),
        void_votes=data.get("void", 0),
        amended_at=optional_instant(data.get("amended_at", 0)),
        may_decide=bool(whose),
        why=why,
        may_decide_for=whose,
    )


def _lists(data: Mapping[str, Any], viewer: Viewer | None) -> dict[str, tuple[dict[str, Any], ...]]:
    """What people and time have added to a task."""
    delegated = (one for one in data.get("delegations", ()) if viewer is None or viewer.now < one["until"])
    reminders = [(at, True) for at in data.get("reminded", ())] + [(at, False) for at in data.get("reminders", ())]
    return {
        "delegated": tuple(
            {"by": one["by"], "to": one["to"], "until": instant(one["until"]), "reason": one.get("reason", "")}
            for one in delegated
        ),
        "comments": tuple(map(_comment, data.get("comments", ()))),
        "attachments": tuple(
            {"by": one["by"], "at": instant(one["at"]), "url": one["url"], "title": one["title"]}
            for one in data.get("attachments", ())
        ),
        "escalations": tuple(_escalations(data)),
        "reminders": tuple({"at": instant(at), "done": done} for at, done in reminders),
    }


def _comment(one: Mapping[str, Any]) -> dict[str, Any]:
    edits = [{"text": edit["text"], "at": instant(edit["at"])} for edit in one["edits"]]
    return {"id": one["id"], "by": one["by"], "at": instant(one["at"]), "text": one["text"], "edits": edits}


def _escalations(data: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    done = data.get("escalated", ())
    for one in done:
        yield {"level": one["level"], "at": instant(one["at"]), "to": one["to"], "done": True, "reset_sla": False}
    for number, one in enumerate(data.get("levels", ()), data.get("level", 0) + 1):
        reset = bool(one.get("reset"))
        yield {"level": number, "at": instant(one["at"]), "to": one["to"], "done": False, "reset_sla": reset}


def _sla(data: Mapping[str, Any], now: int) -> str:
    """overdue: its time is over. at risk: a level of escalation happened, or less than a quarter of it is left."""
    opened, expires = data.get("opened_at", 0), data.get("expires", 0)
    if now >= expires:
        return "overdue"
    return "at risk" if data.get("level") or expires - now < AT_RISK_SHARE * (expires - opened) else "in time"


def _position(chain: Sequence[int]) -> str:
    if not chain:
        return ""
    position, length = chain
    if length >= len(_NUMBERS):
        return f"number {position} of {length}"
    return f"{_ORDINALS[position]} of {_NUMBERS[length]}"


def authority_text(data: Mapping[str, Any]) -> str:
    """`12000.00 INR; manager up to 10000 INR, director without limit`, "" for a task without limits."""
    amount = data.get("amount")
    if not amount or not data.get("limits"):
        return ""
    parts = []
    for limit in data["limits"]:
        who = limit.get("role") or limit.get("person", "")
        parts.append(f"{who} up to {limit['amount']} {limit['currency']}" if "amount" in limit else f"{who} any amount")
    return f"{amount['amount']} {amount['currency']}; " + ", ".join(parts)


def _standing(data: Mapping[str, Any], viewer: Viewer) -> tuple[tuple[str, ...], str]:
    """By whose right this person may vote, and the first such right in words; or nobody's, and why not."""
    tried = [(voice, right, _why_not(data, voice)) for voice, right in _voices(data, viewer)]
    whose = dict.fromkeys(voice.right_of for voice, _, reason in tried if not reason)
    return tuple(whose), next((right for _, right, reason in tried if not reason), tried[0][2])


def _voices(data: Mapping[str, Any], viewer: Viewer) -> Iterable[tuple[Voice, str]]:
    actor = viewer.actor
    named = any(entry.get("person") == actor.id for entry in data.get("to", ()))
    roles = [entry["role"] for entry in data.get("to", ()) if entry.get("role") in actor.roles]
    yield Voice(actor.id, "", tuple(actor.roles)), "asked of you" if named else f"you are {', '.join(roles)}"
    for one in data.get("delegations", ()):
        if one["to"] == actor.id and viewer.now < one["until"] and one["by"] not in viewer.barred:
            yield Voice(actor.id, one["by"], still_held(one, viewer.holds)), f"delegated to you by {one['by']}"
    for absent in viewer.stands_in:
        if absent.since <= viewer.now < absent.until:
            yield Voice(actor.id, absent.person, absent.roles), f"you stand in for {absent.person}"


def _why_not(data: Mapping[str, Any], voice: Voice) -> str:
    heads = {voice.by, voice.right_of}
    if heads & {*data.get("excluded", ()), *data.get("earlier", ())}:
        return "excluded: four eyes are needed"
    if heads & set(data.get("steered", ())):
        return "excluded: whoever chose who decides may not decide"
    if not eligible(voice.right_of, voice.roles, list(data.get("to", ()))):
        return "asked of others"
    if any(heads & {vote["by"], vote["on_behalf_of"]} for vote in data.get("votes", ())):
        return "you have voted"
    amount, limits = data.get("amount"), data.get("limits")
    if amount and limits and covers(voice, amount, limits) is None:
        return "above your limit"
    return ""
