"""Injection: calling an author's function with the results that it asks for.

Rules of this file
- The plan (`Param`, `Source`) was made at import; here it is only carried out against a state.
- Results of undone activities are gone. Inside a round `T` is this round's, `list[T]` all rounds' up to now; outside a
  loop `T` is the last round's.
- What a function raises becomes StuckError with the last lines of its traceback: the saga waits, nothing crashes.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from orchestrator.kernel.graph import Function, Param, Program, Source, indices, node_path
from orchestrator.kernel.places import spot
from orchestrator.kernel.state import Activity, State
from orchestrator.messages.words import Context, Failure

TRACEBACK_LINES_MAX = 6
_MISSING = object()


class FunctionError(Exception):
    """A user function raised; the text is what an operator needs to see."""


def invoke(program: Program, state: State, activity: str, key: str, now: int) -> Any:
    """The value of function `key` for `activity`: typed by an operator's hand, or what the function returns.

    Raises FunctionError when the function raises or a result cannot be read.
    """
    function = program.functions[key]
    by_hand = f"{key}@{activity}"
    if by_hand in state.by_hand:
        value = state.by_hand[by_hand]
        return program.codecs[function.returns].load(value) if function.returns else value
    try:
        arguments = {param.name: _argument(program, state, activity, param, now) for param in function.params}
        return function.call(**arguments)
    except Exception as error:
        raise FunctionError(_reason(function, error)) from error


def _reason(function: Function, error: Exception) -> str:
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    text = "".join(lines[-TRACEBACK_LINES_MAX:]).strip()
    return f"{function.name} raised {type(error).__name__}: {error}\n{text}"[:4000]


def _argument(program: Program, state: State, activity: str, param: Param, now: int) -> Any:
    if param.want == "context":
        return Context(
            saga_id=state.saga_id,
            tenant=state.tenant,
            business_key=state.business_key,
            now=instant(now),
            iteration=indices(activity),
        )
    if param.want == "failure":
        return _failure(program, state, activity)
    if param.want == "many":
        return [value for source in param.sources for value in _all(program, state, activity, source)]
    found, newest = None, -1
    for source in param.sources:
        value, settled = _newest(program, state, activity, source)
        if value is not _MISSING and settled > newest:
            found, newest = value, settled
    if newest < 0 and param.want == "one":
        made_by = ", ".join(sorted({source.path or "the start" for source in param.sources}))
        raise LookupError(f"{param.name} is not there yet (made by {made_by})")
    return found


def _failure(program: Program, state: State, activity: str) -> Failure:
    """The innermost failure that this activity answers: of the scope in whose on_failed it stands, else of the saga."""
    here = activity
    while True:
        place = spot(program.graph, here)
        if place.node.parent is None:
            break
        owner = state.activities.get(place.parent)
        if place.node.block == "on_failed" and owner is not None and owner.failure:
            return Failure(**owner.failure)
        if owner is not None and owner.failure and owner.kind == "scope" and state.scopes.get(place.parent):
            return Failure(**owner.failure)
        here = place.parent
    failure = state.failure or state.pending
    if failure is None:
        raise LookupError("there is no failure here")
    return Failure(**failure)


def _newest(program: Program, state: State, activity: str, source: Source) -> tuple[Any, int]:
    if source.origin == "start":
        if source.type and source.type != state.start_type:
            return _MISSING, -1
        return _load(program, state, ("start", 0), source.codec, state.start_data), 0
    if source.origin == "item":
        owner, index = _around(program, activity, source.path)
        return _load(program, state, (owner, index), source.codec, state.items[owner][index]), 1
    best: tuple[str, Activity] | None = None
    for key, found in _matching(program, state, activity, source, rounds=False):
        if best is None or found.settled > best[1].settled:
            best = key, found
    if best is None:
        return _MISSING, -1
    return _load(program, state, (best[0], best[1].settled), source.codec, best[1].result), best[1].settled


def _all(program: Program, state: State, activity: str, source: Source) -> Iterator[Any]:
    if source.origin != "result":
        value, settled = _newest(program, state, activity, source)
        if settled >= 0:
            yield value
        return
    matching = sorted(_matching(program, state, activity, source, rounds=True), key=lambda item: indices(item[0]))
    for key, found in matching:
        yield _load(program, state, (key, found.settled), source.codec, found.result)


def _matching(
    program: Program, state: State, activity: str, source: Source, *, rounds: bool
) -> Iterator[tuple[str, Activity]]:
    """Activities of a node that `activity` can see. `rounds`: earlier rounds of a repeat around both count too."""
    direct = state.activities.get(source.path)
    if direct is not None or ("[" not in activity and not state.joins and not _in_loop(program, source.path)):
        if direct is not None and _shows(direct, source):
            yield source.path, direct
        return
    prefix = shared_prefix(program, activity, source.path, rounds=rounds)
    for key, found in state.activities.items():
        seen = key.startswith(prefix) and node_path(key) == source.path and _shows(found, source)
        if seen and (rounds or _of_last_round(program, state, key, prefix)):
            yield key, found


def _of_last_round(program: Program, state: State, key: str, prefix: str) -> bool:
    """Outside a repeat a result is the last round's, also where that round made none and an earlier one did."""
    while True:
        place = spot(program.graph, key)
        if place.node.parent is None or len(place.parent) < len(prefix):
            return True
        loop = program.graph.nodes[place.node.parent].kind == "repeat"
        if loop and place.index is not None and place.index != state.activities[place.parent].round:
            return False
        key = place.parent


def _shows(found: Activity, source: Source) -> bool:
    if source.type and found.result_type and source.type != found.result_type:
        return False
    return found.stands or (found.kind == "task" and found.status == "open" and found.result is not None)


def _in_loop(program: Program, path: str) -> bool:
    node = program.graph.nodes[path]
    while node.parent is not None:
        node = program.graph.nodes[node.parent]
        if node.kind in ("for_each", "repeat"):
            return True
    return False


def shared_prefix(program: Program, activity: str, path: str, *, rounds: bool) -> str:
    """The longest loop prefix of `activity` whose loop also contains `path`: `lines[2]` for lines/reserve."""
    here, best = activity, ""
    while True:
        place = spot(program.graph, here)
        if place.node.parent is None:
            return best
        owner = program.graph.nodes[place.node.parent]
        around_both = place.index is not None and path.startswith(owner.path + "/")
        if around_both and not (rounds and owner.kind == "repeat"):
            return f"{place.parent}[{place.index}]"
        here = place.parent


def _around(program: Program, activity: str, path: str) -> tuple[str, int]:
    """The for_each `path` that is around this activity, and the index of the current item."""
    here = activity
    while True:
        place = spot(program.graph, here)
        if place.node.parent is None:
            raise LookupError(f"no item of {path} here")
        if place.node.parent == path and place.index is not None:
            return place.parent, place.index
        here = place.parent


def _load(program: Program, state: State, where: tuple[str, int], codec: str, raw: Any) -> Any:
    """Decoded once per settled result: recorded data never changes. What amends an open task may come again."""
    owner = state.activities.get(where[0])
    if owner is not None and not owner.settled and owner.kind != "for_each":
        return program.codecs[codec].load(raw)
    cached = state.cache.get((where, codec), _MISSING)
    if cached is _MISSING:
        cached = state.cache[(where, codec)] = program.codecs[codec].load(raw)
    return cached


def instant(microseconds: int) -> datetime:
    """An aware UTC datetime."""
    return datetime.fromtimestamp(microseconds / 1_000_000, tz=UTC)
