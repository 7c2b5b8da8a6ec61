"""The data of a saga, field by field: what it is now, which record set it, and what it was before.

Rules of this file
- A field's name is where it comes from and its own path: `start.amount`, `hold_funds.hold_id`, `lines[2]/reserve.id`.
- What was undone keeps its field and says so: the value was true, and an auditor asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.api.views import RecordView

FIELDS_MAX = 2_000
DEPTH_MAX = 6


@dataclass(frozen=True, slots=True)
class Value:
    """A value that a record set."""

    text: str
    record: int
    at: datetime
    type: str
    by: str


@dataclass(slots=True)
class Field:
    """A field with all its values, the newest last. `undone`: the record that took back what it came from."""

    name: str
    values: list[Value] = field(default_factory=list[Value])
    undone: int = 0

    @property
    def now(self) -> Value:
        """The current value."""
        return self.values[-1]


@dataclass(frozen=True, slots=True)
class Change:
    """What differs in a field between two records; "" where it was not there."""

    name: str
    before: str
    after: str
    record: int


_SOURCES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "saga.started": lambda data: data.get("data"),
    "saga.completed": lambda data: data.get("result"),
    "step.succeeded": lambda data: data.get("result"),
    "child.completed": lambda data: data.get("result"),
    "event.received": lambda data: data.get("event"),
    "scope.interrupted": lambda data: data.get("event"),
    "value.computed": lambda data: data.get("value"),
    "state.entered": lambda data: {"state": data.get("state")},
    "branch.taken": lambda data: {"taken": data.get("label")},
    "task.opened": lambda data: {"shown": data.get("shown")},
    "task.amended": lambda data: {"shown": data.get("shown")},
    "task.decided": lambda data: (data.get("decision") or {}).get("answer"),
    "operator.completed_by_hand": lambda data: data.get("result", data.get("value")),
    "operator.settled": lambda data: data.get("result"),
}


def fields(records: Sequence[RecordView], until: int = 0) -> list[Field]:
    """Every field, in the order in which they came to be, as of record `until` (0: all)."""
    found: dict[str, Field] = {}
    for record in records:
        if until and record.version > until:
            break
        if record.type == "undo.succeeded":
            _mark_undone(found, record)
        source = _SOURCES.get(record.type)
        if source is None:
            continue
        for name, text in _flat(_origin(record), source(record.data), DEPTH_MAX):
            if name not in found and len(found) >= FIELDS_MAX:
                continue
            held = found.setdefault(name, Field(name))
            if not held.values or held.now.text != text:
                held.values.append(Value(text, record.version, record.recorded_at, record.type, record.actor))
    return list(found.values())


def changes(records: Sequence[RecordView], before: int, after: int) -> list[Change]:
    """What differs in the fields between two records."""
    old = {one.name: one.now for one in fields(records, before)} if before else {}
    return [
        Change(one.name, old[one.name].text if one.name in old else "", one.now.text, one.now.record)
        for one in fields(records, after)
        if one.name not in old or old[one.name].text != one.now.text
    ]


def _origin(record: RecordView) -> str:
    if record.type == "saga.started":
        return "start"
    if record.type == "saga.completed":
        return "result"
    return "saga" if record.type == "state.entered" else record.activity


def _mark_undone(found: Mapping[str, Field], record: RecordView) -> None:
    for one in found.values():
        if one.name.startswith(f"{record.activity}."):
            one.undone = record.version


def _flat(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    """Names and texts of the leaves of a value; what lies too deep stays together."""
    if isinstance(value, Mapping) and value and depth:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner, depth - 1)
    elif isinstance(value, (list, tuple)) and value and depth:
        for index, inner in enumerate(value):
            yield from _flat(f"{name}[{index}]", inner, depth - 1)
    elif value is not None:
        yield name, {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
