"""A stuck saga beside a run of the same definition that came to its end: where they first part, in words.

Rules of this file
- Pure: two streams in, sentences out.
- Branches that run side by side write their records in any order, so streams are compared node by node: the first
  record of the stuck saga, in its own order, whose node the other run passed differently, or never came to.
- What both were asked to do is compared as well: a run that went well may have been asked something else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.api.views import RecordView
from orchestrator.kernel.graph import node_path
from orchestrator.wording import in_words

FIELDS_MAX = 12
VALUE_CHARACTERS_MAX = 80
# What people write beside the flow, and what is only the product's bookkeeping, parts nobody's ways.
_BESIDE = ("task.commented", "task.claimed", "task.released", "task.linked", "task.delegated", "operator.", "timer.")


@dataclass(frozen=True, slots=True)
class Parting:
    """Where they part. `record`: of the stuck saga; `here`, `there`: what happened in each; `is_new`: never there."""

    record: RecordView
    node: str
    here: str
    there: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison. `fields`: (name, here, there) of what the starts say differently; `more` are not shown."""

    parting: Parting | None
    fields: tuple[tuple[str, str, str], ...]
    more: int
    alike: int


def compare(stuck: Sequence[RecordView], good: Sequence[RecordView]) -> Compared:
    """Compares them."""
    fields = _fields(_start(stuck), _start(good))
    ways = _by_node(good)
    passed: dict[str, int] = defaultdict(int)
    alike = 0
    for record in stuck:
        if _is_beside(record):
            continue
        node = node_path(record.activity)
        way = ways.get(node, [])
        place = passed[node]
        passed[node] += 1
        if place >= len(way) or way[place].type != record.type:
            found = Parting(record, node, _said(record), _there(way, place), node not in ways)
            return Compared(found, tuple(fields[:FIELDS_MAX]), max(0, len(fields) - FIELDS_MAX), alike)
        alike += 1
    return Compared(None, tuple(fields[:FIELDS_MAX]), max(0, len(fields) - FIELDS_MAX), alike)


def _by_node(records: Sequence[RecordView]) -> Mapping[str, list[RecordView]]:
    found: dict[str, list[RecordView]] = defaultdict(list)
    for record in records:
        if not _is_beside(record):
            found[node_path(record.activity)].append(record)
    return found


def _is_beside(record: RecordView) -> bool:
    return record.type.startswith(_BESIDE)


def _there(way: Sequence[RecordView], place: int) -> str:
    if not way:
        return ""
    if place < len(way):
        return _said(way[place])
    return f"nothing more, after {_said(way[-1])}"


def _said(record: RecordView) -> str:
    what = record.type.replace(".", " ").replace("_", " ")
    words = in_words(record.type, record.data).partition(" Traceback (most recent")[0]
    return f"{what}: {words}" if words else what


def _start(records: Sequence[RecordView]) -> Mapping[str, Any]:
    data = records[0].data.get("data") if records else None
    return data if isinstance(data, Mapping) else {}


def _fields(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    names = [*here, *(name for name in there if name not in here)]
    return [
        (name, _value(here, name), _value(there, name))
        for name in names
        if (name in here) != (name in there) or here[name] != there[name]
    ]


def _value(data: Mapping[str, Any], name: str) -> str:
    if name not in data:
        return "not given"
    text = str(data[name])
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 1]}…"
