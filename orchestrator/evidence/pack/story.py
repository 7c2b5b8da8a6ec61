"""What happened, in words and in order: the lines, the money and the undos that a report tells, from records alone.

Rules of this file
- Pure: no clock. A saga that goes on is told as of its last record.
- Every record is one line; a line is shortened with an ellipsis and names its record, which holds all of it.
- Money is every amount in a command that was sent, with what became of the command; nothing is added up or converted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.api.views import RecordView
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.drawing.standing import run_words, undo_words
from orchestrator.pages.drawing.timeline import FAILED_TYPES, PAUSE_MIN, why_waiting
from orchestrator.pages.subject import facts_of, title
from orchestrator.wording import in_words

_DID = {
    "saga.started": "Started", "saga.completed": "Completed", "saga.compensated": "Ended after undoing",
    "saga.failing": "Will turn back", "saga.stuck": "Stuck", "saga.deadline_missed": "Deadline missed",
    "saga.tombstoned": "Undone before it started", "compensation.started": "Turned back",
    "compensation.finished": "Undoing finished", "undo.planned": "Undo planned", "cancel.refused": "Cancel refused",
    "step.requested": "asked", "step.succeeded": "done", "step.refused": "refused", "step.failed": "failed",
    "step.timed_out": "no answer in time", "fence.requested": "asked what became of it", "child.requested": "called",
    "child.completed": "completed", "child.failed": "failed", "value.computed": "computed",
    "task.opened": "asked of people", "task.voted": "vote", "task.decided": "decided", "task.claimed": "taken on",
    "task.released": "given back", "task.delegated": "handed to a substitute", "task.reassigned": "asked of others",
    "task.commented": "comment", "task.attached": "link attached", "task.amended": "what is shown has changed",
    "task.escalated": "escalated", "task.reminded": "reminded", "task.expired": "expired", "event.awaited": "waits",
    "event.received": "came", "event.expired": "did not come in time", "event.published": "published",
    "timer.set": "waits", "timer.fired": "its time came", "branch.taken": "way taken", "undo.requested": "undo asked",
    "undo.succeeded": "undone", "undo.failed": "undo failed", "undo.taken_over": "undo taken over by a person",
    "undo.handed": "undo in a person's hands", "reply.late": "late reply",
    "operator.retried": "tried again by an operator", "operator.skipped": "undo skipped",
    "operator.completed_by_hand": "done by hand", "operator.settled": "settled by evidence",
    "evidence.proposed": "evidence proposed", "operator.proposed": "act proposed",
    "operator.gave_back": "undo given back",
}  # fmt: skip
_INNER = ("branch.", "timer.", "loop.", "parallel.", "scope.", "value.", "fence.")
_ACTS = (
    "saga.started", "task.voted", "task.claimed", "task.released", "task.delegated", "task.reassigned",
    "task.commented", "task.attached", "operator.", "evidence.", "undo.taken_over", "cancel.",
)  # fmt: skip
_NAMES = {"system": "the orchestrator", "engine": "the orchestrator"}
_SENT = {"step.requested": "do", "undo.requested": "undo"}


@dataclass(frozen=True, slots=True)
class Line:
    """One record. `kind`: person, trouble, step, inner (the engine's own bookkeeping). `pause`: before it, and why."""

    record: int
    at: datetime
    what: str
    words: str
    by: str
    kind: str
    pause: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """An amount in a command. `state`: what became of it. `is_undo`: it takes another one back."""

    record: int
    at: datetime
    where: str
    command: str
    whom: str
    label: str
    value: str
    currency: str
    state: str
    look: str
    is_undo: bool


@dataclass(frozen=True, slots=True)
class Undo:
    """One way back. `record`: the one that says how it ended, 0 while it has not."""

    activity: str
    state: str
    look: str
    record: int
    at: datetime | None


def lines(records: Sequence[RecordView]) -> list[Line]:
    """Every record, oldest first."""
    found, state, last = list[Line](), State(), None
    for record in records:
        length = record.recorded_at - last if last is not None else timedelta()
        waited = length >= PAUSE_MIN
        found.append(
            Line(
                record.version, record.recorded_at, _what(record), in_words(record.type, record.data),
                who(record.actor), _kind(record), span(length) if waited else "", why_waiting(state) if waited else "",
            )
        )  # fmt: skip
        last = record.recorded_at
        evolve(state, Record(record.type, record.activity, dict(record.data)))
    return found


def who(actor: str) -> str:
    """An actor as a report names it: a person by name, everybody else with what they are."""
    kind, _, name = actor.partition(":")
    if not name:
        return _NAMES.get(actor, actor)
    return name if kind == "person" else f"{name} ({kind})"


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def _what(record: RecordView) -> str:
    did = _DID.get(record.type) or record.type.partition(".")[2].replace("_", " ")
    return f"{sentence(title(record.activity))}: {did}" if record.activity else sentence(did)


def _kind(record: RecordView) -> str:
    if record.type in FAILED_TYPES:
        return "trouble"
    if record.actor.startswith("person:") and record.type.startswith(_ACTS):
        return "person"
    return "inner" if record.type.startswith(_INNER) else "step"


def payments(history: History) -> list[Payment]:
    """Every amount in a command that was sent, once for each round of it."""
    found: list[Payment] = []
    seen = set[tuple[str, str, int]]()
    for record in history.records:
        command = record.data.get("command")
        kind = _SENT.get(record.type)
        if kind is None or not isinstance(command, Mapping):
            continue
        round_ = int(record.data.get("round") or 1)
        if (kind, record.activity, round_) in seen:
            continue
        seen.add((kind, record.activity, round_))
        found += _amounts(record, command, history, is_undo=kind == "undo")
    return found


def _amounts(record: RecordView, command: Mapping[str, Any], history: History, *, is_undo: bool) -> Iterator[Payment]:
    activity = history.state.activities.get(record.activity)
    if activity is None:
        return
    look, state = undo_words(record.activity, history) if is_undo else run_words(record.activity, activity, history)
    for fact in facts_of(command.get("body")):
        if fact.kind == "amount":
            yield Payment(
                record.version, record.recorded_at, sentence(title(record.activity)), str(command.get("type") or ""),
                str(command.get("participant") or ""), fact.label, str(fact.value), fact.currency, state, look, is_undo,
            )  # fmt: skip


def undos(history: History) -> list[Undo]:
    """Every activity whose way back was planned, in the order in which it ended; what has not ended stands last."""
    ended: dict[str, RecordView] = {}
    for record in history.records:
        by_hand = record.type in ("operator.skipped", "operator.completed_by_hand") and str(
            record.data.get("place") or ""
        ).startswith("~")
        if record.type == "undo.succeeded" or by_hand:
            ended[record.activity] = record
    planned = [name for record in history.records if record.type == "undo.planned" for name in record.data["plan"]]
    names = [*ended, *(name for name in dict.fromkeys(planned) if name not in ended)]
    found = []
    for name in names:
        if name in history.state.activities:
            look, words = undo_words(name, history)
            at = ended.get(name)
            version, when = (at.version, at.recorded_at) if at is not None else (0, None)
            found.append(Undo(name, words or "planned", look or "undoing", version, when))
    return found
