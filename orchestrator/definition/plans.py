"""Injection plans: how each parameter of each function is filled, and codes 104–113.

Rules of this file
- A parameter whose name is that of a node means that node; otherwise its type decides.
- Whether a result is there is never guessed: the walk says for every path to the function.
- An undo function may ask for the reply of its own step; that is never ambiguous, and always there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.definition.diagnosis import Diagnosis
from orchestrator.definition.draft import Draft
from orchestrator.definition.functions import NONE, Parameter, item_of, members
from orchestrator.definition.known import AMBIGUOUS, Known, bits
from orchestrator.definition.layout import ON_FAILED, Placed
from orchestrator.definition.results import Result, fits, named
from orchestrator.definition.roles import Use
from orchestrator.definition.tasks import Task
from orchestrator.definition.walk import Trail
from orchestrator.kernel.graph import Param, Source
from orchestrator.messages import Context, Failure

Want = Literal["one", "optional", "many"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a parameter asks for: one of these types, as one value, perhaps none, or all."""

    want: Want
    types: tuple[Any, ...]


def plan(draft: Draft, use: Use) -> tuple[Param, ...]:
    """The injection plan of one function; what cannot be filled is reported and left out."""
    params = (_param(draft, use, parameter) for parameter in use.signature.params)
    return tuple(param for param in params if param is not None)


def _param(draft: Draft, use: Use, parameter: Parameter) -> Param | None:
    hint = parameter.hint
    if hint is Context:
        return Param(parameter.name, "context")
    if Failure in members(hint):
        if not has_failure(use) and NONE in members(hint):
            return Param(parameter.name, "optional")
        if not has_failure(use):
            Diagnosis(draft, use, parameter).no_failure()
        return Param(parameter.name, "failure")
    by_name = named(draft.results, parameter.name)
    pool = by_name or draft.results
    wish = _wish(hint, pool)
    if by_name and not _matching(wish, pool):
        Diagnosis(draft, use, parameter).other_type(by_name[0])
        return None
    amending = _amending(use, wish)
    if amending is not None:
        return Param(parameter.name, wish.want, (amending,))
    matching = _matching(wish, pool)
    own = [found for found in matching if use.role == "undo" and found.owner is use.node]
    return _filled(draft, use, parameter, wish, own or matching)


def _filled(draft: Draft, use: Use, parameter: Parameter, wish: Wish, candidates: Sequence[Result]) -> Param | None:
    diagnosis = Diagnosis(draft, use, parameter)
    if not candidates:
        if wish.want == "optional":
            return Param(parameter.name, "optional")
        if not parameter.defaulted:
            diagnosis.not_made(wish.types[0])
        return None
    many = wish.want == "many"
    question, walk = draft.known(_listable(candidates) if many else candidates, many)
    states = _states(question, use, walk.seen.get(use.node.path, {}))
    if use.role == "undo" and wish.want != "one":
        for seen in (*walk.seen.values(), *walk.ends.values(), walk.out):  # what may have come after the step, too
            states.update(dict.fromkeys((question.there(key[0]) for key in seen), ()))
    ever = [found for found in candidates if any(found.bit & state for state in states)]
    if states:
        _judge(diagnosis, wish, candidates, states, is_undo=use.role == "undo")
    return Param(parameter.name, wish.want, tuple(found.source for found in ever))


def _states(question: Known, use: Use, seen: dict[tuple[int, bool], Trail]) -> dict[int, Trail]:
    """The sets of results that are there when the function is called, with the path to each."""
    own = bits(found for found in question.tracked if found.owner is use.node) if use.role == "undo" else 0
    found: dict[int, Trail] = {}
    for (state, _), trail in seen.items():
        found.setdefault(question.there(state) | own, trail)
    return found


def _judge(
    diagnosis: Diagnosis, wish: Wish, candidates: Sequence[Result], states: dict[int, Trail], is_undo: bool
) -> None:
    ever = [found for found in candidates if any(found.bit & state for state in states)]
    if wish.want == "many":
        if not ever:
            diagnosis.always_empty(candidates)
        return
    several = next((state for state in states if state.bit_count() > 1), 0)
    if several and not (is_undo and wish.want == "optional"):
        many = several.bit_count() == AMBIGUOUS and len(ever) > AMBIGUOUS  # perhaps more than the walk has kept
        diagnosis.ambiguous(ever if many else [found for found in candidates if found.bit & several])
    elif not ever:
        diagnosis.never_there(candidates, optional=wish.want == "optional")
    elif 0 in states and wish.want == "one":
        diagnosis.not_on_every_path(candidates, states[0])


def _wish(hint: Any, pool: Sequence[Result]) -> Wish:
    alternatives = members(hint)
    types = tuple(item for item in alternatives if item is not NONE)
    inner = item_of(hint)
    if inner is not None and not any(fits(hint, found.type) for found in pool):
        return Wish("many", members(inner))
    return Wish("optional" if NONE in alternatives else "one", types)


def _matching(wish: Wish, pool: Sequence[Result]) -> list[Result]:
    return [found for found in pool if any(fits(wanted, found.type) for wanted in wish.types)]


def _listable(candidates: Sequence[Result]) -> list[Result]:
    return [found for found in candidates if found.source.origin != "item"]


def _amending(use: Use, wish: Wish) -> Source | None:
    """The event of `amend_on`: for the functions that build what is shown, and that say who is excluded by it."""
    word = use.node.word
    if not use.role.startswith(("shown", "exclude")) or not isinstance(word, Task) or word.amends is None:
        return None
    if wish.want != "optional" or not any(fits(wanted, word.amends) for wanted in wish.types):
        return None
    return Source("result", use.node.path, f"amend:{use.node.path}", word.amends.wire_name)


def has_failure(use: Use) -> bool:
    """There is a failure to speak of: an undo function, or a path that follows one."""
    return use.role == "undo" or follows_failure(use.node)


def follows_failure(node: Placed) -> bool:
    """The node lies on the saga's `on_failed` path, or on a scope's."""
    return node.root == ON_FAILED or any(block == ON_FAILED for _, block in node.ancestors())
