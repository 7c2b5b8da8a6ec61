"""A simulated world around the real kernel: one seed, one schedule.

Rules of this file
- The kernel is the production one. Only what surrounds it is simulated: broker, timers, participants, people.
- Messages are delivered in any order, more than once, late; a decided turn may be thrown away and decided again.
- Timers, subscriptions and tasks are kept from effects alone, as a store does, and held against the state.
- Nothing here is random but by the seed: the same seed gives the same schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from zlib import crc32

from orchestrator.kernel.api import Turn, advance
from orchestrator.kernel.effects import Outgoing, Subscription
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import Program, node_path
from orchestrator.kernel.inputs import (
    Answer,
    Arrived,
    ChildAnswer,
    Input,
    Parent,
    Resume,
    SendRefused,
    Start,
    TimerDue,
    UndoAsked,
)
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.kernel.turn import Limits
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.testing.exploring.checker import Checker, demand
from orchestrator.testing.exploring.faults import Faults
from orchestrator.testing.exploring.participants import Participants
from orchestrator.testing.exploring.words import EPOCH, SECOND, Entry, told

PAST_MAX = 60
TINY_BYTES = 1_000  # a message limit below this is one that the schedule has drawn


class SimulatedError(RuntimeError):
    """What a user function raises when the schedule says so."""


@dataclass(slots=True)
class Delivery:
    """Something on its way: a command to a participant, or an input to a saga."""

    saga_id: str
    message: Outgoing | None = None
    given: Input | None = None
    child: tuple[str, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """A fault that strikes right after a record of this type: cancel, redeliver, downtime, newest_first, crash."""

    record: str = ""
    act: str = ""

    def hits(self, record: Record) -> bool:
        """ "pivot" means: the pivot is asked."""
        return record.type == self.record or (self.record == "pivot" and bool(record.data.get("pivot")))


@dataclass(slots=True)
class World:
    """All sagas, messages and timers of one schedule."""

    programs: Mapping[str, Program]
    random: Random
    faults: Faults
    replies: Callable[[Outgoing], Any]
    aim: Aim = Aim()
    limits: Limits = field(default_factory=Limits)
    form_data: Callable[[str], dict[str, Any]] | None = None
    now: int = EPOCH
    states: dict[str, State] = field(default_factory=dict)
    shadows: dict[str, State] = field(default_factory=dict)
    flying: list[Delivery] = field(default_factory=list)
    past: list[Delivery] = field(default_factory=list)
    timers: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    subscriptions: dict[tuple[str, str], list[Subscription]] = field(default_factory=dict)
    tasks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    closed_tasks: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # as people may still see them
    names: dict[str, str] = field(default_factory=dict)
    parents: dict[str, Parent] = field(default_factory=dict)
    published: list[Outgoing] = field(default_factory=list)
    early: list[Arrived] = field(default_factory=list)
    taken: set[tuple[str, str]] = field(default_factory=set)
    checker: Checker = field(default_factory=Checker)
    log: list[Entry] = field(default_factory=list)  # see words.py
    struck: list[tuple[str, str]] = field(default_factory=list)  # aimed faults that are due: saga, act
    participants: Participants = field(init=False)
    _turns: int = 0

    def __post_init__(self) -> None:
        self.participants = Participants(self.faults, self.replies, self._reads)
        self.checker.two_people = self.limits.two_people
        if self.faults.rates.raises:
            self.programs = {name: self._faulty(program) for name, program in self.programs.items()}

    def _reads(self, saga_id: str, activity: str) -> bool:
        node = self.programs[self.names[saga_id]].graph.nodes[node_path(activity)]
        return bool(getattr(node, "reads", False))

    def _faulty(self, program: Program) -> Program:
        """The program, whose functions raise in some turns. Within one turn a function does the same each time."""

        def wrap(key: str, call: Callable[..., Any]) -> Callable[..., Any]:
            salt = crc32(key.encode())

            def called(*given: Any, **arguments: Any) -> Any:
                rate = self.faults.rates.raises
                if rate and (salt ^ self._turns * 2654435761) % 997 < rate * 997:
                    self.faults.fired["raises"] += 1
                    raise SimulatedError(f"{key} in turn {self._turns}")
                return call(*given, **arguments)

            return called

        functions = {key: replace(found, call=wrap(key, found.call)) for key, found in program.functions.items()}
        return replace(program, functions=functions)

    def lines(self) -> list[str]:
        """The schedule so far, in words."""
        return told(self.log, self.names)

    def give(self, saga_id: str, given: Input, child: tuple[str, str, str] | None = None) -> Turn:
        """One input to one saga: decide (perhaps twice, as after a failed commit), check, carry out the effects."""
        program = self.programs[self.names[saga_id]]
        before = self.states.get(saga_id, State())
        self._turns += 1
        self.log.append(Entry(self.now - EPOCH, saga_id, given))
        frozen = repr(before.summary()) if self.random.random() < 0.1 else None
        turn = advance(program, before, given, self.now, self.limits, child=child)
        if self.faults.happens("discard"):
            again = advance(program, before, given, self.now, self.limits, child=child)
            demand(again.records == turn.records, f"{saga_id}: deciding twice gave different records (V13)")
            turn = again
        demand(frozen is None or frozen == repr(before.summary()), f"{saga_id}: decide changed the state it was given")
        self._commit(saga_id, program, given, turn)
        return turn

    def _commit(self, saga_id: str, program: Program, given: Input, turn: Turn) -> None:
        """The records are durable now."""
        self.log.extend(Entry(self.now - EPOCH, saga_id, record) for record in turn.records)
        self.checker.turn(saga_id, program.graph, given, self.now, turn)
        for record in turn.records:
            if record.type == "branch.taken" and record.data["label"]:
                self._branch(program, turn.state, record)
            elif record.type in ("task.opened", "task.amended"):
                self._measured(program, turn.state, record)
        shadow = self.shadows.setdefault(saga_id, State())
        for record in turn.records:
            evolve(shadow, Record(record.type, record.activity, record.data))
        demand(shadow.summary() == turn.state.summary(), f"{saga_id}: folding gives another state than deciding (V12)")
        self.states[saga_id] = turn.state
        self._carry_out(saga_id, turn)
        self._tables(saga_id)
        self.checker.between(saga_id, given, self.parents)
        if any(self.aim.hits(record) for record in turn.records):
            self.struck.append((saga_id, self.aim.act))

    def _branch(self, program: Program, state: State, record: Record) -> None:
        """A fork goes where the author's function says, where that needs nothing to say it."""
        key = f"{node_path(record.activity)}#test"
        function = program.functions.get(key)
        if function is None or function.params or f"{key}@{record.activity}" in state.by_hand:
            return
        rates, self.faults.rates = self.faults.rates, self.faults.rates.without("raises")
        value = function.call()
        self.faults.rates = rates
        if isinstance(value, bool):
            demand(record.data["label"] == str(value).lower(), f"{record.activity} gave {value}, took {record.data}")

    def _measured(self, program: Program, state: State, record: Record) -> None:
        """The amount that limits are held against is the one of what is shown."""
        path = node_path(record.activity)
        function, task = program.functions.get(f"{path}#amount"), state.activities[record.activity].task
        if function is None or task is None or task.shown != record.data["shown"]:
            return
        codec = program.codecs[program.functions[f"{path}#shown"].returns]
        rates, self.faults.rates = self.faults.rates, self.faults.rates.without("raises")
        money = function.call(codec.load(record.data["shown"]))
        self.faults.rates = rates
        told = {"amount": f"{money.amount:f}", "currency": money.currency}
        demand(task.amount == told, f"{record.activity} shows {told}, its limits are held against {task.amount}")

    def _carry_out(self, saga_id: str, turn: Turn) -> None:
        effects = turn.effects
        for message in effects.outbox:
            self._send(saga_id, message)
        for timer in effects.timers_set:
            self.timers[saga_id, timer.activity] = timer.due, timer.armed
        for activity in effects.timers_cleared:
            self.timers.pop((saga_id, activity), None)
        for activity in effects.waits_closed:
            self.subscriptions.pop((saga_id, activity), None)
        for row in effects.tasks_open:
            self.tasks[saga_id, row.activity] = row.data
        for activity, _ in effects.tasks_closed:
            if (saga_id, activity) in self.tasks:
                self.closed_tasks[saga_id, activity] = self.tasks.pop((saga_id, activity))
        self.taken.update((saga_id, event_id) for event_id in effects.consumed)
        if effects.resume:
            self.flying.append(Delivery(saga_id, given=Resume()))
        opened = {wanted.activity for wanted in effects.waits_opened}
        for activity in opened:
            mine = [wanted for wanted in effects.waits_opened if wanted.activity == activity]
            self.subscriptions[saga_id, activity] = mine
        if opened:
            for event in self.early:
                if self._wants(saga_id, event):
                    self.flying.append(Delivery(saga_id, given=event))

    def _tables(self, saga_id: str) -> None:
        """What a store holds for a saga is what its state says."""
        state = self.states[saga_id]
        timers = {key[1]: found for key, found in self.timers.items() if key[0] == saga_id}
        due = {key: (found.due, found.armed) for key, found in state.activities.items() if found.due}
        if state.deadline:
            due[""] = (state.deadline, state.deadline_armed)
        demand(timers == due, f"{saga_id}: timers {timers}, the state says {due}")
        waits = {key[1] for key in self.subscriptions if key[0] == saga_id}
        wants = {key for key, found in state.activities.items() if found.wants}
        demand(waits == wants, f"{saga_id}: subscriptions {waits}, the state says {wants}")
        tasks = {key[1]: row["hash"] for key, row in self.tasks.items() if key[0] == saga_id}
        open_ = {k: f.task.hash for k, f in state.activities.items() if f.task is not None and f.status == "open"}
        demand(tasks == open_, f"{saga_id}: tasks {tasks}, the state says {open_}")

    def _send(self, saga_id: str, message: Outgoing) -> None:
        if message.kind in ("do", "undo", "event") and self.limits.message_bytes_max < TINY_BYTES:
            size = len(canonical_bytes(message.body))
            text = f"{saga_id}: {message.type} of {size} bytes is sent, the limit is {self.limits} (rule 30)"
            demand(size <= self.limits.message_bytes_max or self._was_sent(saga_id, message), text)
        if message.kind != "answer" and self.faults.happens("send_refused"):
            self.flying.append(Delivery(saga_id, given=SendRefused(message.version, "message too large")))
        elif message.kind == "event":
            self.published.append(message)
        elif message.kind in ("do", "undo", "fence"):
            self.flying.append(Delivery(saga_id, message=message))
        else:
            self._between_sagas(saga_id, message)

    def _was_sent(self, saga_id: str, message: Outgoing) -> bool:
        """A retry sends what was sent before, whatever the limit is now."""
        key = message.attributes.get("idempotencykey", "")
        return (saga_id, key) in self.participants.bodies or message.attributes.get("attempt", "1") != "1"

    def _between_sagas(self, saga_id: str, message: Outgoing) -> None:
        body, target = message.body, message.target
        if message.kind == "answer":
            undone = body["outcome"] in ("undone", "failed") and self._asks_again(target, body["activity"])
            if undone and self.faults.happens("lose_answer"):
                return
            answer = ChildAnswer(body["activity"], body["round"], body["outcome"], body["data"], body["reason"])
            self.flying.append(Delivery(target, given=answer))
            return
        if message.kind == "start" and target not in self.names and self.faults.happens("busy"):
            asked = body["parent"]
            refused = ChildAnswer(asked["activity"], asked["round"], "refused", None, "already_running")
            self.flying.append(Delivery(asked["saga_id"], given=refused))
            return
        self.names[target] = body["saga"]
        parent = Parent(**body["parent"])
        self.parents[target] = parent
        tenant = self.states[saga_id].tenant
        if message.kind == "start":
            start = Start(target, tenant, body["business_key"], body["type"], body["data"], parent)
            self.flying.append(Delivery(target, given=start))
        else:
            child = (target, tenant, body["business_key"])
            self.flying.append(Delivery(target, given=UndoAsked(parent), child=child))

    def _asks_again(self, parent: str, activity: str) -> bool:
        """The parent has asked for the child's undo, and will again: an answer that is lost costs only time."""
        found = self.states[parent].activities[activity]
        return found.fence in ("asked", "backoff") or found.undo_status in ("asked", "backoff")

    def deliver(self, index: int) -> None:
        """Delivers one message on its way, perhaps once more later."""
        going = self.flying.pop(index)
        if self.faults.happens("duplicate") and not isinstance(going.given, Resume):
            self.flying.append(going)
        self.past.append(going)
        del self.past[:-PAST_MAX]
        self._deliver(going)

    def _deliver(self, going: Delivery) -> None:
        if going.given is not None:
            event = going.given
            if not isinstance(event, Arrived) or self._wants(going.saga_id, event):
                self.give(going.saga_id, event, going.child)
            return
        assert going.message is not None
        answer = self.participants.obey(going.saga_id, going.message, self.now)
        if answer is not None:
            copies = 2 if self.faults.happens("duplicate") else 1
            self.flying.extend(Delivery(going.saga_id, given=answer) for _ in range(copies))

    def refuse_newest(self, saga_id: str) -> None:
        """The broker refuses the newest command of a saga for good."""
        for index in reversed(range(len(self.flying))):
            message = self.flying[index].message
            if message is not None and self.flying[index].saga_id == saga_id:
                self.flying[index] = Delivery(saga_id, given=SendRefused(message.version, "message too large"))
                return

    def redeliver(self) -> None:
        """Something that was delivered before comes once more: a command, an answer, a timer, an event."""
        if self.past:
            going = self.random.choice(self.past)
            if self.faults.happens("contradict"):
                going = self._contrary(going)
            self._deliver(going)

    def _contrary(self, going: Delivery) -> Delivery:
        """The same answer, saying no where it said yes: of a step that is recorded as done."""
        answer = going.given
        if not isinstance(answer, Answer) or answer.purpose != "do" or answer.outcome != "ok":
            return going
        done = self.states[going.saga_id].activities[answer.activity].status == "succeeded"
        return Delivery(going.saga_id, given=replace(answer, outcome="refused", data=None)) if done else going

    def next_timer(self) -> bool:
        """Lets time pass to the earliest timer and fires it. False where there is none."""
        if not self.timers:
            return False
        (saga_id, activity), (due, armed) = min(self.timers.items(), key=lambda item: (item[1], item[0]))
        self.now = max(self.now, due) + self.random.randrange(3) * SECOND
        self.past.append(Delivery(saga_id, given=TimerDue(activity, armed)))
        self.give(saga_id, TimerDue(activity, armed))
        same = self.timers.get((saga_id, activity)) == (due, armed)
        demand(not same, f"{saga_id}: the timer of {activity} came due and is still there")
        return True

    def downtime(self) -> None:
        """Everything stands still for hours; then all that is overdue comes at once, in any order."""
        self.now += self.random.choice([20, 90, 600, 6000]) * 60 * SECOND
        overdue = [(key, found) for key, found in self.timers.items() if found[0] <= self.now]
        self.random.shuffle(overdue)
        for (saga_id, activity), (_, armed) in overdue:
            self.flying.append(Delivery(saga_id, given=TimerDue(activity, armed)))

    def publish_event(self, type_: str, key: str, data: Any, event_id: str) -> None:
        """A domain event arrives: every saga that waits for it gets it, else it is kept."""
        event = Arrived(type_, key, data, event_id, self.now)
        self.early.append(event)
        self.log.append(Entry(self.now - EPOCH, "", event))
        for saga_id in list(self.states):
            if self._wants(saga_id, event):
                self.flying.append(Delivery(saga_id, given=event))

    def _wants(self, saga_id: str, event: Arrived) -> bool:
        """As a store decides it: an open subscription that accepts the event, which this saga has not taken."""
        return (saga_id, event.event_id) not in self.taken and any(
            (wanted.type, wanted.key) == (event.type, event.key) and event.arrived_at >= wanted.accepts_from
            for (owner, _), rows in self.subscriptions.items()
            if owner == saga_id
            for wanted in rows
        )
