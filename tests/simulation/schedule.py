"""One schedule: hostile for a while, then healing; after healing everything has ended and everything is accounted for.

Rules of this file
- The driver is one task of the same loop: it brings events, people, kills and time; the rest happens by itself.
- Waiting for days is a jump: as if the machine had been suspended until shortly after the next timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import structlog

from orchestrator.config import Settings
from orchestrator.runtime.catalog import Catalog
from orchestrator.testing.exploring import people
from orchestrator.testing.exploring.checker import demand
from orchestrator.testing.exploring.explore import Scenario
from orchestrator.testing.exploring.faults import Faults, Rates
from tests.kernel.flows import draw, staged
from tests.simulation.crowd import Crowd
from tests.simulation.ending import finish, meet
from tests.simulation.faults import Weather
from tests.simulation.outside import Outside
from tests.simulation.plan import FLOWS_PER_SEED, Plan, of_the_desk
from tests.simulation.process import Process
from tests.simulation.sent import Sent
from tests.simulation.services import Services
from tests.simulation.virtual import VirtualLoop, virtual_time
from tests.simulation.watch import Watch, watching
from tests.simulation.world import SECOND, World

QUIET_S_MAX = 60.0  # virtual seconds in which a healthy world comes to rest
HEALING_ROUNDS_MAX = 1_000
PAUSES = (0.0, 0.0, 0.01, 0.05, 0.3, 1.0)
LAST_LINES = 80


class ScheduleError(AssertionError):
    """A schedule broke an invariant: the seed, what it was, and the end of the trace."""

    def __init__(self, plan: Plan, cause: BaseException, trace: list[str]) -> None:
        self.plan, self.cause, self.trace = plan, cause, trace
        lines = "\n".join(trace[-LAST_LINES:])
        super().__init__(f"seed {plan.seed}: {type(cause).__name__}: {cause}\n{plan}\n{lines}")


@dataclass(slots=True)
class Result:
    """What a schedule came to."""

    digest: str
    records: int
    ended: dict[str, int]
    seconds: float
    commits: int


def flow_of(seed: int) -> tuple[Scenario, Any]:
    """The flow of a seed: drawn until it is a legal one."""
    number = seed // FLOWS_PER_SEED * 1_000
    theme = "desk" if of_the_desk(seed) else ""
    while (found := draw(Random(number), theme)) is None:
        number += 1
    return staged(found), found.parent


class Schedule:
    """One schedule under way."""

    def __init__(self, plan: Plan, flow: tuple[Scenario, Any]) -> None:
        self.plan = plan
        scenario, saga = flow
        self.loop = VirtualLoop()
        random = Random(plan.seed)
        faults, catalog = Faults(random, plan.rates), Catalog.of([saga])
        self.world = World(self.loop, random, faults, scenario, catalog, plan.aim, plan.limits())
        settings = _settings(plan)
        self.processes = [
            Process(self.world, f"process {n + 1}", settings, plan.weather, plan.turn_records)
            for n in range(plan.processes)
        ]
        self.crowd = Crowd(self.world, self.processes)
        types = {"do": WORKED, "fence": WORKED, "undo": DONE, "fence_undo": DONE}
        self.services = Services(self.world, "worker", types)
        self.outside = Outside(self.world, plan)
        self.watch = Watch(self.world)
        self.world.tables.watcher = self.watch
        self.world.messages.on_append += [Sent(self.world).hear, self.services.hear]

    def run(self) -> Result:
        """The whole schedule. Raises ScheduleError."""
        world = self.world
        logging = structlog.get_config()
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        self.loop.set_exception_handler(self._unheard)
        with virtual_time(self.loop), watching(self.watch):
            try:
                self.loop.run_until_complete(self._drive())
                finish(world)
            except Exception as error:
                raise ScheduleError(self.plan, world.broken or error, world.trace) from error
            finally:
                self._close()
                structlog.configure(**logging)
        ended: dict[str, int] = {}
        for state in world.states.values():
            ended[state.phase] = ended.get(state.phase, 0) + 1
        records = sum(state.version for state in world.states.values())
        return Result(world.digest(), records, ended, self.loop.time() - 1_000, world.tables.commits)

    def _unheard(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.world.broken is None and isinstance(error, Exception):
            self.world.broken = error

    def _close(self) -> None:
        for process in self.processes:
            if process.port is not None:
                process.port.alive = process.up = False
        self.loop.set_exception_handler(lambda loop, context: None)
        self.loop.selector.rounds = 0
        for _ in range(5):
            tasks = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            for task in tasks:
                task.cancel()
            if tasks:
                self.loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        self.loop.close()

    # --- hostile ------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        random = self.world.random
        for process in self.processes:
            process.start()
        await asyncio.sleep(0.5)
        self.outside.begin()
        for _ in range(self.plan.steps):
            await self._something()
            await asyncio.sleep(random.choice(PAUSES))
            self._judge()
        await self._heal()

    def _judge(self) -> None:
        if self.world.broken is not None:
            raise self.world.broken
        demand(not self.world.tables.locks.deadlocks, f"deadlock: {self.world.tables.locks.deadlocks}")

    async def _something(self) -> None:
        """One thing that happens now."""
        world, plan, crowd = self.world, self.plan, self.crowd
        random, rates = world.random, world.faults.rates
        if world.struck:
            self._strike(*world.struck.pop())
            return
        acts: list[tuple[float, Callable[[], None]]] = [
            (0.3, lambda: crowd.vote(honest=False)),
            (plan.desk, crowd.work),
            (rates.operator, crowd.operate),
            (rates.cancel, crowd.cancel),
            (plan.events, self.outside.event),
            (plan.duplicates, self.outside.again),
            (plan.garbage, self.outside.garbage),
            (plan.crashes, self._crash),
            (plan.freezes, lambda: random.choice(self.processes).freeze()),
            (plan.jumps, self._to_next_timer),
            (rates.edge, self._edge),
            (rates.downtime, self._downtime),
            (0.1 if plan.crashes else 0.0, lambda: random.choice(self.processes).stop()),
            (0.5, self._restart),
        ]
        for rate, act in acts:
            if rate and random.random() < rate:
                act()

    def _strike(self, saga_id: str, act: str) -> None:
        """The aimed fault, right after a record of its type."""
        crowd, random = self.crowd, self.world.random
        if act == "cancel":
            crowd.cancel(saga_id)
        elif act == "crash":
            self._crash()
        elif act == "freeze":
            random.choice(self.processes).freeze()
        elif act in ("settle", "take_over"):
            crowd.step_in(saga_id)
        elif act in ("event", "newest"):
            self.outside.event()
        elif act == "redeliver":
            self.outside.again()
        elif act == "operate":
            crowd.operate()
        elif act == "downtime":
            self._downtime()

    def _crash(self) -> None:
        """A process dies now, or at one of its next calls."""
        random = self.world.random
        process = random.choice(self.processes)
        if process.port is not None and random.random() < 0.4:
            process.port.aimed_at = random.choice(["send", "send", "mark sent", "commit", "write"])
        elif process.port is not None and random.random() < 0.7:
            process.port.aimed = random.randrange(1, 12)
        else:
            process.crash("a random moment")

    def _restart(self) -> None:
        for process in self.processes:
            process.start()

    def _to_next_timer(self) -> None:
        due = [row.due for row in self.world.tables.timers.values()]
        ahead = (min(due, default=0) - self.world.clock()) / SECOND
        if ahead > 0:
            self.loop.jump(ahead + self.world.random.random() * 2)

    def _edge(self) -> None:
        """Events come in the very moments in which a timer runs out."""
        random = self.world.random
        due = min((row.due for row in self.world.tables.timers.values()), default=0)
        ahead = (due - self.world.clock()) / SECOND
        if ahead > 0:
            self.loop.jump(max(0.0, ahead - random.random()))
        for _ in range(8):
            self.services.later(self.outside.event, random.random())

    def _downtime(self) -> None:
        """Nobody runs for hours."""
        random = self.world.random
        if random.random() < 0.5:
            for process in self.processes:
                process.crash("downtime")
        self.loop.jump(random.choice([20, 90, 600, 6000]) * 60 * random.random())

    # --- healing ------------------------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        """Faults off; everything is delivered, people decide, operators mend, time passes."""
        world = self.world
        world.log("healing")
        world.faults.rates = Rates()
        people.heal_participants(world)  # type: ignore[arg-type]
        self.services.hurry()
        calm = Weather()
        for process in self.processes:
            process.weather = calm
            if process.port is not None:
                process.port.weather = calm
                process.port.aimed, process.port.aimed_at = 0, ""
        for _ in range(HEALING_ROUNDS_MAX):
            await self._quiet()
            meet(world)
            if self.outside.redrive(self.processes) or self.crowd.mend():
                continue
            if all(state.ended for state in world.states.values()):
                return
            self._go_on()
        waiting = {s[:8]: f"{x.phase} {list(x.tokens)} {x.stuck}" for s, x in world.states.items() if not x.ended}
        demand(False, f"did not end after healing: {waiting}")

    def _go_on(self) -> None:
        """Nothing moves: somebody decides a task, an event comes, or time passes."""
        world = self.world
        orphans = world.tables.orphans()
        demand(not orphans, f"live sagas wait for nothing: {orphans} (V30)")
        if self.crowd.open_tasks() and world.random.random() < 0.7:
            self.crowd.vote_all()
        elif world.random.random() < 0.3:
            self.outside.event()
        else:
            self._to_next_timer()

    async def _quiet(self) -> None:
        """Waits until nothing moves any more, which must not take long."""
        since = self.loop.time()
        rest = 0
        while rest < 2:
            await asyncio.sleep(0.2)
            self._restart()
            self._judge()
            reason = self._moving()
            rest = 0 if reason else rest + 1
            demand(self.loop.time() - since < QUIET_S_MAX, f"no rest after {QUIET_S_MAX} s: {reason} (V5, V23)")

    def _moving(self) -> str:
        """What is still to be done, by anybody."""
        world, tables = self.world, self.world.tables
        if self.services.flying or self.crowd.asking:
            return "participants or people"
        if tables.unsent:
            return f"unsent messages {sorted(tables.unsent)[:3]}"
        if tables.resumes or tables.checks:
            return "resumes or checks"
        for place, messages in world.consumed_partitions():
            if tables.positions.get((world.group, *place), (0, 0))[0] < len(messages):
                return f"{place} is not read"
        now = world.clock()
        due = [place for place, row in tables.timers.items() if row.due <= now]
        return f"timers {due}" if due else ""


def _settings(plan: Plan) -> Settings:
    return Settings(
        topic_partitions=plan.partitions, intake_lanes=plan.lanes, intake_wait_ms=500, intake_heartbeat_ms=600,
        intake_batch_messages=plan.batch, cache_sagas_max=plan.cache, turn_records_max=max(plan.turn_records, 10),
        timer_poll_ms=200, reconcile_poll_ms=1_000, outbox_mark_ms=300, outbox_sweep_ms=700, outbox_poll_ms=100,
        outbox_memory_rows_max=plan.memory_rows, outbox_backlog_rows_max=100, outbox_batch_rows=plan.batch,
    )  # fmt: skip


def run_seed(seed: int, plan: Plan | None = None) -> Result:
    """One seed. Raises ScheduleError."""
    return Schedule(plan or Plan.of(seed), flow_of(seed)).run()


WORKED = "flow_contracts.Worked"
DONE = "orchestrator.Done"

__all__ = ["Plan", "Result", "ScheduleError", "run_seed"]
