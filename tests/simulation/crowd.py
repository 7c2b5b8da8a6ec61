"""People of the world: what they want to do is asked of a process, twice by some, and answered late or never."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from orchestrator.kernel.inputs import Cancel, Operate, TaskAct, Vote
from orchestrator.runtime.work import Cause, SagaInput
from orchestrator.testing.exploring import desk, people
from orchestrator.testing.exploring.checker import demand
from tests.simulation.process import Process
from tests.simulation.world import World


@dataclass(slots=True)
class Crowd:
    """Everybody who decides, cancels and operates."""

    world: World
    processes: list[Process]
    asking: int = 0

    @property
    def _eyes(self) -> Any:
        return cast("Any", self.world)

    def open_tasks(self) -> list[tuple[str, str]]:
        """Tasks that somebody could decide."""
        return [place for place in sorted(self.world.tables.tasks) if place[0] in self.world.checker.stories]

    def stuck(self) -> list[tuple[str, str]]:
        """Places that only a person can move."""
        return people.stuck_places(self._eyes)

    def vote(self, *, honest: bool = True) -> None:
        """Somebody decides a task."""
        tasks = self.open_tasks()
        if tasks:
            people.vote(self._eyes, *self.world.random.choice(tasks), honest=honest)
            self._ask()

    def work(self) -> None:
        """Somebody works on a task beside deciding it, or decides by another's right."""
        tasks = self.open_tasks()
        if tasks:
            does = self.world.random.choice([desk.act, desk.act, desk.vote])
            does(self._eyes, *self.world.random.choice(tasks))
            self._ask()

    def vote_all(self) -> None:
        """Everybody does what they have to."""
        for place in self.open_tasks():
            people.vote(self._eyes, *place)
        self._ask()

    def cancel(self, saga_id: str = "") -> None:
        """Somebody cancels a saga."""
        live = [saga_id] if saga_id else [s for s, state in self.world.states.items() if not state.ended]
        if live:
            people.cancel(self._eyes, self.world.random.choice(live))
            self._ask()

    def operate(self) -> None:
        """An operator does what fits, or what does not."""
        stuck = self.stuck()
        if stuck:
            people.act(self._eyes, *self.world.random.choice(stuck))
            self._ask()

    def step_in(self, saga_id: str) -> None:
        """People act on the newest stuck place at once."""
        if saga_id in self.world.states:
            people.step_in(self._eyes, saga_id)
            self._ask()

    def mend(self) -> bool:
        """After the faults: every stuck place gets what moves it. True where there was one."""
        world, found = self.world, False
        for saga_id, state in list(world.states.items()):
            for place in list(state.stuck):
                people.mend(self._eyes, saga_id, place)
                found = True
            for key in people.handed(state):
                undo = state.activities[key].undo
                assert undo is not None
                act: Any = world.random.choice(["give_back", "done", "skip"])
                people.operate(self._eyes, saga_id, f"~{key}", act, version=undo.taken_at)
                found = True
        self._ask()
        return found

    def _ask(self) -> None:
        """What was wanted goes to some process; who double-clicks asks twice, perhaps another one."""
        world, random = self.world, self.world.random
        acts, world.acts = list(world.acts), []
        for saga_id, given in acts:
            for _ in range(2 if world.faults.rates.duplicate and random.random() < 0.2 else 1):
                process = random.choice(self.processes)
                self.asking += 1
                world.loop.create_task(self._one(process, saga_id, copy(given), random))

    async def _one(self, process: Process, saga_id: str, given: Any, random: Random) -> None:
        person = given.by if isinstance(given, (Vote, TaskAct, Operate, Cancel)) else "system"
        item = SagaInput(saga_id, given, Cause("main", actor=f"person:{person}", causation_id=f"act:{person}"))
        outcome = await process.submit(item)
        self.asking -= 1
        answer = outcome.fate if outcome is not None else "no answer"
        if outcome is not None:
            with self.world.judging():
                moved = id(given) in self.world.applied
                demand(
                    moved == (answer == "applied"), f"{given} was answered {answer}; it moved its saga: {moved} (V31)"
                )
        self.world.log(f"{process.name} answers {person} {type(given).__name__}: {answer}")
