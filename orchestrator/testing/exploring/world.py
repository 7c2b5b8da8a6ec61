"""A simulated world around the real kernel: one seed, one schedule.

Rules of this file
- The kernel is the production one. Only what surrounds it is simulated: broker, timers, participants, people.
- Messages are delivered in any order, more than once, late; a decided turn may be thrown away and decided again.
- Nothing here is random but by the seed: the same seed gives the same schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.kernel.api import Turn, advance
from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import Program
from orchestrator.kernel.inputs import (
    Arrived,
    Cancel,
    ChildAnswer,
    Input,
    Operate,
    Parent,
    Resume,
    Start,
    TimerDue,
    UndoAsked,
    Vote,
)
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.kernel.turn import Limits
from orchestrator.testing.exploring.checker import Checker, demand
from orchestrator.testing.exploring.participants import Participants, Rates

SECOND = 1_000_000
EPOCH = 1_767_225_600 * SECOND  # 2026-01-01


@dataclass(slots=True)
class Delivery:
    """Something on its way: a command to a participant, or an input to a saga."""

    saga_id: str
    message: Outgoing | None = None
    given: Input | None = None
    child: tuple[str, str, str] | None = None


@dataclass(slots=True)
class World:
    """All sagas, messages and timers of one schedule."""

    programs: Mapping[str, Program]
    random: Random
    rates: Rates
    replies: Callable[[str], Any]
    now: int = EPOCH
    states: dict[str, State] = field(default_factory=dict)
    shadows: dict[str, State] = field(default_factory=dict)
    flying: list[Delivery] = field(default_factory=list)
    timers: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    published: list[Outgoing] = field(default_factory=list)
    early: list[Arrived] = field(default_factory=list)
    taken: set[tuple[str, str]] = field(default_factory=set)
    limits: Limits = field(default_factory=Limits)
    checker: Checker = field(default_factory=Checker)
    log: list[str] = field(default_factory=list)
    participants: Participants = field(init=False)

    def __post_init__(self) -> None:
        self.participants = Participants(self.random, self.rates, self.replies)

    def give(self, saga_id: str, given: Input, child: tuple[str, str, str] | None = None) -> Turn:
        """One input to one saga: decide (perhaps twice, as after a failed commit), check, carry out the effects."""
        program = self.programs[self.names[saga_id]]
        before = self.states.get(saga_id, State())
        self.log.append(f"{self.now - EPOCH:>14} {saga_id[:8]} {given}")
        frozen = repr(before.summary()) if self.random.random() < 0.1 else None
        turn = advance(program, before, given, self.now, self.limits, child=child)
        if self.random.random() < self.rates.discard:
            again = advance(program, before, given, self.now, self.limits, child=child)
            demand(again.records == turn.records, f"{saga_id}: deciding twice gave different records (V13)")
            turn = again
        demand(frozen is None or frozen == repr(before.summary()), f"{saga_id}: decide changed the state it was given")
        self._commit(saga_id, before, turn)
        return turn

    def _commit(self, saga_id: str, before: State, turn: Turn) -> None:
        """The records are durable now."""
        self.log.extend(f"{'':>14}          -> {r.type} {r.activity} {_short(r)}" for r in turn.records)
        self.checker.turn(saga_id, before, turn.state, turn.records)
        shadow = self.shadows.setdefault(saga_id, State())
        for record in turn.records:
            evolve(shadow, Record(record.type, record.activity, record.data))
        demand(shadow.summary() == turn.state.summary(), f"{saga_id}: folding gives another state than deciding (V12)")
        self.states[saga_id] = turn.state
        self._carry_out(saga_id, turn)

    def _carry_out(self, saga_id: str, turn: Turn) -> None:
        for message in turn.effects.outbox:
            self._send(saga_id, message)
        for timer in turn.effects.timers_set:
            self.timers[saga_id, timer.activity] = timer.due, timer.armed
        for activity in turn.effects.timers_cleared:
            self.timers.pop((saga_id, activity), None)
        for event_id in turn.effects.consumed:
            self.taken.add((saga_id, event_id))
        if turn.effects.resume:
            self.flying.append(Delivery(saga_id, given=Resume()))
        for event in list(self.early) if turn.effects.waits_opened else []:
            self._offer(event)

    def _send(self, saga_id: str, message: Outgoing) -> None:
        if message.kind == "event":
            self.published.append(message)
        elif message.kind in ("do", "undo", "fence"):
            self.flying.append(Delivery(saga_id, message=message))
        else:
            self._between_sagas(saga_id, message)

    def _between_sagas(self, saga_id: str, message: Outgoing) -> None:
        body, target = message.body, message.target
        if message.kind == "answer":
            answer = ChildAnswer(body["activity"], body["round"], body["outcome"], body["data"], body["reason"])
            self.flying.append(Delivery(target, given=answer))
            return
        self.names[target] = body["saga"]
        parent = Parent(**body["parent"])
        tenant = self.states[saga_id].tenant
        if message.kind == "start":
            start = Start(target, tenant, body["business_key"], body["type"], body["data"], parent)
            self.flying.append(Delivery(target, given=start))
        else:
            child = (target, tenant, body["business_key"])
            self.flying.append(Delivery(target, given=UndoAsked(parent), child=child))

    def deliver(self, index: int) -> None:
        """Delivers one message on its way, perhaps once more later."""
        going = self.flying.pop(index)
        if going.message is None:
            assert going.given is not None
            self.give(going.saga_id, going.given, going.child)
            return
        if self.random.random() < self.rates.duplicate:
            self.flying.append(going)
        answer = self.participants.obey(going.saga_id, going.message)
        if answer is not None:
            copies = 2 if self.random.random() < self.rates.duplicate else 1
            self.flying.extend(Delivery(going.saga_id, given=answer) for _ in range(copies))

    def next_timer(self) -> bool:
        """Lets time pass to the earliest timer and fires it. False where there is none."""
        if not self.timers:
            return False
        (saga_id, activity), (due, armed) = min(self.timers.items(), key=lambda item: (item[1], item[0]))
        self.now = max(self.now, due) + self.random.randrange(3) * SECOND
        self.give(saga_id, TimerDue(activity, armed))
        if self.timers.get((saga_id, activity)) == (due, armed):
            del self.timers[saga_id, activity]
        return True

    def publish_event(self, type_: str, key: str, data: Any, event_id: str) -> None:
        """A domain event arrives: every saga that waits for it gets it, else it is kept."""
        event = Arrived(type_, key, data, event_id, self.now)
        self.early.append(event)
        self._offer(event)

    def _offer(self, event: Arrived) -> None:
        for saga_id, state in list(self.states.items()):
            wants = any(
                w["type"] == event.type and w["key"] == event.key for a in state.activities.values() for w in a.wants
            )
            if wants and (saga_id, event.event_id) not in self.taken:
                self.give(saga_id, event)

    def vote(self, saga_id: str, activity: str, outcome: str, by: str) -> Turn:
        """A person decides an open task, having seen it."""
        task = self.states[saga_id].activities[activity].task
        assert task is not None
        roles = tuple(entry["role"] for entry in task.to if "role" in entry)
        people = [entry["person"] for entry in task.to if "person" in entry]
        who = people[0] if people and not roles else by
        return self.give(saga_id, Vote(activity, who, roles, {"outcome": outcome}, task.hash, self.now))

    def cancel(self, saga_id: str) -> None:
        """Somebody cancels."""
        self.give(saga_id, Cancel("mallory", "changed my mind"))

    def operate(self, saga_id: str, place: str, act: Any, by: str = "olga", **more: Any) -> Turn:
        """An operator acts on a stuck place as it is now."""
        stuck = self.states[saga_id].stuck.get(place)
        version = more.pop("version", stuck.version if stuck else 0)
        return self.give(saga_id, Operate(act, place, version, by, "looked at it", **more))


def _short(record: Record) -> str:
    hidden = ("command", "takes", "event")
    return " ".join(f"{name}={value!r:.60}" for name, value in record.data.items() if name not in hidden and value)
