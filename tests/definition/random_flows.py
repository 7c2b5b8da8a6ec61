"""Random flows whose functions ask for what others make: material for the promise that an accepted flow is never short.

A flow is drawn with observers (events that ask for results) all over it. What the check refuses is taken out, until it
accepts the rest; so every observer that is left was accepted on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from types import GenericAlias
from typing import Any

from orchestrator import (
    Command,
    Context,
    Done,
    Event,
    Failure,
    Key,
    Reply,
    Retry,
    Role,
    Saga,
    compute,
    for_each,
    keep,
    leave,
    parallel,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
    when,
)
from orchestrator.definition import DefinitionError
from tests.definition.world import DAY, Cancelled, Paid, Part, Placed, Policy, Shown

REPLIES: list[type[Reply]] = [type(f"R{n}", (Reply,), {"__module__": __name__}) for n in range(5)]
ASKED: list[Any] = [*REPLIES, Policy, Paid, Part, Cancelled]
PARAMETER = re.compile(r"\b(watch\w+|undo_\w+)\b")


class Watched(Event):
    """What observers publish."""

    order_id: Key[str]


class Back(Command[Done], to="stock"):
    """Takes anything back."""


def _asks(reply: type[Reply]) -> type[Command[Any]]:
    return type(f"Ask{reply.__name__}", (Command[reply],), {"__module__": __name__}, to="stock")  # type: ignore[valid-type]


ASKS = [_asks(reply) for reply in REPLIES]


def function(name: str, returns: Any, make: Callable[[], Any], **params: Any) -> Callable[..., Any]:
    """A function of this name that asks for these types."""
    body: dict[str, Any] = {"make": make}
    exec(f"def {name}({', '.join(params)}): return make()", body)
    made: Callable[..., Any] = body[name]
    made.__annotations__.update(params, **{"return": returns})
    return made


class Drawer:
    """Draws one flow. `dropped` are the observers that the check has refused so far."""

    def __init__(self, seed: int, dropped: frozenset[str]) -> None:
        self._random = Random(seed)
        self._dropped = dropped
        self._count = 0

    def flow(self) -> list[Any]:
        """A whole flow."""
        return self._path(3)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"

    def _path(self, depth: int, loop: bool = False) -> list[Any]:
        words = [word for _ in range(self._random.randint(1, 3)) for word in self._word(depth)]
        if loop and self._random.random() < 0.7:
            words.append(when(self._yes(), leave()).named(self._name("when")))
        return words

    def _yes(self) -> Callable[..., bool]:
        """Says yes at some instants and no at others."""
        name, threshold = self._name("is"), self._random.random()

        def is_so(context: Context) -> bool:
            return (context.now.microsecond // 1000 % 10) / 10 < threshold

        is_so.__name__ = name
        return is_so

    def _word(self, depth: int) -> list[Any]:
        simple = [self._step, self._step, self._watch, self._value, self._wait, self._task]
        nested = [self._when, self._parallel, self._for_each, self._repeat, self._scope]
        return self._random.choice(simple + (nested if depth else []))(depth)

    def _watch(self, depth: int = 0) -> list[Any]:
        name = self._name("watch")
        asked = self._random.sample(ASKED, self._random.randint(1, 2))
        as_list = self._random.random() < 0.5
        params = {f"p{number}": GenericAlias(list, (kind,)) if as_list else kind for number, kind in enumerate(asked)}
        if name in self._dropped:
            return []
        return [publish(function(name, Watched, lambda: Watched(order_id="o"), **params))]

    def _step(self, depth: int) -> list[Any]:
        number = self._random.randrange(len(REPLIES))
        name = self._name("step")
        build = function(name, ASKS[number], ASKS[number], placed=Placed)
        made = step(retry=Retry(attempts=2))(build)
        extra = {"extra": self._random.choice(ASKED)} if self._random.random() < 0.5 else {}
        if f"undo_{name}" in self._dropped:
            extra = {}
        made.undo(function(f"undo_{name}", Back, Back, own=REPLIES[number], failure=Failure, **extra))
        for add in (made.on_refused, made.on_exhausted, made.then):
            if self._random.random() < 0.25:
                made = getattr(made, add.__name__)(*self._watch())
        return [made, *(self._watch() if self._random.random() < 0.5 else [])]

    def _value(self, depth: int) -> list[Any]:
        return [compute(function("policy", Policy, lambda: Policy(limit=1))).named(self._name("policy"))]

    def _wait(self, depth: int) -> list[Any]:
        word = wait_for(Paid, within=DAY, early=False).named(self._name("paid"))
        return [word.then(*self._watch()).on_timeout(*self._watch()) if self._random.random() < 0.7 else word]

    def _task(self, depth: int) -> list[Any]:
        shown = function(self._name("task"), Shown, Shown, placed=Placed)
        word = task(to=Role("boss"), within=DAY)(shown)
        return [word.on_reject(*self._watch()).on_timeout() if self._random.random() < 0.7 else word]

    def _when(self, depth: int) -> list[Any]:
        kind = self._random.choice([*REPLIES, None, None, None])
        name = self._name("when")
        word = when(kind or self._yes(), *self._path(depth - 1)).named(name)
        return [word.otherwise(*self._path(depth - 1)) if self._random.random() < 0.5 else word]

    def _parallel(self, depth: int) -> list[Any]:
        return [parallel(*(self._path(depth - 1) for _ in range(2))).named(self._name("parallel"))]

    def _for_each(self, depth: int) -> list[Any]:
        items = function(self._name("items"), list[Part], lambda: [Part(number=1), Part(number=2)], placed=Placed)
        return [for_each(items, *self._path(depth - 1), at_once=self._random.randint(1, 2))]

    def _repeat(self, depth: int) -> list[Any]:
        word = repeat(*self._path(depth - 1, loop=True), at_most=2).named(self._name("repeat"))
        return [word.otherwise(*self._watch())]

    def _scope(self, depth: int) -> list[Any]:
        inner = self._path(depth - 1)
        if self._random.random() < 0.3:
            inner.insert(self._random.randint(0, len(inner)), keep().named(self._name("keep")))
        word = scope(*inner).named(self._name("scope"))
        if self._random.random() < 0.6:
            word = word.on_event(Cancelled, *self._watch())
        if self._random.random() < 0.6:
            word = word.on_failed(*self._watch())
        return [word.then(*self._watch()) if self._random.random() < 0.3 else word]


def draw(seed: int) -> Saga[Any] | None:
    """The accepted rest of the flow of this seed; None where the flow itself is refused."""
    dropped: frozenset[str] = frozenset()
    while True:
        drawer = Drawer(seed, dropped)
        try:
            return Saga("random", version=1, starts_on=Placed, flow=drawer.flow(), on_failed=drawer._watch())
        except DefinitionError as error:
            refused = {name for finding in error.findings for name in PARAMETER.findall(finding.text)}
            if any(not finding.code.startswith("ORC1") for finding in error.findings) or refused <= dropped:
                return None
            dropped |= refused
