"""Watches every transaction as it commits: turns, streams, tables, positions.

Rules of this file
- Turns are noted where the coordinator decides them, and judged when, and only when, their batch commits, in the order
  of commits. The judge of single sagas is the kernel's own hostile checker (`orchestrator/testing/exploring`).
- States are folded anew here from the bytes that were stored, never taken from the coordinator.
- A broken invariant is kept (`World.broken`) and ends the schedule; it never travels through the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from orchestrator.kernel.api import Turn
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import Program
from orchestrator.kernel.inputs import Answer, ChildAnswer, Input, Parent, SendRefused, TimerDue
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.runtime import turns
from orchestrator.store.contract import Append, BatchWrite
from orchestrator.testing.exploring.checker import Checker, demand
from tests.simulation.tables import Tables
from tests.simulation.world import World


@dataclass(slots=True)
class Decided:
    """One turn as the coordinator decided it."""

    saga_id: str
    program: Program
    given: Input
    now: int
    turn: Turn


class Watch:
    """The watcher of one schedule's tables."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tables: Tables = world.tables
        self._noted: dict[asyncio.Task[Any] | None, list[Decided]] = {}
        self._written: dict[int, tuple[BatchWrite, list[Decided]]] = {}
        self._causes: set[tuple[str, str]] = set()
        self._read: dict[tuple[str, str, int], int] = {}

    # --- while a batch is decided -------------------------------------------------------------------------------------

    def began(self) -> None:
        """A batch begins in this task."""
        self._noted[asyncio.current_task()] = []

    def writes(self, write: BatchWrite) -> None:
        """It has decided."""
        self._written[id(write)] = write, list(self._noted.get(asyncio.current_task(), ()))

    def note(self, program: Program, state: State | None, given: Input, now: int, turn: Turn) -> None:
        """One turn was decided, perhaps in vain."""
        saga_id = turn.state.saga_id or (state.saga_id if state is not None else "")
        if saga_id:
            self._noted.setdefault(asyncio.current_task(), []).append(Decided(saga_id, program, given, now, turn))

    # --- once it is committed -----------------------------------------------------------------------------------------

    def committed(self, write: BatchWrite, now: int) -> None:
        """The batch is committed."""
        with self._world.judging():
            _, noted = self._written.pop(id(write), (write, []))
            appended = {id(record.data) for append in write.appends for record in append.records}
            dropped = {d.saga_id for d in noted if d.turn.records and id(d.turn.records[0].data) not in appended}
            count = 0
            for decided in noted:
                if decided.saga_id not in dropped:
                    count += len(decided.turn.records)
                    self._turn(decided, now)
            demand(count == len(appended), f"{len(appended)} records stored, {count} of them were decided")
            for append in write.appends:
                self._rows(append)
            self._positions(write)

    def _turn(self, decided: Decided, now: int) -> None:
        world, saga_id, turn = self._world, decided.saga_id, decided.turn
        state = world.states.setdefault(saga_id, State())
        before = state.version
        if turn.records:
            world.names[saga_id] = decided.program.graph.name
            world.log(f"  {saga_id[:8]} {decided.given!s:.200}")
            world.log("".join(f"\n      -> {record.type} {record.activity}" for record in turn.records)[1:])
            if isinstance(decided.given, TimerDue):
                self._timer(saga_id, decided.given, state)
            world.applied[id(decided.given)] = decided.given
        if isinstance(decided.given, SendRefused):
            world.told.add((saga_id, decided.given.version))
        world.checker.turn(saga_id, decided.program.graph, decided.given, decided.now, turn)
        lines = self._tables.stream(saga_id)[before : before + len(turn.records)] if turn.records else []
        for line in lines:
            demand(line.recorded_at >= decided.now, f"{saga_id}: recorded before it was decided")
        if lines and isinstance(decided.given, Answer | ChildAnswer):
            cause = (saga_id, lines[0].causation_id)
            demand(cause not in self._causes, f"message {cause[1]} moved {saga_id} twice (V27)")
            self._causes.add(cause)
        for line in lines:
            evolve(state, Record(line.type, line.activity, line.data))
        demand(state.summary() == turn.state.summary(), f"{saga_id}: the stored bytes fold into another state (V12)")
        for message in turn.effects.outbox:
            if message.kind in ("start", "unwind"):
                world.parents[message.target] = Parent(**message.body["parent"])
        world.checker.between(saga_id, decided.given, world.parents)
        for record in turn.records:
            world.happened(saga_id, record)

    def _timer(self, saga_id: str, given: TimerDue, state: State) -> None:
        """A timer acts only on what intake has read up to (rule 31), and after its command was published (rule 9)."""
        world = self._world
        found = state.activities.get(given.activity)
        due = state.deadline if not given.activity else found.due if found is not None else 0
        for place, messages in world.consumed_partitions():
            late = [message for message in messages if message.appended_at < due]
            reached = self._tables.positions.get((world.group, *place), (0, 0))[0]
            text = f"the timer of {given.activity} acts, but {place} is read up to {reached} of {len(late)} (rule 31)"
            demand(reached >= len(late), text)
        command = world.clocked.pop((saga_id, given.activity, given.armed), None)
        if command is not None and command not in world.refused:
            published = world.published.get(command)
            demand(published is not None, f"{given.activity} timed out before {command} was published (rule 9)")

    def _rows(self, append: Append) -> None:
        """What the tables hold for a saga is what its state says."""
        tables, saga_id = self._tables, append.saga_id
        state = self._world.states[saga_id]
        for timer in append.effects.timers_set:
            if timer.command_version:
                name = (saga_id, timer.command_version)
                self._world.clocked[saga_id, timer.activity, timer.armed] = name
        timers = {place[1]: row.armed for place, row in tables.timers.items() if place[0] == saga_id}
        due = {key: found.armed for key, found in state.activities.items() if found.due}
        if state.deadline:
            due[""] = state.deadline_armed
        demand(timers == due, f"{saga_id}: timers {timers}, its state says {due}")
        waits = {check[1] for check in tables.waits if check[0] == saga_id}
        wants = {key for key, found in state.activities.items() if found.wants}
        demand(waits == wants, f"{saga_id}: subscriptions {waits}, its state says {wants}")
        tasks = {place[1]: row["hash"] for place, row in tables.tasks.items() if place[0] == saga_id}
        open_ = {k: f.task.hash for k, f in state.activities.items() if f.task is not None and f.status == "open"}
        demand(tasks == open_, f"{saga_id}: tasks {tasks}, its state says {open_}")

    def _positions(self, write: BatchWrite) -> None:
        """No position passes a message that nobody has taken in, kept or found to concern nobody (V26, V27)."""
        for place in write.positions:
            stored = self._tables.positions[place][0]
            _, topic, partition = place
            for offset in range(self._read.get(place, 0), stored):
                message = self._world.messages.topics[topic][partition].messages[offset]
                demand(self._world.accounted(message), f"{topic}[{partition}] passes {offset}, which is lost (V26)")
            demand(stored >= self._read.get(place, 0), f"{topic}[{partition}] goes back (V26)")
            self._read[place] = stored


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """While this lasts, every turn that the runtime decides is noted."""
    module: Any = turns
    real = module.advance

    def noted(program: Any, state: Any, given: Any, now: int, limits: Any, **more: Any) -> Any:
        turn = real(program, state, given, now, limits, **more)
        watch.note(program, state, given, now, turn)
        return turn

    module.advance = noted
    try:
        yield
    finally:
        module.advance = real


__all__ = ["Checker", "Watch", "watching"]
