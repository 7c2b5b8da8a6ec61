"""One schedule: a saga through random replies, refusals, silences, duplicates, cancels, wrong people and operators.

Rules of this file
- A schedule has two parts: hostile, then healing (faults off, people decide, operators retry). After healing every saga
  has ended; before it, whatever has not ended waits for something that exists (kernel rule 29), at every quiet moment.
- A failure names the seed and prints the schedule; `explore_scenario(..., seeds=[seed])` repeats it.
Source: deterministic simulation testing, as FoundationDB and TigerBeetle do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.kernel.children import saga_id as id_of
from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.graph import Program
from orchestrator.kernel.inputs import Start
from orchestrator.kernel.state import State
from orchestrator.kernel.turn import Limits
from orchestrator.testing.exploring import people
from orchestrator.testing.exploring.checker import BrokenInvariantError, demand
from orchestrator.testing.exploring.participants import Rates
from orchestrator.testing.exploring.world import Aim, World

HOSTILE_STEPS_MAX = 300
HEALING_STEPS_MAX = 4000
TAIL_LINES = 60
AIMED_AT = (
    "", "", "", "pivot", "pivot", "step.requested", "step.succeeded", "step.failed", "step.refused", "fence.requested",
    "fence.failed", "undo.requested", "undo.failed", "undo.taken_over", "undo.handed", "undo.planned",
    "compensation.started", "scope.entered", "scope.interrupted", "scope.failing", "scope.undo_planned",
    "child.requested", "child.completed", "task.opened", "task.voted", "event.awaited", "saga.failing", "saga.stuck",
    "evidence.proposed", "operator.settled", "saga.completed", "operator.retried",
)  # fmt: skip
AIMED_ACTS = ("cancel", "cancel", "redeliver", "downtime", "newest", "event", "operate", "unsent")

RARE = (
    Aim("saga.stuck", "settle"), Aim("saga.stuck", "settle"), Aim("saga.stuck", "take_over"),
    Aim("undo.handed", "operate"), Aim("pivot", "cancel"), Aim("step.requested", "unsent"),
    Aim("saga.stuck", "operate"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a schedule needs: programs by saga name, the start, replies to messages, and events people may send."""

    programs: Mapping[str, Program]
    name: str
    start_type: str
    start_data: Any
    business_key: str
    replies: Callable[[Outgoing], Any]
    events: tuple[tuple[str, str, Any], ...] = ()  # (type, key, data)
    event_data: Callable[[str, str], Any] | None = None  # what an event of this type and key says
    form_data: Callable[[str], dict[str, Any]] | None = None  # a filled-in form, by wire name
    limits: Limits | None = None  # None: drawn by the seed, sometimes tiny


@dataclass(slots=True)
class Report:
    """How the schedules ended, by phase of the root saga, and how much was done."""

    ended: Counter[str] = field(default_factory=Counter)
    records: int = 0
    seeds: int = 0


class ScheduleError(AssertionError):
    """A schedule broke an invariant. `seed` repeats it; the text ends with the schedule's last lines."""

    def __init__(self, seed: int, cause: BaseException, log: list[str]) -> None:
        super().__init__(f"seed {seed}: {type(cause).__name__}: {cause}\n" + "\n".join(log[-TAIL_LINES:]))
        self.seed = seed
        self.cause = cause
        self.log = log


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule's shape: what the seed draws, or less of it when a failure is made smaller."""

    seed: int
    rates: Rates
    steps: int
    aim: Aim
    limits: Limits

    @classmethod
    def of(cls, seed: int, limits: Limits | None = None) -> Plan:
        """What this seed draws."""
        random = Random(f"plan {seed}")  # noqa: S311 - a schedule must be repeatable, not secret
        rates = Rates.swarm(random)
        aim = Aim(random.choice(AIMED_AT), random.choice(AIMED_ACTS))
        if random.random() < 0.25:  # situations that chance reaches seldom
            aim = random.choice(RARE)
            rates.wrong_operator, rates.operator = rates.wrong_operator / 2, 0.5
            rates.lose = max(rates.lose, 0.2)
        tiny = Limits(turn_records_max=random.choice([1, 2, 3, 400, 400, 400]))
        return cls(seed, rates, random.randrange(HOSTILE_STEPS_MAX), aim, limits or tiny)


def explore_scenario(scenario: Scenario, seeds: Iterable[int]) -> Report:
    """Runs one schedule per seed. Raises ScheduleError for the first that breaks an invariant."""
    report = Report()
    for seed in seeds:
        world = run_schedule(scenario, seed)
        report.ended[world.states[root_id(scenario)].phase] += 1
        report.records += sum(state.version for state in world.states.values())
        report.seeds += 1
    return report


def root_id(scenario: Scenario) -> str:
    """The id of the saga that the scenario starts."""
    return id_of("main", scenario.name, scenario.business_key)


def run_schedule(scenario: Scenario, seed: int) -> World:
    """One seed, one schedule. Raises ScheduleError."""
    return run_plan(scenario, Plan.of(seed, scenario.limits))


def run_plan(scenario: Scenario, plan: Plan) -> World:
    """One schedule of this shape. Raises ScheduleError."""
    random = Random(plan.seed)  # noqa: S311
    world = World(scenario.programs, random, plan.rates, scenario.replies, plan.aim, plan.limits)
    world.form_data = scenario.form_data
    try:
        _begin(world, scenario)
        for _ in range(plan.steps):
            if not _something(world, scenario):
                break
            _quiet(world)
        _heal(world, scenario)
        world.checker.finish(world.participants.effects, world.participants.under)
    except Exception as error:
        raise ScheduleError(plan.seed, error, world.log) from error
    return world


def _begin(world: World, scenario: Scenario) -> None:
    saga = root_id(scenario)
    world.names[saga] = scenario.name
    world.give(saga, Start(saga, "main", scenario.business_key, scenario.start_type, scenario.start_data))


def _something(world: World, scenario: Scenario) -> bool:
    """One random thing that may happen now. False where nothing can."""
    random, rates = world.random, world.rates
    if world.struck:
        _strike(world, scenario, *world.struck.pop())
        return True
    choices: list[Callable[[], Any]] = []
    if world.flying:
        late = rates.late and random.random() < rates.late
        index = random.randrange(len(world.flying)) if late else 0
        choices += [lambda: world.deliver(index)] * 6
    if world.timers:
        choices += [world.next_timer] * (1 if world.flying else 3)
    tasks = people.open_tasks(world)
    if tasks:
        choices += [lambda: people.vote(world, *random.choice(tasks), honest=False)] * 4
    if _has_events(world, scenario) and (tasks or world.subscriptions or random.random() < 0.2):
        choices.append(lambda: _event(world, scenario, "e"))
    stuck = people.stuck_places(world)
    if stuck and random.random() < rates.operator:
        choices += [lambda: people.act(world, *random.choice(stuck))] * 2
    if not choices:
        return False
    _faults(world, choices)
    random.choice(choices)()
    return True


def _faults(world: World, choices: list[Callable[[], Any]]) -> None:
    random, rates = world.random, world.rates
    if world.past and random.random() < rates.replay:
        choices += [world.redeliver] * 4
    if random.random() < rates.downtime:
        choices += [world.downtime] * 2
    if random.random() < rates.cancel:
        live = [saga for saga, state in world.states.items() if not state.ended]
        if live:
            choices += [lambda: people.cancel(world, random.choice(live))] * 4


def _strike(world: World, scenario: Scenario, saga: str, act: str) -> None:
    """The aimed fault: right after a record of the chosen type."""
    if act == "cancel":
        people.cancel(world, saga)
    elif act == "redeliver":
        world.redeliver()
    elif act == "downtime":
        world.downtime()
        if _has_events(world, scenario):  # it comes late, and before the timers that are overdue
            before = len(world.flying)
            _event(world, scenario, "d")
            world.flying[:] = world.flying[before:] + world.flying[:before]
    elif act == "newest" and world.flying:
        world.deliver(len(world.flying) - 1)
    elif act == "event" and _has_events(world, scenario):
        _event(world, scenario, "a")
    elif act in ("settle", "take_over"):
        people.step_in(world, saga)
    elif act == "unsent":
        world.refuse_newest(saga)
    elif act == "operate" and (stuck := people.stuck_places(world)):
        people.act(world, *world.random.choice(stuck))


def _has_events(world: World, scenario: Scenario) -> bool:
    return bool(scenario.events) or (scenario.event_data is not None and bool(world.subscriptions))


def _event(world: World, scenario: Scenario, prefix: str) -> None:
    """An event: more often than not one that somebody waits for."""
    wanted = {(row.type, row.key) for rows in world.subscriptions.values() for row in rows}
    if scenario.event_data is not None and (not scenario.events or (wanted and world.random.random() < 0.7)):
        type_, key = world.random.choice(sorted(wanted))
        world.publish_event(type_, key, scenario.event_data(type_, key), event_id=f"{prefix}{len(world.early)}")
        return
    fitting = [event for event in scenario.events if event[:2] in wanted]
    event = world.random.choice(fitting if fitting and world.random.random() < 0.7 else scenario.events)
    world.publish_event(*event, event_id=f"{prefix}{len(world.early)}")


def _quiet(world: World) -> None:
    """At a quiet moment a live saga waits for something that exists (rule 29)."""
    if world.flying:
        return
    for saga, state in world.states.items():
        if not state.ended:
            text = f"{saga}: phase {state.phase}, tokens {list(state.tokens)}: waits for nothing (V30)"
            demand(_has_reason_to_wait(world, saga, state), text)


def _has_reason_to_wait(world: World, saga: str, state: State) -> bool:
    if state.stuck or any(key[0] == saga for key in (*world.timers, *world.tasks, *world.subscriptions)):
        return True
    if people.handed(state):
        return True
    children = [child for child, (parent, _) in world.parents.items() if parent == saga]
    return any(child in world.states and not world.states[child].ended for child in children)


def _heal(world: World, scenario: Scenario) -> None:
    """Faults off; messages arrive, people decide, operators retry, time passes."""
    world.rates = world.participants.rates = Rates()
    people.heal_participants(world)
    world.struck.clear()
    for _ in range(HEALING_STEPS_MAX):
        if not world.flying and all(state.ended for state in world.states.values()) and not _found(world):
            return
        if not _healing_step(world, scenario):
            break
    names = ", ".join(f"{s[:8]} {state.phase} {state.stuck}" for s, state in world.states.items() if not state.ended)
    raise BrokenInvariantError(f"did not end after healing: {names}")


def _found(world: World) -> list[tuple[str, str]]:
    """Effects that were found after evidence had said otherwise: work that outlives the end of a saga."""
    return [(saga, place) for saga, state in world.states.items() if state.ended for place in state.stuck]


def _healing_step(world: World, scenario: Scenario) -> bool:
    if world.flying:
        world.deliver(0)
        return True
    for saga, state in world.states.items():
        for place in list(state.stuck):
            if people.mend(world, saga, place):
                return True
        for key in people.handed(state):
            undo = state.activities[key].undo
            assert undo is not None
            act: Any = world.random.choice(["give_back", "done", "skip"])
            people.operate(world, saga, f"~{key}", act, version=undo.taken_at)
            return True
    tasks = people.open_tasks(world)
    if tasks and world.random.random() < 0.7:
        people.vote(world, *tasks[0])
        return True
    if _has_events(world, scenario) and world.random.random() < 0.3:
        _event(world, scenario, "h")
        return True
    return world.next_timer()
