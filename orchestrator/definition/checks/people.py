"""40x of tasks: four eyes that would be two (404), and tasks that nobody may decide (405)."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.draft import Draft
from orchestrator.definition.emit import people
from orchestrator.definition.layout import Placed
from orchestrator.definition.tasks import Task


def check(draft: Draft) -> None:
    """Every task can be decided, and by others than those whom it excludes."""
    for node in draft.layout.nodes.values():
        if isinstance(node.word, Task):
            for other in node.word.exclude:
                if isinstance(other, Task) and draft.reached(node.path):
                    _excluded(draft, node, other)
            _deciders(draft, node, node.word)


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
