"""One task's page as facts: what is shown, who may decide, what happened, what would follow. Read once for each page.

Rules of this file
- History is told from the records of the saga's stream alone; a kind of record that is new here is told by its name.
- `changes` compares what somebody saw with what is shown now, by the hashes that their form carried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.api.views import RecordView
from orchestrator.pages.subject import Fact, facts_of, title

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {
    "task.decided": "good", "task.voted": "info", "task.expired": "bad", "task.escalated": "warn",
    "task.amended": "warn", "task.amend_failed": "bad", "task.reassigned": "warn",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a task's history. `quote`: words of a person; `evidence`: what a vote keeps, label by label."""

    at: datetime
    kind: str  # good, warn, bad, info, idle
    text: str
    by: str
    record: int
    quote: str = ""
    evidence: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One field that is not what it was. None: it was not there."""

    label: str
    before: Fact | None
    now: Fact | None


def history_of(records: Sequence[RecordView], activity: str) -> tuple[Event, ...]:
    """What happened to a task, oldest first."""
    return tuple(
        _event(record) for record in records if record.activity == activity and record.type.startswith("task.")
    )


def shown_by(records: Sequence[RecordView], activity: str, subject_hash: str) -> Any:
    """What was shown under this hash, or None where it never was."""
    for record in records:
        says = record.activity == activity and record.type in ("task.opened", "task.amended")
        if says and record.data.get("hash") == subject_hash:
            return record.data.get("shown")
    return None


def changes(before: object, now: object) -> tuple[Change, ...]:
    """Field by field, in the order of what is shown now; what is gone stands last."""
    old = {fact.path: fact for fact in facts_of(before) if fact.kind != "heading"}
    new = {fact.path: fact for fact in facts_of(now) if fact.kind != "heading"}
    found = [Change(fact.label, old.get(path), fact) for path, fact in new.items() if _differ(old.get(path), fact)]
    return (*found, *(Change(fact.label, fact, None) for path, fact in old.items() if path not in new))


def _differ(one: Fact | None, other: Fact) -> bool:
    return one is None or (str(one.value), one.currency) != (str(other.value), other.currency)


def _event(record: RecordView) -> Event:
    data = record.data
    kind = _KINDS.get(record.type, "idle")
    text, quote = _told(record.type, data)
    by = str(data.get("by") or "") if isinstance(data.get("by"), str) else ""
    evidence: tuple[tuple[str, str], ...] = ()
    if record.type == "task.voted":
        vote = data["vote"]
        by, quote, evidence = str(vote["by"]), str(vote.get("reason", "")), _evidence(vote)
        if vote.get("outcome") in ("reject", "deny"):
            kind = "bad"
    return Event(record.recorded_at, kind, text, by, record.version, quote, evidence)


def _told(type_: str, data: Mapping[str, Any]) -> tuple[str, str]:
    to = names_of(data.get("to"))
    match type_:
        case "task.opened":
            return f"Asked of {to}", ""
        case "task.claimed":
            return "Claimed", ""
        case "task.released":
            return "Released", str(data.get("reason", ""))
        case "task.delegated":
            return (f"Delegated to {data['to']}" if data.get("to") else "Delegation taken back"), str(
                data.get("reason", "")
            )
        case "task.reassigned":
            return f"Reassigned to {to}", str(data.get("reason", ""))
        case "task.commented":
            return ("Comment edited" if data.get("replaces") else "Comment"), str(data.get("text", ""))
        case "task.attached":
            return "Link attached", str(data.get("title", ""))
        case "task.voted":
            return f"Voted: {title(str(data['vote']['outcome']))}", ""
        case "task.decided":
            return f"Decided: {title(str(data.get('outcome', '')))}", ""
        case "task.amended":
            return "What is asked was changed; earlier votes do not count any more", ""
        case "task.escalated":
            return f"Escalated to {to}", ""
        case "task.reminded":
            return "Reminded", ""
        case "task.expired":
            return "Expired: nobody decided in time", ""
        case "task.withdrawn":
            return "Withdrawn", ""
    return title(type_).capitalize(), ""


def _evidence(vote: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    lines = [
        ("On behalf of", str(vote.get("on_behalf_of") or "")),
        ("By which right", str(vote.get("right") or "")),
        ("Groups then", ", ".join(map(str, vote.get("roles", ())))),
        ("Known by", str(vote.get("authentication", ""))),
        ("Request came", _instant_text(vote.get("received_at"))),
        ("What was shown", str(vote.get("hash", ""))),
    ]
    return tuple((label, text) for label, text in lines if text)


def _instant_text(us: object) -> str:
    if not isinstance(us, int) or not us:
        return ""
    return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def names_of(to: object) -> str:
    """People and groups as a record names them."""
    if isinstance(to, str):
        return to
    entries = to if isinstance(to, Sequence) else ()
    names = [
        f"group {entry['role']}" if entry.get("role") else str(entry.get("person", ""))
        for entry in entries
        if isinstance(entry, Mapping)
    ]
    return ", ".join(filter(None, names)) or "nobody yet"
