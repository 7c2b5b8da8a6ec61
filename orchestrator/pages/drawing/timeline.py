"""A saga's time line: one row per step with its attempts inside, and the time when nothing ran, with its cause.

Rules of this file
- A row stands where its activity's first record stands; what came later of the same activity is inside it. Undos are
  rows of their own.
- A pause stands before the record that ended it, and says what the saga waited for, by its state at that moment.
- No record is left out, also of a type that came after this file: its words then are its facts by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.api.views import RecordView
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import node_path
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.drawing.standing import run_words, stuck_at, undo_words
from orchestrator.wording import in_words

PAUSE_MIN = timedelta(seconds=10)
ROWS_PER_PAGE = 200
FAILED_TYPES = frozenset(
    {"step.failed", "step.timed_out", "step.refused", "child.failed", "undo.failed", "fence.failed", "saga.stuck"}
    | {"saga.failing", "compensation.started", "scope.failing", "task.expired", "event.expired", "saga.deadline_missed"}
    | {"reply.contradicted", "task.amend_failed", "cancel.refused"}
)
_OWN_WORDS = {
    "saga.started": "Started",
    "saga.completed": "Completed",
    "saga.compensated": "Ended after undoing",
    "saga.failing": "Will turn back",
    "saga.stuck": "Stuck",
    "saga.deadline_missed": "Deadline missed",
    "compensation.started": "Turned back",
    "compensation.finished": "Undoing finished",
    "undo.planned": "Undo planned",
    "cancel.refused": "Cancel refused",
    "operator.cancelled": "Cancelled",
}


@dataclass(frozen=True, slots=True)
class Pause:
    """Time in which nothing ran. `live`: it is not over."""

    length: str
    why: str
    live: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, and the pause before it within its row."""

    version: int
    at: datetime
    type: str
    by: str
    words: str
    failed: bool
    pause: Pause | None = None


@dataclass(slots=True)
class Row:
    """One step, task, wait or undo; or one record of the saga itself. `before`: the pause that ended with it."""

    title: str
    kind: str
    activity: str
    look: str = ""
    words: str = ""
    took: str = ""
    before: Pause | None = None
    entries: list[Entry] = field(default_factory=list[Entry])

    @property
    def failed(self) -> bool:
        """Something in it went wrong."""
        return any(entry.failed for entry in self.entries)

    @property
    def attempts(self) -> int:
        """How often it was asked."""
        return sum(entry.type in ("step.requested", "undo.requested", "child.requested") for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A page of rows. `now`: the pause that goes on. `pages`: how many there are."""

    rows: tuple[Row, ...]
    now: Pause | None
    page: int
    pages: int
    count: int


def timeline(history: History, now: datetime, *, failed_only: bool = False, page: int = 1) -> Timeline:
    """The rows of a page, oldest first; `failed_only`: those in which something went wrong."""
    rows = _rows(history, now)
    if failed_only:
        rows = [row for row in rows if row.failed]
    pages = max(1, -(-len(rows) // ROWS_PER_PAGE))
    page = min(max(page, 1), pages)
    shown = tuple(rows[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE])
    return Timeline(shown, _now(history, now) if page == pages else None, page, pages, len(rows))


def _rows(history: History, now: datetime) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    last: RecordView | None = None
    for record, state in _states(history.records):
        pause = _pause(record.recorded_at - last.recorded_at, state) if last is not None else None
        last = record
        place = _place(record)
        row = rows.get(place)
        first = row is None
        if row is None:
            row = rows[place] = _row(record, place, history, now)
        row.before = pause if first else row.before
        row.entries.append(
            Entry(
                record.version, record.recorded_at, record.type, record.actor,
                in_words(record.type, record.data), record.type in FAILED_TYPES, None if first else pause,
            )
        )  # fmt: skip
    return list(rows.values())


def _states(records: Sequence[RecordView]) -> Iterator[tuple[RecordView, State]]:
    """Every record with the state before it (one state, changed in place)."""
    state = State()
    for record in records:
        yield record, state
        evolve(state, Record(record.type, record.activity, dict(record.data)))


def _place(record: RecordView) -> tuple[str, str]:
    """What a record belongs to: an activity, an activity's undo, or itself."""
    if not record.activity:
        return ("saga", str(record.version))
    place = str(record.data.get("place") or "")
    if record.type.startswith("undo.") or place.startswith("~"):
        return ("undo", record.activity)
    return ("", record.activity)


def _row(record: RecordView, place: tuple[str, str], history: History, now: datetime) -> Row:
    of, activity = place
    if of == "saga":
        title = _OWN_WORDS.get(record.type) or record.type.replace(".", " ").replace("_", " ")
        look = "stuck" if record.type == "saga.stuck" else "refused" if record.type in FAILED_TYPES else "done"
        return Row(title, "saga", "", look)
    found = history.state.activities.get(activity)
    name = activity.rpartition("/")[2].removesuffix(".scope")
    inside = activity[: -len(activity.rpartition("/")[2])].rstrip("/")
    if of == "undo":
        look, words = undo_words(activity, history) if found is not None else ("undone", "")
        return Row(f"undo {name}", "undo", inside, look, words)
    if found is None:
        return Row(name, record.type.partition(".")[0], inside, "done")
    look, words = run_words(activity, found, history)
    length = history.took(found, now)
    took = span(length) if length is not None and found.kind != "compute" else ""
    return Row(name, found.kind.replace("_", " "), inside, look, words, took)


def _pause(length: timedelta, state: State) -> Pause | None:
    return Pause(span(length), why_waiting(state)) if length >= PAUSE_MIN else None


def _now(history: History, now: datetime) -> Pause | None:
    if history.state.ended or not history.records:
        return None
    length = now - history.records[-1].recorded_at
    return Pause(span(length), why_waiting(history.state), live=True) if length >= PAUSE_MIN else None


def why_waiting(state: State) -> str:
    """Why nothing runs, in words."""
    if state.stuck:
        return f"stuck at {_name(stuck_at(state, next(iter(state.stuck))))}, waiting for an operator"
    whys = [why for why in (_why(name, state) for name in reversed(state.activities)) if why]
    if not whys:
        return "ended" if state.ended else "nothing was due"
    return whys[0] if len(whys) == 1 else f"{whys[0]}, and {len(whys) - 1} more"


def _why(activity: str, state: State) -> str:
    found, name = state.activities[activity], _name(activity)
    if found.undo is not None and found.undo.status in ("asked", "backoff"):
        return f"waiting for the undo of {name}"
    if found.undo is not None and found.undo.status in ("taken", "handed"):
        return f"waiting for {found.undo.taken_by} to undo {name} by hand"
    if found.fence in ("asked", "backoff"):
        return f"asking what became of {name}"
    if found.status == "backoff":
        return f"waiting to try {name} again"
    if found.status == "requested":
        whom = (found.command or {}).get("participant") or (found.command or {}).get("saga") or "an answer"
        return f"waiting for {whom} to answer {name}"
    if found.status != "open":
        return ""
    if found.kind == "task":
        return f"waiting for a person: {name}"
    if found.kind == "wait":
        wanted = " or ".join(dict.fromkeys(str(want["type"]).rpartition(".")[2] for want in found.wants))
        return f"waiting for the event {wanted}"
    return f"a pause: {name}" if found.kind == "delay" else ""


def _name(activity: str) -> str:
    return node_path(activity).rpartition("/")[2] or "its own next step"
