"""The nodes of random legal flows, written with the authors' own words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any

from orchestrator import (
    Approval,
    Escalate,
    Person,
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
from tests.kernel.flow_contracts import (
    Call,
    Choice,
    Colour,
    Ended,
    Fresh,
    Nudge,
    PivotCall,
    Poke,
    Prod,
    Push,
    Shown,
    Unwork,
    Work,
    Worked,
)

NODES_MAX = 40
DEPTH = 3  # of blocks inside each other

THEMES = ("", "", "parts", "children", "tasks", "waits", "forks", "steps", "leaving", "forward")


class Maker:
    """Makes one random flow. Depth and size are bounded; names are unique. `theme`: the kinds it prefers."""

    def __init__(self, random: Random, *, child: Saga[Any] | None = None, pivoted: Saga[Any] | None = None) -> None:
        self.random = random
        self.child = child
        self.pivoted = pivoted
        self.theme = random.choice(THEMES)
        self.steps = 0
        self.blocked: list[Any] = []  # events that a scope around, or a branch beside, takes already
        self.branches = 0
        self.count = 0
        self.items_around = 0
        self.keys: list[str] = []
        self.tasks: list[Any] = []  # tasks that come before, whose voters a later one may exclude

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
        build = self.function("s", lambda: Work(what="w"), Work)
        self.steps += 1
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
        kinds = [self.plain, self.plain, *self.preferred(depth)]
        if depth > -2 and self.count < NODES_MAX:
            kinds += [self.refusable, self.decision]
            if not self.items_around:
                kinds.append(self.waiting)
        if depth > 0 and self.count < NODES_MAX:
            kinds += [self.fork, self.side_by_side, self.items, self.rounds, self.part, self.part, self.part]
            if self.child is not None:
                kinds.append(self.called)
        return self.random.choice(kinds)(depth, undo)

    def preferred(self, depth: int) -> list[Callable[[int, bool], Any]]:
        """More of what the theme is about."""
        if depth <= 0 or self.count >= NODES_MAX:
            return []
        themes = {
            "parts": [self.part] * 6, "children": [self.called] * 6 if self.child else [], "tasks": [self.decision] * 6,
            "leaving": [self.rounds] * 4 + [self.part] * 2,
            "waits": [] if self.items_around else [self.waiting] * 6, "forks": [self.side_by_side, self.items] * 3,
            "steps": [self.refusable] * 6, "keeping": [self.part] * 6,
            "unsent": [self.called] * 6 if self.child else [],
        }  # fmt: skip
        return list(themes.get(self.theme, []))

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
        random = self.random
        exclude: list[Any] = []
        if random.random() < 0.3:
            exclude.append(self.function("x", lambda: Person("p1"), Person))
        if self.tasks and random.random() < 0.4:  # four eyes
            exclude.append(random.choice(self.tasks))
        levels = [Escalate(timedelta(hours=at), Role(f"level{at}")) for at in sorted(random.sample([1, 3, 5], 2))]
        votes = random.choice([1, 2, 2, 3] if self.theme == "voting" else [1, 1, 2])
        some = self.function("to", lambda: [Role("boss"), Role("chief")], list[Role])
        to: Any = random.choice([Role("boss"), some, Person("p2")] if votes == 1 else [Role("boss"), some])
        plain = self.theme != "voting" or random.random() < 0.6
        made: Any = task(
            to=to,
            answer=Approval if plain else Choice,
            within=timedelta(hours=8),
            votes=votes,
            exclude=exclude,
            escalate=levels if random.random() < 0.5 else [],
        )(self.function("t", lambda: Shown(text="see"), Shown))
        amends = 0.6 if self.theme == "voting" else 0.3
        if random.random() < amends and not self.items_around and not self.branches:
            made = made.amend_on(Fresh)
        if not self.items_around and not self.branches and depth == DEPTH:
            self.tasks.append(made)
        if not plain:
            made = made.on(Colour.RED, *self.path(depth - 1, undo=undo)).otherwise()
        elif not undo or random.random() < 0.7:
            made = made.on_reject(*self.path(depth - 1, undo=undo))
        if undo and random.random() < 0.3:
            return made
        return made.on_timeout(*self.path(depth - 1, undo=undo))

    def waiting(self, depth: int, undo: bool) -> Any:
        key = self.random.choice(self.keys) if self.keys and self.random.random() < 0.4 else self.name("key")
        self.keys.append(key)
        match = self.function("m", lambda: key, str)
        made = wait_for(Nudge, match=match, within=timedelta(hours=2), early=self.random.random() < 0.5)
        if self.random.random() < 0.3:
            asked = step(undo=None)(self.function("s", lambda: Work(what="w"), Work))
            waits = wait_for(Nudge, match=match, within=timedelta(hours=2), since=asked).named(self.name("w"))
            return [asked, waits.on_timeout(*self.path(depth - 1, undo=undo))]
        made = made.named(self.name("w"))
        if undo and self.random.random() < 0.3:
            return made
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
        blocked = list(self.blocked)
        self.branches += 1
        made = parallel(*(self.safe(depth - 1, undo=undo) for _ in range(self.random.choice([2, 3]))))
        self.branches -= 1
        self.blocked = blocked
        return made.named(self.name("par"))

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
        if self.random.random() < 0.4:
            value = self.random.random() < 0.7
            left = [self.step(undo=undo), when(self.function("if", lambda: value, bool), leave())]
            body.append(scope(left, within=timedelta(minutes=90)).named(self.name("sc")).on_timeout())
        made = repeat(body, at_most=self.random.choice([1, 2, 3])).named(self.name("rep"))
        if undo and self.random.random() < 0.3:
            return made
        return made.otherwise(*self.path(depth - 1, undo=undo))

    def part(self, depth: int, undo: bool) -> Any:
        free = [event for event in (Poke, Prod, Push) if event not in self.blocked]
        event = self.random.choice(free) if free and not self.items_around and self.random.random() < 0.7 else None
        self.blocked.append(event)
        body = self.safe(depth - 1, undo=undo)
        if not self.branches:
            self.blocked.remove(event)
        if undo and not self.items_around and not self.branches and self.random.random() < 0.3:
            body = [self.step(), *body, step(undo=None)(quoting(self.name("q")))]
        if self.theme == "keeping" and not self.branches and undo:
            self.branches += 1
            inner = [self.step(), *self.path(depth - 2), self.part(min(depth - 1, 0), undo)]
            self.branches -= 1
            body.append(parallel(inner, [self.step(), keep()]).named(self.name("par")))
        elif self.random.random() < 0.2:
            body.append(keep())
        fails = undo and self.random.random() < 0.6
        if fails:
            body.insert(0, self.step())
        if undo and self.random.random() < 0.2:
            body.append(fail("on purpose"))
        within = timedelta(minutes=self.random.choice([1, 90])) if self.random.random() < 0.5 else None
        made = scope(*body, within=within).named(self.name("sc"))
        if within is not None and not (undo and self.random.random() < 0.3):
            made = made.on_timeout(*self.path(depth - 1, undo=undo))
        if event is not None:
            handler = [fail("asked for")] if fails and self.random.random() < 0.3 else self.path(depth - 1, undo=undo)
            made = made.on_event(event, *handler, early=self.random.random() < 0.7)
        if fails:
            made = made.on_failed(*self.path(depth - 1, undo=undo))
        return made

    def called(self, depth: int, undo: bool) -> Any:
        key = self.name("child")
        within = timedelta(minutes=self.random.choice([2, 200])) if self.random.random() < 0.4 else None
        assert self.child is not None
        made = call(self.child, within=within)(self.function("k", lambda: Call(id=key), Call))
        if within is not None and (not undo or self.random.random() < 0.7):
            made = made.on_timeout(*self.path(depth - 1, undo=undo))
        if self.theme != "calls" and (not undo or self.random.random() < 0.5):
            made = made.on_refused(*self.path(depth - 1, undo=undo))
        return made

    def saga(self, name: str, starts_on: Any) -> Saga[Any]:
        """A whole flow: compensatable, perhaps a pivot, then forward only."""
        if self.theme in ("forward", "late") and self.child is not None:
            turn = step(retry=Retry(attempts=2), undo=None)(self.function("pv", lambda: Work(what="pivot"), Work))
            flow = [self.step(), pivot(turn), *(self.step(undo=False) for _ in range(3)), *self.safe(2, undo=False)]
            limit = timedelta(minutes=self.random.choice([1, 3, 90])) if self.theme == "late" else None
            return Saga(name, version=1, starts_on=starts_on, flow=flow, within=limit)
        flow = self.safe(DEPTH)
        if self.random.random() < 0.5:
            flow = [self.step(), *flow, step(undo=None)(quoting(self.name("q")))]
        if self.pivoted is not None and self.random.random() < 0.4:
            started = call(self.pivoted)(self.function("pc", lambda: PivotCall(id="pc"), PivotCall))
            flow += [pivot(started), *self.path(2, undo=False)]
        elif self.child is not None and self.random.random() < 0.4:
            pivoted = step(retry=Retry(attempts=2), undo=None)(self.function("pv", lambda: Work(what="pivot"), Work))
            flow += [pivot(pivoted), *self.path(2, undo=False)]
        if self.random.random() < 0.3:
            flow.append(end("well"))
        on_failed: list[Any] | None = None
        if self.random.random() < 0.4:
            on_failed = [publish(self.function("of", lambda: Ended(id="k"), Ended)), *self.path(0, undo=False)]
        within = timedelta(hours=self.random.choice([3, 1000])) if self.random.random() < 0.4 else None
        return Saga(name, version=1, starts_on=starts_on, flow=flow, on_failed=on_failed, within=within)


def quoting(name: str) -> Callable[..., Any]:
    """A step's function that quotes every reply that it may see."""

    def made(seen: list[Worked]) -> Work:
        return Work(what=" ".join(reply.note for reply in seen))

    made.__name__ = made.__qualname__ = name
    made.__annotations__ = {"seen": list[Worked], "return": Work}
    return made
