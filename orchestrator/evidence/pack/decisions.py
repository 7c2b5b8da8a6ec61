"""Who decided what, seeing what: the decisions of a saga as data, read from its records alone.

Rules of this file
- Pure. What was shown is taken from the record that opened or last changed the task; its hash is computed here anew and
  set beside the stored one and the one that came back with each vote. A difference is said, never mended.
- What a vote kept about the person (role then, how they were known, by whose right) is given as it was recorded.
- Instants are texts in UTC with microseconds, as contracts have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.api.views import RecordView
from orchestrator.kernel.inject import instant
from orchestrator.kernel.turn import subject_hash
from orchestrator.messages.canonical import instant_text

_VOTE = (
    "by", "outcome", "roles", "authentication", "reason", "on_behalf_of", "behalf_roles", "stands_in", "amount",
    "limit", "claimed_by", "answer", "round",
)  # fmt: skip
_CLOSING = {"task.decided": "decided", "task.expired": "expired"}
_OPENING = frozenset({"task.opened", "task.amended"})
_VOIDING = frozenset({"task.amended", "task.amend_failed"})  # everybody is asked again
_ASKS = {"saga.failing": "failed", "compensation.started": "turned back", "cancel.refused": "cancel refused"}


def decisions(records: Sequence[RecordView]) -> dict[str, Any]:
    """Every task with what was shown and each vote, and every act of an operator or of whoever asked to turn back."""
    tasks: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.type.startswith("task.") and record.activity:
            _take(tasks.setdefault(record.activity, _task(record)), record)
    for task in tasks.values():
        if task["state"] == "open" and _is_withdrawn(records, task["activity"]):
            task["state"] = "withdrawn"
    return {"tasks": list(tasks.values()), "operators": list(_operators(records))}


def matches(found: Mapping[str, Any]) -> bool:
    """Does everything that was decided rest on what was shown, by its hash?"""
    return all(
        shown["matches"] for task in found["tasks"] for shown in task["shown"]
    ) and all(vote["matches"] for task in found["tasks"] for vote in task["votes"])  # fmt: skip


def _task(record: RecordView) -> dict[str, Any]:
    return {
        "activity": record.activity, "state": "open", "outcome": "", "opened": record.version, "closed": 0, "help": "",
        "asked": [], "excluded": [], "outcomes": [], "votes_needed": 1, "shown": [], "votes": [], "acts": [],
    }  # fmt: skip


def _take(task: dict[str, Any], record: RecordView) -> None:
    data = record.data
    if record.type in _VOIDING:
        for vote in task["votes"]:
            vote["void"] = True
    if record.type in _OPENING:
        _shown(task, record)
    if record.type == "task.opened":
        task["help"] = data.get("help", "")
        task["asked"], task["outcomes"] = list(data.get("to") or ()), list(data.get("outcomes") or ())
        task["votes_needed"], task["excluded"] = data.get("votes_needed", 1), list(data.get("excluded") or ())
    elif record.type == "task.voted":
        task["votes"].append(_vote(task, record))
    elif record.type in _CLOSING:
        task["state"], task["outcome"] = _CLOSING[record.type], str(data.get("outcome") or "")
        task["closed"], task["closed_at"] = record.version, _at(record.recorded_at)
    else:
        if record.type == "task.amended" and data.get("excluded"):
            task["excluded"] = list(data["excluded"])
        task["acts"].append(_act(record))


def _shown(task: dict[str, Any], record: RecordView) -> None:
    """One version of what was shown, with its hash as stored and as computed from the record's own data."""
    data = record.data
    before = task["shown"][-1] if task["shown"] else {}
    computed = subject_hash(data.get("shown"))
    task["shown"].append(
        {
            "record": record.version,
            "at": _at(record.recorded_at),
            "round": len(task["shown"]) + 1,
            "type": str(data.get("shown_type") or before.get("type") or ""),
            "shown": data.get("shown"),
            "hash": str(data.get("hash") or ""),
            "computed": computed,
            "matches": computed == data.get("hash"),
        }
    )


def _vote(task: Mapping[str, Any], record: RecordView) -> dict[str, Any]:
    vote: Mapping[str, Any] = record.data.get("vote") or {}
    shown = task["shown"][-1] if task["shown"] else {"record": 0, "computed": ""}
    found = {name: vote[name] for name in _VOTE if vote.get(name) not in (None, "", [])}
    found |= {
        "record": record.version,
        "at": _at(record.recorded_at),
        "round": int(vote.get("round") or 1),
        "hash": str(vote.get("hash") or ""),
        "shown_in": shown["record"],
        "matches": vote.get("hash") == shown["computed"],
        "void": False,
    }
    if vote.get("received_at"):
        found["received_at"] = _at(instant(int(vote["received_at"])))
    return found


def _act(record: RecordView) -> dict[str, Any]:
    """What else happened to a task: as its record says, without what only the kernel needs."""
    hidden = {"shown", "hash", "gives", "wants", "due", "at", "takes", "earlier", "was_due"}
    facts = {name: value for name, value in record.data.items() if name not in hidden and value not in (None, "", [])}
    return {
        "record": record.version, "at": _at(record.recorded_at), "type": record.type, "actor": record.actor,
        "facts": facts,
    }  # fmt: skip


def _is_withdrawn(records: Sequence[RecordView], activity: str) -> bool:
    return any(activity in (record.data.get("withdrawn") or ()) for record in records)


def _operators(records: Sequence[RecordView]) -> Iterator[dict[str, Any]]:
    """Acts on stuck places with everybody who stood behind them, and who asked the saga to turn back."""
    for record in records:
        data = record.data
        said = data.get("failure")
        failure: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
        by = str(data.get("by") or "")
        is_act = record.type.startswith(("operator.", "evidence.")) or (
            record.type in ("undo.taken_over", "undo.succeeded", "undo.handed") and by and not data.get("again")
        )
        is_cancel = record.type in _ASKS and (failure.get("kind") == "cancelled" or record.type == "cancel.refused")
        if not is_act and not is_cancel:
            continue
        by = by or record.actor.removeprefix("person:")
        yield {
            "record": record.version,
            "at": _at(record.recorded_at),
            "type": record.type,
            "place": str(data.get("place") or record.activity or ""),
            "people": list(data.get("people") or [by]),
            "reason": str(data.get("reason") or failure.get("reason") or ""),
            "outcome": str(data.get("outcome") or data.get("act") or ""),
            "actor": record.actor,
        }


def _at(at: datetime) -> str:
    return instant_text(at)
