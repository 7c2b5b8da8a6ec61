"""40x: the business life cycle (401, 402)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.definition.draft import Draft
from orchestrator.definition.layout import Placed
from orchestrator.definition.walk import Question
from orchestrator.definition.words import Enter, text_of


class Life(Question[str]):
    """Which state of the life cycle is it in? Branches side by side may see each other's states."""

    def __init__(self, entered: Iterable[Placed]) -> None:
        self._entered = list(entered)

    def done(self, node: Placed, state: str) -> str:
        return text_of(node.word.state) if isinstance(node.word, Enter) else state

    def branch_starts(self, node: Placed, branch: str, state: str) -> Iterable[str]:
        beside = [
            text_of(other.word.state)
            for other in self._entered
            if isinstance(other.word, Enter)
            and any(parent is node and block != branch for parent, block in other.ancestors())
        ]
        return dict.fromkeys((state, *beside))


def check(draft: Draft) -> None:
    """Every `enter` is a transition that `states=` allows, on every path."""
    states = draft.settings.states
    entered = [node for node in draft.layout.nodes.values() if isinstance(node.word, Enter)]
    declared = {*states, *(state for nexts in states.values() for state in nexts)}
    for node in entered:
        word = node.word
        if isinstance(word, Enter) and word.state not in declared:
            known = ", ".join(str(state) for state in states)
            do = f"add it to states= (known: {known})" if states else "declare the life cycle: Saga(states={…})"
            draft.report("ORC402", word.place, f"{node.label}: the state is not declared", do=do)
    if states:
        _transitions(draft, [node for node in entered if isinstance(node.word, Enter) and node.word.state in declared])


def _transitions(draft: Draft, entered: list[Placed]) -> None:
    allowed = {
        text_of(state): {text_of(following) for following in nexts} for state, nexts in draft.settings.states.items()
    }
    walk = draft.walk(Life(entered), {next(iter(allowed)): ()})
    for node in entered:
        word = node.word
        assert isinstance(word, Enter)
        after = text_of(word.state)
        for (before, _), trail in walk.seen.get(node.path, {}).items():
            if before != after and after not in allowed.get(before, set()):
                path = ", ".join(trail) or "the straight way"
                nexts = ", ".join(sorted(allowed.get(before, set()))) or "nothing"
                do = f"allow {after} after {before} in states= (allowed now: {nexts}), or change the flow"
                text = f"{node.label}: from {before} to {after} is not allowed"
                draft.report("ORC401", word.place, text, path=path, do=do)
