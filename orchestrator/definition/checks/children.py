"""30x and 40x of calls: children with a pivot (307, 308), children that end without the promised result (403)."""

from __future__ import annotations

from typing import Any

from orchestrator.definition.draft import Draft
from orchestrator.definition.functions import show
from orchestrator.definition.layout import Placed
from orchestrator.definition.results import reply_of
from orchestrator.definition.steps import Call
from orchestrator.messages import Done


def check(draft: Draft) -> None:
    """Every call fits the child that it calls."""
    for use in draft.uses:
        word = use.node.word
        if isinstance(word, Call) and use.role == "build":
            _pivots(draft, use.node, word)
            _results(draft, use.node, word, use.signature.returns)


def _pivots(draft: Draft, node: Placed, word: Call[..., Any]) -> None:
    child = word.child
    can_be_undone = any(not passed for _, passed in draft.reach.seen.get(node.path, {}))
    if not child.pivots or not can_be_undone:
        return
    if not word.is_pivot:
        text = f"{node.label}: child {child.name} has a pivot, so it cannot be undone once it has passed it"
        draft.report("ORC307", word.place, text, do=f"write pivot({node.name}): the call is this saga's pivot, too")
        return
    for good in child.good_ends:
        if not good.passed_pivot:
            text = f"{node.label} is a pivot, but child {child.name} can complete without passing its own"
            do = f"let every good end of {child.name} lie behind its pivot"
            draft.report("ORC308", word.place, text, path=good.path, do=do)
            return


def _results(draft: Draft, node: Placed, word: Call[..., Any], start: Any) -> None:
    promised = reply_of(start)
    if promised is None or promised is Done or start not in word.child.starts_on:
        return
    for good in word.child.good_ends:
        if good.result is None or not issubclass(good.result, promised):
            given = f"gives {show(good.result)}" if good.result else "gives no result"
            text = f"{node.label}: {show(start)} promises {show(promised)}, but child {word.child.name} {given}"
            do = f"end it with end(…, result=fn), where fn gives {show(promised)}"
            draft.report("ORC403", word.place, text, path=good.path, do=do)
            return
