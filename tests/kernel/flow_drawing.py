"""Draws a random flow with its children, of a theme where one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, NamedTuple

from orchestrator import Retry, Saga, call, delay, fail, keep, parallel, pivot, scope, step
from orchestrator.definition import DefinitionError
from tests.kernel.flow_contracts import Call, Go, PivotCall, Unwork, Work
from tests.kernel.flow_desk import desk
from tests.kernel.flow_maker import DEPTH, Maker

# Flows or faults that chance seldom gives.
AIMED = (
    "calls", "pivots", "late", "onward", "keeping", "owing", "hands", "carrying", "voting", "racing", "unsent",
    "pivoting", "desk",
)  # fmt: skip
OF_CHILDREN = frozenset({"calls"})


def _onward(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """Nothing is ever undone."""
    flow = maker.safe(2, undo=False)
    return Saga(name, version=1, starts_on=starts_on, flow=flow, forward_only=True)


def _calls(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """A child that cannot fail, called where only forward is left: it may still be refused."""
    if maker.child is None:
        return _onward(maker, name, starts_on)
    turn = step(retry=Retry(attempts=2), undo=None)(maker.function("pv", lambda: Work(what="pivot"), Work))
    flow = [pivot(turn), maker.called(1, undo=False), maker.called(1, undo=False)]
    return Saga(name, version=1, starts_on=starts_on, flow=flow)


def _pivots(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """A child with a pivot of its own is the pivot."""
    if maker.pivoted is None:
        return Saga(name, version=1, starts_on=starts_on, flow=[maker.step()])
    started = call(maker.pivoted)(maker.function("pc", lambda: PivotCall(id="pc"), PivotCall))
    flow = [maker.step(), pivot(started), maker.step(undo=False)]
    return Saga(name, version=1, starts_on=starts_on, flow=flow)


def _owing(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """Steps that give up where nobody undoes: an operator's retry is a new round."""
    if maker.random.random() < 0.5:
        return maker.saga(name, starts_on)
    on_failed: list[Any] = []
    for _ in range(3):
        build = maker.function("s", lambda: Work(what="w"), Work)
        on_failed.append(step(retry=Retry(attempts=1), within=timedelta(seconds=5), undo=None)(build))
    return Saga(name, version=1, starts_on=starts_on, flow=[maker.step(), fail("no")], on_failed=on_failed)


def _nested(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """A scope that goes back beside work that goes on: in another scope, or in the saga itself."""
    if maker.child is None or maker.random.random() < 0.3:
        return maker.saga(name, starts_on)
    random = maker.random
    going_back = scope(maker.step(), maker.step(), fail("inner")).named(maker.name("sc")).on_failed(*maker.path(0))
    beside = [maker.step() for _ in range(random.choice([1, 2, 3]))]
    beside += [keep()] if maker.theme == "keeping" else []
    both: Any = [maker.step(), parallel([going_back], beside).named(maker.name("par"))]
    if maker.theme == "keeping" or random.random() < 0.6:
        ends = [fail("outer")] if random.random() < 0.4 else []
        both = [scope(*both, *ends).named(maker.name("sc")).on_failed(*maker.path(0))]
    return Saga(name, version=1, starts_on=starts_on, flow=[maker.step(), *both, maker.step()])


def _voting(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """Little else than decisions of people."""
    decisions = [maker.decision(DEPTH, True) for _ in range(maker.random.choice([1, 2, 3]))]
    return Saga(name, version=1, starts_on=starts_on, flow=[maker.step(), *decisions])


def _hands(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """Undos that a scope has begun, and the saga goes on with."""
    return _nested(maker, name, starts_on) if maker.random.random() < 0.6 else maker.saga(name, starts_on)


def _racing(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """Several waits for one event, opened one after the other."""
    ways: list[Any] = []
    for _ in range(maker.random.choice([2, 3])):
        ahead = [delay(timedelta(minutes=maker.random.choice([1, 5]))).named(maker.name("d"))]
        ways.append([*(ahead if maker.random.random() < 0.5 else []), maker.waiting(0, True), maker.step()])
        maker.keys[:] = maker.keys[:1] * 9  # the next one most often wants the same
    return Saga(name, version=1, starts_on=starts_on, flow=[maker.step(), parallel(*ways).named("race")])


def _illegal(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """What the compiler refuses, and rightly so."""
    if maker.child is None or maker.pivoted is None:
        return maker.saga(name, starts_on)
    turn = pivot(step(retry=Retry(attempts=2), undo=None)(maker.function("pv", lambda: Work(what="pivot"), Work)))
    limited = scope(maker.step(), turn, within=timedelta(minutes=1)).named("limited")
    limited = limited.on_timeout(fail("slow")).on_failed()
    child = call(maker.pivoted)(maker.function("pc", lambda: PivotCall(id="pc"), PivotCall))
    flows: list[list[Any]] = [
        [maker.step(), limited, maker.step()],
        [maker.step(), turn, fail("too late")],
        [maker.step(), child, maker.step(), fail("no")],
    ]
    return Saga(name, version=1, starts_on=starts_on, flow=maker.random.choice(flows))


def _pivoting(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """A pivot that people have to settle."""
    turn = step(retry=Retry(attempts=1), undo=None)(maker.function("pv", lambda: Work(what="pivot"), Work))
    flow = [maker.step(), pivot(turn), maker.step(undo=False), maker.step(undo=False)]
    return Saga(name, version=1, starts_on=starts_on, flow=flow)


AIMED_FLOWS: dict[str, Callable[[Maker, str, Any], Saga[Any]]] = {
    "onward": _onward,
    "calls": _calls,
    "pivots": _pivots,
    "owing": _owing,
    "keeping": _nested,
    "carrying": _nested,
    "voting": _voting,
    "racing": _racing,
    "pivoting": _pivoting,
    "illegal": _illegal,
    "hands": _hands,
    "desk": desk,
}


def pivot_child(random: Random) -> Saga[Any]:
    """A child that passes a pivot of its own."""

    @step
    def before() -> Work:
        return Work(what="before")

    @before.undo
    def take_back() -> Unwork:
        return Unwork(what="x")

    @step(retry=Retry(attempts=2))
    def turn() -> Work:
        return Work(what="pivot")

    @step
    def behind() -> Work:
        return Work(what="behind")

    flow: list[Any] = [before, pivot(turn)]
    return Saga("pivoted", version=1, starts_on=PivotCall, flow=[*flow, behind] if random.random() < 0.6 else flow)


def _saga(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    aimed = AIMED_FLOWS.get(maker.theme)
    return aimed(maker, name, starts_on) if aimed else maker.saga(name, starts_on)


class Drawn(NamedTuple):
    """Sagas of one random flow, and the keys of the events that its waits want."""

    parent: Saga[Any]
    child: Saga[Any]
    pivoted: Saga[Any]
    keys: list[str]


def draw(random: Random, theme: str = "") -> Drawn | None:
    """A random flow with its children, or None where it was no legal one (the compiler says which rule it breaks).

    `theme`: the kinds of nodes that it prefers; drawn where none is asked for.
    """
    try:
        child_maker = Maker(random)
        child_maker.theme = theme if theme in OF_CHILDREN else child_maker.theme
        child = _saga(child_maker, "child", Call)
        pivoted = pivot_child(random)
        maker = Maker(random, child=child, pivoted=pivoted)
        maker.theme = theme or maker.theme
        parent = _saga(maker, "parent", Go)
    except DefinitionError:
        return None
    return Drawn(parent, child, pivoted, child_maker.keys + maker.keys)
