"""23x: bounds, leaving, and time limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator.definition.draft import Draft
from orchestrator.definition.forks import Parallel
from orchestrator.definition.layout import BODY, Placed
from orchestrator.definition.loops import ForEach, Repeat
from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task
from orchestrator.definition.waits import Scope
from orchestrator.definition.words import CONSTANT, Leave, WorkingTime

NOTHING = timedelta(0)


def check(draft: Draft) -> None:
    """Codes 231–234."""
    saga = draft.settings
    if saga.within is not None and saga.within <= NOTHING:
        draft.report("ORC234", saga.place, f"the saga has within={saga.within}", do="write a time that can pass")
    for node in draft.layout.nodes.values():
        word = node.word
        if isinstance(word, Repeat) and word.at_most < 1:
            do = "write at_most= with the largest number of rounds that makes sense"
            draft.report("ORC231", word.place, f"{node.label} has at_most={word.at_most}", do=do)
        if isinstance(word, ForEach) and word.at_once < 1:
            do = "write at_once= with how many items may run side by side, from 1"
            draft.report("ORC231", word.place, f"{node.label} has at_once={word.at_once}", do=do)
        _limits(draft, node)
        if isinstance(word, Leave):
            _leaving(draft, node)
        if isinstance(word, (Scope, Call)) and word.within is None and "on_timeout" in node.blocks:
            text = f"{node.label} has on_timeout, but no within="
            draft.report("ORC233", word.place, text, do="write within=, or drop on_timeout")


def _limits(draft: Draft, node: Placed) -> None:
    """Constant limits lie in the future, and escalations before the limit of their task."""
    word = node.word
    within = getattr(word, "within", None)
    if isinstance(within, CONSTANT) and _length(within) <= NOTHING:
        draft.report("ORC234", word.place, f"{node.label} has within={within}", do="write a time that can pass")
    for undo in word.undos if isinstance(word, Step) else []:
        if undo.within <= NOTHING:
            text = f"undo {undo.__name__} has within={undo.within}"
            draft.report("ORC234", undo.place, text, do="write a time that can pass")
    if isinstance(word, Task):
        _ladder(draft, node, word)


def _ladder(draft: Draft, node: Placed, word: Task[..., Any, Any]) -> None:
    """Levels and reminders come before the end of the task's time, unless an earlier level has set that anew."""
    moved: list[Any] = []
    for level in word.escalate:
        if _length(level.after) <= NOTHING or (not moved and _not_before(level.after, word.within)):
            text = f"{node.label} escalates after {level.after}, which is not before its limit of {word.within}"
            draft.report("ORC234", word.place, text, do="escalate earlier, or give the task more time")
        moved += [level] if level.reset_sla else []
    for after in word.remind:
        if _length(after) <= NOTHING or (not moved and _not_before(after, word.within)):
            text = f"{node.label} reminds after {after}, which is not before its limit of {word.within}"
            draft.report("ORC234", word.place, text, do="remind earlier, or give the task more time")


def _length(span: timedelta | WorkingTime) -> timedelta:
    return span.time if isinstance(span, WorkingTime) else span


def _not_before(span: timedelta | WorkingTime, within: Any) -> bool:
    """Only what is measured alike can be compared."""
    alike = type(span) is type(within) and getattr(span, "calendar", "") == getattr(within, "calendar", "")
    return alike and _length(span) >= _length(within)


def _leaving(draft: Draft, node: Placed) -> None:
    for parent, block in node.ancestors():
        if isinstance(parent.word, (Parallel, ForEach)):
            text = f"leave() stands inside {parent.label}, whose other branches would go on"
            do = f"let the branch be over, and leave after {parent.label}"
            draft.report("ORC232", node.word.place, text, do=do)
            return
        if isinstance(parent.word, Repeat) and block == BODY:
            return
    draft.report(
        "ORC232", node.word.place, "leave() stands in no repeat", do="put it inside repeat(…), or write end(…)"
    )
