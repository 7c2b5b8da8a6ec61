"""The world of a specification: a clock, the saga and its children, and everything that effects mean outside a stream.

Rules of this file
- It drives the real kernel through `orchestrator.kernel.api.advance` and acts on what Effects say, as a coordinator
  does: timers, subscriptions and tasks are kept from effects alone, never read from a state.
- Nothing takes time unless it is said: the clock moves with `elapsed` and `unanswered`, and by one microsecond for
  every input, so that "before" and "after" mean something.
- After every turn the checks of `checks.py` run. A specification cannot pass on a kernel that cannot be refolded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.kernel.api import Limits, Turn, advance
from orchestrator.kernel.children import saga_id
from orchestrator.kernel.effects import Effects, Outgoing, Subscription, TaskRow, Timer
from orchestrator.kernel.inputs import (
    Answer,
    Arrived,
    ChildAnswer,
    Input,
    Parent,
    Refusal,
    Resume,
    Start,
    TimerDue,
    UndoAsked,
)
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages import Command, Event
from orchestrator.testing.checks import check_alive, check_tables, check_turn
from orchestrator.testing.known import Definition, SpecificationError, title
from orchestrator.testing.outputs import Output, outputs_of

TENANT = "main"
TURNS_MAX = 10_000


@dataclass
class Actor:
    """One saga of this world: the one that is specified, or a child that it called."""

    definition: Definition
    saga_id: str
    parent: Parent | None = None
    state: State | None = None
    records: list[Record] = field(default_factory=list[Record])
    sent: list[Outgoing] = field(default_factory=list[Outgoing])
    timers: dict[str, Timer] = field(default_factory=dict[str, Timer])
    subscriptions: list[Subscription] = field(default_factory=list[Subscription])
    tasks: dict[str, TaskRow] = field(default_factory=dict[str, TaskRow])
    consumed: set[str] = field(default_factory=set[str])
    stubbed: bool = False  # the specification answers in its place

    @property
    def now_state(self) -> State:
        """The state, once it has begun."""
        if self.state is None:
            raise SpecificationError(f"saga {title(self.definition)} has not started")
        return self.state


@dataclass
class World:
    """Everything around the saga that is specified. `clock`: microseconds UTC."""

    definition: Definition
    clock: int
    answer_undos: bool = True
    run_children: bool = True
    forward_only: bool = False
    limits: Limits | None = None
    actors: dict[str, Actor] = field(default_factory=dict[str, Actor])
    early: list[Arrived] = field(default_factory=list[Arrived])
    outputs: list[Output] = field(default_factory=list[Output])
    _queue: deque[tuple[str, Input]] = field(default_factory=deque[tuple[str, Input]])
    _turns: int = 0

    @property
    def main(self) -> Actor:
        """The saga that is specified. Raises SpecificationError before it has started."""
        found = next((actor for actor in self.actors.values() if actor.parent is None), None)
        if found is None:
            raise SpecificationError(f"saga {title(self.definition)} has not started")
        return found

    def start_main(self, message: Event | Command[Any]) -> Refusal | None:
        """The start message comes. Raises SpecificationError where the saga does not start on it."""
        graph = self.definition.program.graph
        if message.wire_name not in graph.starts_on:
            names = ", ".join(graph.starts_on)
            raise SpecificationError(f"saga {graph.name} starts on {names}, not on {message.wire_name}")
        key = message.key()
        identity = saga_id(TENANT, graph.name, key)
        actor = self.actors.setdefault(identity, Actor(self.definition, identity))
        start = Start(identity, TENANT, key, message.wire_name, message.plain(), forward_only=self.forward_only)
        return self.give(actor, start)

    def give(self, actor: Actor, given: Input, *, tick: bool = True) -> Refusal | None:
        """One input from outside, and everything that follows by itself. Returns why it was refused, or None."""
        if tick:
            self.clock += 1
        refusal = self._turn(actor, given).refusal
        self._settle_down()
        return refusal

    def tell(self, event: Arrived) -> None:
        """An event arrives: every saga that waits for it gets it; where none does, it is kept as early."""
        wanted = [actor for actor in self.actors.values() if _wants(actor, event)]
        for actor in wanted:
            self._turn(actor, event)
        self.early.append(event)
        self._settle_down()

    def pass_time(self, until: int) -> None:
        """Moves the clock, firing every timer on the way when it is due, in order."""
        while (first := self.next_timer()) is not None and first[1].due <= until:
            self.fire(*first)
        self.clock = max(self.clock, until)

    def next_timer(self) -> tuple[Actor, Timer] | None:
        """The timer that is due first; of several the one armed first."""
        waiting = [(t.due, t.armed, a.saga_id, t.activity) for a in self.actors.values() for t in a.timers.values()]
        if not waiting:
            return None
        _, _, identity, activity = min(waiting)
        return self.actors[identity], self.actors[identity].timers[activity]

    def fire(self, actor: Actor, timer: Timer) -> None:
        """The timer comes due."""
        self.clock = max(self.clock, timer.due)
        del actor.timers[timer.activity]  # exactly once: the kernel sets it again where it is to come again
        self.give(actor, TimerDue(timer.activity, timer.armed), tick=False)

    def _turn(self, actor: Actor, given: Input) -> Turn:
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise SpecificationError(f"more than {TURNS_MAX} turns: the saga goes round in circles")
        child = None
        if isinstance(given, UndoAsked) and actor.state is None:
            key = next(sent.body["business_key"] for sent in self._sent() if sent.target == actor.saga_id)
            child = (actor.saga_id, TENANT, key)
        before = actor.state
        turn = advance(actor.definition.program, before, given, self.clock, self.limits, child=child)
        again = advance(actor.definition.program, before, given, self.clock, self.limits, child=child)
        actor.state = turn.state if turn.records else before
        check_turn(actor.records, turn, again, before)
        actor.records.extend(turn.records)
        self.outputs.extend(outputs_of(actor.definition, turn.records, turn.state, is_main=actor.parent is None))
        self._apply(actor, turn.effects)
        return turn

    def _apply(self, actor: Actor, effects: Effects) -> None:
        for key in effects.timers_cleared:
            actor.timers.pop(key, None)
        actor.timers.update({timer.activity: timer for timer in effects.timers_set})
        closed = set(effects.waits_closed)
        actor.subscriptions = [s for s in actor.subscriptions if s.activity not in closed]
        actor.subscriptions += effects.waits_opened
        for activity, _ in effects.tasks_closed:
            actor.tasks.pop(activity, None)
        actor.tasks.update({task.activity: task for task in effects.tasks_open})
        actor.consumed.update(effects.consumed)
        actor.sent.extend(effects.outbox)
        for message in effects.outbox:
            self._deliver(actor, message)
        if effects.resume:
            self._queue.append((actor.saga_id, Resume()))

    def _settle_down(self) -> None:
        """Delivers what sagas send each other, what participants answer by themselves, and early events."""
        while True:
            if self._queue:
                identity, given = self._queue.popleft()
                self._turn(self.actors[identity], given)
            elif not self._take_early():
                break
        for actor in self.actors.values():
            _check(actor)

    def _take_early(self) -> bool:
        for event in self.early:
            for actor in self.actors.values():
                if event.event_id not in actor.consumed and _wants(actor, event):
                    self._turn(actor, event)
                    return event.event_id in actor.consumed
        return False

    def _deliver(self, actor: Actor, message: Outgoing) -> None:
        if message.kind == "undo" and self.answer_undos:
            attributes = message.attributes
            round_, attempt = int(attributes["round"]), int(attributes["attempt"])
            self._queue.append((actor.saga_id, Answer("undo", attributes["activity"], round_, attempt, "ok", {})))
        elif message.kind in ("start", "unwind"):
            self._to_child(actor, message)
        elif message.kind == "answer" and not actor.stubbed:
            body = message.body
            answer = ChildAnswer(body["activity"], body["round"], body["outcome"], body["data"], body["reason"])
            self._queue.append((message.target, answer))

    def _to_child(self, actor: Actor, message: Outgoing) -> None:
        body, parent = message.body, Parent(**message.body["parent"])
        child = self.actors.get(message.target)
        if child is None:
            definition = next(other for other in actor.definition.children if other.program.graph.name == body["saga"])
            child = self.actors[message.target] = Actor(
                definition, message.target, parent, stubbed=not self.run_children
            )
        if child.stubbed:
            unwinds = message.kind == "unwind" and self.answer_undos
            undo = actor.now_state.activities[parent.activity].undo_status if unwinds else ""
            if undo == "asked":
                self._queue.append((actor.saga_id, ChildAnswer(parent.activity, parent.round, "undone")))
        elif message.kind == "start":
            given = Start(message.target, TENANT, body["business_key"], body["type"], body["data"], parent)
            self._queue.append((message.target, given))
        else:
            self._queue.append((message.target, UndoAsked(parent)))

    def stub(self, actor: Actor, activity: str) -> None:
        """The specification answers for this child from now on: whatever the child was doing is forgotten."""
        command = actor.now_state.activities[activity].command or {}
        child = self.actors.get(command.get("saga_id", ""))
        if child is not None:
            child.stubbed = True
            child.timers, child.subscriptions, child.tasks = {}, [], {}

    def _sent(self) -> Sequence[Outgoing]:
        return [message for actor in self.actors.values() for message in actor.sent]


def _check(actor: Actor) -> None:
    if actor.state is None or actor.stubbed:
        return
    timers = {timer.activity: (timer.due, timer.armed) for timer in actor.timers.values()}
    waits = [(wanted.activity, wanted.type, wanted.key) for wanted in actor.subscriptions]
    check_tables(actor.state, timers, waits, actor.tasks)
    check_alive(actor.state, timers, waits, actor.tasks)


def _wants(actor: Actor, event: Arrived) -> bool:
    return not actor.stubbed and any(
        s.type == event.type and s.key == event.key and event.arrived_at >= s.accepts_from for s in actor.subscriptions
    )
