"""40x of tasks: four eyes that would be two (404), nobody decides (405), limits of authority (406), calendars (407)."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

from orchestrator.calendars import CalendarError, calendar
from orchestrator.definition.draft import Draft
from orchestrator.definition.emit import people
from orchestrator.definition.layout import Placed
from orchestrator.definition.tasks import Task
from orchestrator.definition.words import WorkingTime, name_of
from orchestrator.messages import Money


def check(draft: Draft) -> None:
    """Every task can be decided, and by others than those whom it excludes."""
    for node in draft.layout.nodes.values():
        if isinstance(node.word, Task):
            for other in node.word.exclude:
                if isinstance(other, Task) and draft.reached(node.path):
                    _excluded(draft, node, other)
            _deciders(draft, node, node.word)
            _limits(draft, node, node.word)
        for span in _spans(node.word):
            _calendar(draft, node, span)


def _excluded(draft: Draft, node: Placed, other: Task[..., Any, Any]) -> None:
    decided = [
        found
        for found in draft.results
        if found.owner is not None and isinstance(found.owner.word, Task) and found.owner.name == other.name
    ]
    question, walk = draft.known(decided)
    if decided and any(question.there(state) for state, _ in walk.seen.get(node.path, {})):
        return
    text = f"{node.label} excludes who decided {other.name}, which is never decided before it: four eyes would be two"
    draft.report("ORC404", node.word.place, text, do=f"put {other.name} before it, or drop it from exclude=")


def _deciders(draft: Draft, node: Placed, word: Task[..., Any, Any]) -> None:
    do = "name a Role, enough people, or a function that gives them"
    if word.votes < 1:
        draft.report("ORC405", word.place, f"{node.label} has votes={word.votes}", do="write votes= from 1")
    if callable(word.to):
        return
    named = people(word.to) + [entry for level in word.escalate for entry in people(level.to)]
    if not people(word.to):
        draft.report("ORC405", word.place, f"{node.label}: nobody may decide it, to= is empty", do=do)
    elif all("person" in entry for entry in named):
        distinct = {entry["person"] for entry in named}
        if len(distinct) < word.votes:
            text = f"{node.label} needs {word.votes} votes, but only {len(distinct)} may decide it"
            draft.report("ORC405", word.place, text, do=do)


def _limits(draft: Draft, node: Placed, word: Task[..., Any, Any]) -> None:
    """Limits need an amount to be held against, and an amount needs limits; each says one thing."""
    if word.catch_up not in ("each", "last"):
        draft.report("ORC406", word.place, f"{node.label} has catch_up={word.catch_up!r}", do='write "each" or "last"')
    from_amounts = [one for one in word.confirm if one is not True]
    needs = "limits=" if word.limits else "confirm= from an amount on" if from_amounts else ""
    if (needs and word.amount is None) or (word.amount is not None and not (needs or word.confirm)):
        has, lacks = (needs, "amount=") if needs else ("amount=", "limits= or confirm=")
        do = "write both: amount= reads out of what is shown what limits= and confirm= are held against"
        draft.report("ORC406", word.place, f"{node.label} has {has}, but no {lacks}", do=do)
        return
    if len({one.currency for one in from_amounts}) < len(from_amounts):
        text = f"{node.label} has confirm= with two amounts in one currency"
        draft.report("ORC406", word.place, text, do="keep the one that is meant")
    seen: set[tuple[str, str, str]] = set()
    for limit in word.limits:
        [entry] = people(limit.to)
        [(kind, who)], currency = entry.items(), limit.up_to.currency if limit.up_to is not None else ""
        if (kind, who, currency) in seen:
            text = f"{node.label} has two limits of {kind} {who}" + (f" in {currency}" if currency else "")
            draft.report("ORC406", word.place, text, do="keep the one that is meant")
        seen.add((kind, who, currency))
    if word.amount is not None:
        _amount(draft, node, word)


def _amount(draft: Draft, node: Placed, word: Task[..., Any, Any]) -> None:
    """It takes what is shown, and gives Money. A lambda says nothing of types: the kernel looks at what it gives."""
    amount: Any = word.amount
    try:
        parameters = list(inspect.signature(amount).parameters)
        hints = typing.get_type_hints(amount)
    except (TypeError, ValueError, NameError):
        parameters, hints = [""], {}
    gives = hints.get("return", Money)
    if len(parameters) != 1 or gives is not Money:
        text = f"{node.label}: amount={name_of(amount)} does not take what is shown and give Money"
        draft.report("ORC406", word.place, text, do="write a function of one parameter that returns Money")


def _spans(word: object) -> Iterator[WorkingTime]:
    found = [getattr(word, "within", None)]
    if isinstance(word, Task):
        found += [level.after for level in word.escalate] + list(word.remind)
    return (span for span in found if isinstance(span, WorkingTime))


def _calendar(draft: Draft, node: Placed, span: WorkingTime) -> None:
    try:
        calendar(span.calendar)
    except CalendarError as error:
        do = "name a bundled one, or register yours before the saga is written: orchestrator.calendars.register(…)"
        draft.report("ORC407", node.word.place, f"{node.label}: {error}", do=do)
