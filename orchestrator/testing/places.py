"""From an author's word to the activity that is meant: `hold_funds`, `reserve` with `at=2`.

Rules of this file
- The saga itself is searched first, then its children. What is found must be in the situation that the input needs.
- Nothing is guessed: none found, or several, is an error that lists what there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task
from orchestrator.definition.words import Word
from orchestrator.kernel.graph import indices
from orchestrator.kernel.state import Activity
from orchestrator.testing.known import At, Place, SpecificationError, author_name, indices_of, place_name
from orchestrator.testing.world import Actor, World

Asked = Step[..., Any] | Call[..., Any] | Task[..., Any, Any]


def find(world: World, word: Asked, at: At, fits: Callable[[Activity], bool], wanted: str) -> tuple[Actor, str]:
    """The one activity of this word that fits. Raises SpecificationError where there is none, or more than one."""
    candidates = runs(world, word, at)
    fitting = [(actor, key) for actor, key, found in candidates if fits(found)]
    if len(fitting) == 1:
        return fitting[0]
    name = place_name(word) + (f" at {indices_of(at)}" if at is not None else "")
    if fitting:
        ids = ", ".join(key for _, key in fitting)
        raise SpecificationError(f"{name} {wanted} more than once ({ids}): say at=")
    if candidates:
        what = "; ".join(f"{key}: {situation(found)}" for _, key, found in candidates)
        raise SpecificationError(f"{name} is not one that {wanted} ({what})\n{_under_way(world)}")
    raise SpecificationError(f"{name} has not been reached\n{_under_way(world)}")


def runs(world: World, word: Asked, at: At) -> list[tuple[Actor, str, Activity]]:
    """Every run of this word so far: saga, activity id, activity."""
    kind, name, index = _kind(word), place_name(word), indices_of(at)
    return [
        (actor, key, found)
        for actor in world.actors.values()
        if actor.state is not None and not actor.stubbed
        for key, found in actor.state.activities.items()
        if found.kind == kind and author_name(actor.definition, key) == name and index in (None, indices(key))
    ]


def _kind(word: Word) -> str:
    return type(word).__name__.lower()


def situation(found: Activity) -> str:
    """In a few words, what an activity is doing."""
    if found.undo_status:
        return f"{found.status}, undo {found.undo_status}"
    return f"{found.status}, fence {found.fence}" if found.fence else found.status


def _under_way(world: World) -> str:
    lines = [
        f"    {key}: {situation(found)}"
        for actor in world.actors.values()
        if actor.state is not None and not actor.stubbed
        for key, found in actor.state.activities.items()
        if found.unsettled or found.status == "open" or found.undo_status in ("asked", "backoff", "stuck", "taken")
    ]
    return "under way:\n" + ("\n".join(lines) or "    nothing")


def stuck_place(world: World, place: Place, at: At) -> tuple[Actor, str]:
    """The stuck (or handed over) place of this name, with its sign: `!hold_funds`, `~hold_funds`."""
    index = indices_of(at)
    found: list[tuple[Actor, str]] = []
    for actor in world.actors.values():
        if actor.state is None:
            continue
        handed = [f"~{key}" for key, a in actor.state.activities.items() if a.undo_status == "handed"]
        for sign in (*actor.state.stuck, *handed):
            mark = actor.state.stuck.get(sign)
            activity = (mark.activity if mark else "") or sign[1:]
            names = {sign, author_name(actor.definition, activity) if activity else ""}
            if mark is not None and mark.function:
                names.add(actor.definition.program.functions[mark.function].name)
            if place_name(place) in names and index in (None, indices(activity)):
                found.append((actor, sign))
    if len(found) == 1:
        return found[0]
    all_ = ", ".join(s for actor in world.actors.values() if actor.state for s in actor.state.stuck) or "none"
    problem = "is stuck at several places: say at=, or name one" if found else "is not stuck"
    raise SpecificationError(f"{place_name(place)} {problem}; stuck places: {all_}")
