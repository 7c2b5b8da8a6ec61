"""Random legal flows, written with the authors' own words: definition, compiler and kernel are tried together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

from orchestrator import (
    Command,
    Done,
    Event,
    Key,
    Reply,
    Retry,
    Role,
    Saga,
    call,
    choose,
    compute,
    delay,
    end,
    fail,
    for_each,
    keep,
    leave,
    parallel,
    pivot,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
    when,
)
from orchestrator.definition import DefinitionError
from orchestrator.testing.exploring import Scenario


class Go(Event):
    """Starts the random saga."""

    id: Key[str]
    size: int = 3


class Call(Command[Done]):
    """Starts the random child."""

    id: Key[str]


class Nudge(Event):
    """An event that scopes and waits want."""

    id: Key[str]


class Poke(Event):
    """Another one."""

    id: Key[str]


class Ended(Event):
    """What the saga publishes."""

    id: Key[str]


class Worked(Reply):
    """The reply of every step."""

    note: str = ""


class Work(Command[Worked], to="worker"):
    """What every step asks."""

    what: str


class Unwork(Command[Done], to="worker"):
    """What every undo asks."""

    what: str


class Shown(Reply):
    """What a task shows."""

    text: str


NODES_MAX = 40

REPLIES = {Work.wire_name: {"note": "done"}, Unwork.wire_name: {}}


class Maker:
    """Makes one random flow. Depth and size are bounded; names are unique."""

    def __init__(self, random: Random, *, child: Saga[Any] | None = None) -> None:
        self.random = random
        self.child = child
        self.count = 0
        self.items_around = 0
        self.keys: list[str] = []

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def function(self, prefix: str, body: Callable[..., Any], hint: Any) -> Callable[..., Any]:
        """A function of a unique name, typed as authors type theirs."""

        def made() -> Any:
            return body()

        made.__name__ = made.__qualname__ = self.name(prefix)
        made.__annotations__ = {"return": hint}
        return made

    def step(self, *, undo: bool = True) -> Any:
        """A step; after the pivot without undo."""
        random = self.random
        build = self.function("s", lambda: Work(what=f"w{self.count}"), Work)
        policy = Retry(attempts=random.choice([1, 2, 3]))
        reads = random.random() < 0.1
        if undo and not reads and random.random() < 0.85:
            made = step(retry=policy, within=timedelta(seconds=random.choice([5, 30])))(build)
            made.undo(retry=Retry(attempts=random.choice([1, 2, 5])))(
                self.function("u", lambda: Unwork(what="x"), Unwork)
            )
            return made
        if reads:
            return step(retry=policy, reads=True)(build)
        return step(retry=policy, undo=None)(build)

    def safe(self, depth: int, *, undo: bool = True) -> list[Any]:
        """Nodes that may stand anywhere."""
        made: list[Any] = [self.node(depth, undo=undo) for _ in range(self.random.randrange(1, 4))]
        return made

    def path(self, depth: int, *, undo: bool = True) -> list[Any]:
        return [] if self.random.random() < 0.2 or depth < -1 else self.safe(depth, undo=undo)

    def node(self, depth: int, *, undo: bool = True) -> Any:
        kinds = [self.plain, self.plain]
        if depth > -2 and self.count < NODES_MAX:
            kinds += [self.refusable, self.decision]
            if not self.items_around:
                kinds.append(self.waiting)
        if depth > 0 and self.count < NODES_MAX:
            kinds += [self.fork, self.side_by_side, self.items, self.rounds, self.part, self.part, self.part]
            if self.child is not None:
                kinds.append(self.called)
        return self.random.choice(kinds)(depth, undo)

    def plain(self, depth: int, undo: bool) -> Any:
        kinds = [
            lambda: self.step(undo=undo),
            lambda: self.step(undo=undo),
            lambda: compute(self.function("c", lambda: 7, int)),
            lambda: delay(timedelta(minutes=self.random.choice([1, 60]))).named(self.name("d")),
            lambda: publish(self.function("p", lambda: Ended(id="k"), Ended)),
        ]
        chosen: Callable[[], Any] = self.random.choice(kinds)
        return chosen()

    def refusable(self, depth: int, undo: bool) -> Any:
        made = self.step(undo=undo)
        if self.random.random() < 0.5:
            made = made.on_refused(*self.path(depth - 1, undo=undo))
        if self.random.random() < 0.4:
            made = made.on_exhausted(*self.path(depth - 1, undo=undo))
        if self.random.random() < 0.3:
            made = made.then(*self.path(depth - 1, undo=undo))
        return made

    def decision(self, depth: int, undo: bool) -> Any:
        made = task(to=Role("boss"), within=timedelta(hours=8), votes=self.random.choice([1, 1, 2]))(
            self.function("t", lambda: Shown(text="see"), Shown)
        )
        made = made.on_reject(*self.path(depth - 1, undo=undo))
        return made.on_timeout(*self.path(depth - 1, undo=undo))

    def waiting(self, depth: int, undo: bool) -> Any:
        key = self.name("key")
        self.keys.append(key)
        match = self.function("m", lambda: key, str)
        made = wait_for(Nudge, match=match, within=timedelta(hours=2), early=self.random.random() < 0.5)
        made = made.named(self.name("w"))
        return made.on_timeout(*self.path(depth - 1, undo=undo))

    def fork(self, depth: int, undo: bool) -> Any:
        value = self.random.random() < 0.5
        condition = self.function("if", lambda: value, bool)
        if self.random.random() < 0.5:
            return when(condition, *self.safe(depth - 1, undo=undo)).otherwise(*self.path(depth - 1, undo=undo))
        return (
            choose(condition)
            .on(True, *self.path(depth - 1, undo=undo))
            .on(False, *self.path(depth - 1, undo=undo))
            .named(self.name("ch"))
        )

    def side_by_side(self, depth: int, undo: bool) -> Any:
        return parallel(*(self.safe(depth - 1, undo=undo) for _ in range(self.random.choice([2, 3])))).named(
            self.name("par")
        )

    def items(self, depth: int, undo: bool) -> Any:
        number = self.random.choice([0, 1, 3, 5])
        items = self.function("each", lambda: list(range(number)), list[int])
        self.items_around += 1
        body = self.safe(depth - 1, undo=undo)
        self.items_around -= 1
        if self.random.random() < 0.2:
            body.append(keep())
        return for_each(items, body, at_once=self.random.choice([1, 2, 10]))

    def rounds(self, depth: int, undo: bool) -> Any:
        body = self.safe(depth - 1, undo=undo)
        if self.random.random() < 0.6:
            value = self.random.random() < 0.5
            body.append(when(self.function("if", lambda: value, bool), leave()))
        made = repeat(body, at_most=self.random.choice([1, 2, 3])).named(self.name("rep"))
        return made.otherwise(*self.path(depth - 1, undo=undo))

    def part(self, depth: int, undo: bool) -> Any:
        body = self.safe(depth - 1, undo=undo)
        if self.random.random() < 0.2:
            body.append(keep())
        fails = undo and self.random.random() < 0.6
        if fails:
            body.insert(0, self.step())
        if undo and self.random.random() < 0.2:
            body.append(fail("on purpose"))
        within = timedelta(minutes=self.random.choice([1, 90])) if self.random.random() < 0.5 else None
        made = scope(*body, within=within).named(self.name("sc"))
        if within is not None:
            made = made.on_timeout(*self.path(depth - 1, undo=undo))
        if self.random.random() < 0.6:
            made = made.on_event(Poke, *self.path(depth - 1, undo=undo))
        if fails:
            made = made.on_failed(*self.path(depth - 1, undo=undo))
        return made

    def called(self, depth: int, undo: bool) -> Any:
        key = self.name("child")
        made = call(self.child)(self.function("k", lambda: Call(id=key), Call))  # type: ignore[arg-type]
        if not undo or self.random.random() < 0.5:
            made = made.on_refused(*self.path(depth - 1, undo=undo))
        return made

    def saga(self, name: str, starts_on: Any) -> Saga[Any]:
        """A whole flow: compensatable, perhaps a pivot, then forward only."""
        flow = self.safe(3)
        if self.random.random() < 0.4:
            pivoted = step(retry=Retry(attempts=2), undo=None)(self.function("pv", lambda: Work(what="pivot"), Work))
            flow += [pivot(pivoted), *self.path(2, undo=False)]
        if self.random.random() < 0.3:
            flow.append(end("well"))
        on_failed = [publish(self.function("of", lambda: Ended(id="k"), Ended))] if self.random.random() < 0.4 else None
        within = timedelta(hours=self.random.choice([3, 1000])) if self.random.random() < 0.4 else None
        return Saga(name, version=1, starts_on=starts_on, flow=flow, on_failed=on_failed, within=within)


def scenario(random: Random) -> Scenario | None:
    """A random scenario, or None where the draw was no legal flow (the compiler says which rule it breaks)."""
    try:
        child_maker = Maker(random)
        child = child_maker.saga("child", Call)
        maker = Maker(random, child=child)
        saga = maker.saga("parent", Go)
    except DefinitionError:
        return None
    return Scenario(
        programs={"child": child.program, "parent": saga.program},
        name="parent",
        start_type=Go.wire_name,
        start_data={"id": "k", "size": 3},
        business_key="k",
        replies=lambda message: REPLIES[message.type],
        events=(
            (Poke.wire_name, "k", {"id": "k"}),
            *((Nudge.wire_name, key, {"id": key}) for key in child_maker.keys + maker.keys),
        ),
    )
