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
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from orchestrator.kernel.children import saga_id as id_of
from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.graph import Program, node_path
from orchestrator.kernel.inputs import Start
from orchestrator.kernel.state import State
from orchestrator.kernel.turn import Limits
from orchestrator.testing.exploring import desk, people
from orchestrator.testing.exploring.checker import BrokenInvariantError, demand
from orchestrator.testing.exploring.faults import Faults, Rates
from orchestrator.testing.exploring.planning import Plan
from orchestrator.testing.exploring.words import EPOCH, Entry
from orchestrator.testing.exploring.world import World

HEALING_STEPS_MAX = 4000
MENDS_MAX = 6  # of one place, while nothing goes wrong: after that it will never move
TAIL_LINES = 60


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
    stress: str = ""  # the faults to aim at, see `STRESS`; "": what the seed draws
    limits: Limits | None = None  # None: drawn by the seed, sometimes tiny


@dataclass(slots=True)
class Report:
    """How the schedules ended, by phase of the root saga, and how much was done."""

    ended: Counter[str] = field(default_factory=Counter)
    records: int = 0
    seeds: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # how often each fault happened, by the names of Rates
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # phase and outcome of the root saga
    reached: set[str] = field(default_factory=set)  # nodes of the root saga that some schedule came to

    def add(self, other: Report) -> None:
        """Takes another one in."""
        self.ended += other.ended
        self.faults += other.faults
        self.outcomes += other.outcomes
        self.reached |= other.reached
        self.records += other.records
        self.seeds += other.seeds


class ScheduleError(AssertionError):
    """A schedule broke an invariant. `seed` repeats it; the text ends with the schedule's last lines."""

    def __init__(self, seed: int, cause: BaseException, log: list[str]) -> None:
        super().__init__(f"seed {seed}: {type(cause).__name__}: {cause}\n" + "\n".join(log[-TAIL_LINES:]))
        self.seed = seed
        self.cause = cause
        self.log = log


def explore_scenario(scenario: Scenario, seeds: Iterable[int]) -> Report:
    """Runs one schedule per seed. Raises ScheduleError for the first that breaks an invariant."""
    report = Report()
    for seed in seeds:
        world = run_schedule(scenario, seed)
        root = world.states[root_id(scenario)]
        report.ended[root.phase] += 1
        report.outcomes[root.phase, root.outcome] += 1
        report.reached.update(node_path(activity) for activity in root.activities)
        report.records += sum(state.version for state in world.states.values())
        report.seeds += 1
        report.faults += world.faults.fired
    return report


def root_id(scenario: Scenario) -> str:
    """The id of the saga that the scenario starts."""
    return id_of("main", scenario.name, scenario.business_key)


def run_schedule(scenario: Scenario, seed: int) -> World:
    """One seed, one schedule. Raises ScheduleError."""
    return run_plan(scenario, Plan.of(seed, scenario.limits, scenario.stress))


def run_plan(scenario: Scenario, plan: Plan) -> World:
    """One schedule of this shape. Raises ScheduleError."""
    random = Random(plan.seed)  # noqa: S311
    world = World(scenario.programs, random, Faults(random, plan.rates), scenario.replies, plan.aim, plan.limits)
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
        raise ScheduleError(plan.seed, error, world.lines()) from error
    return world


def _begin(world: World, scenario: Scenario) -> None:
    saga = root_id(scenario)
    world.names[saga] = scenario.name
    world.give(saga, Start(saga, "main", scenario.business_key, scenario.start_type, scenario.start_data))


def _something(world: World, scenario: Scenario) -> bool:
    """One random thing that may happen now. False where nothing can."""
    random, faults = world.random, world.faults
    if world.struck:
        _strike(world, scenario, *world.struck.pop())
        return True
    choices: list[Callable[[], Any]] = []
    if world.flying:
        late = len(world.flying) > 1 and faults.happens("late")
        index = random.randrange(len(world.flying)) if late else 0
        choices += [lambda: world.deliver(index)] * 6
    if world.timers:
        choices += [world.next_timer] * (1 if world.flying else 3)
    tasks = people.open_tasks(world)
    if tasks:
        choices += [lambda: people.vote(world, *random.choice(tasks), honest=False)] * 4
    if tasks and faults.rates.desk:
        choices += [lambda: desk.act(world, *random.choice(tasks))] * round(14 * faults.rates.desk)
        choices += [lambda: desk.vote(world, *random.choice(tasks))] * round(4 * faults.rates.desk)
    if world.closed_tasks and faults.happens("wrong_person"):
        closed = random.choice(list(world.closed_tasks))
        choices.append(lambda: people.vote(world, *closed, honest=False))
    if _has_events(world, scenario) and (tasks or world.subscriptions or random.random() < 0.2):
        choices.append(lambda: _event(world, scenario, "e"))
    stuck = people.stuck_places(world)
    if stuck and faults.happens("operator"):
        choices += [lambda: people.act(world, *random.choice(stuck))] * 2
    if not choices:
        return False
    _faults(world, choices)
    random.choice(choices)()
    return True


def _faults(world: World, choices: list[Callable[[], Any]]) -> None:
    random, faults = world.random, world.faults
    if world.past and faults.happens("replay"):
        choices += [world.redeliver] * 4
    if faults.happens("downtime"):
        choices += [world.downtime] * 2
    if faults.happens("cancel"):
        live = [saga for saga, state in world.states.items() if not state.ended]
        if live:
            choices += [lambda: people.cancel(world, random.choice(live))] * 4


def _strike(world: World, scenario: Scenario, saga: str, act: str) -> None:
    """The aimed fault: right after a record of the chosen type."""
    if act == "cancel":
        people.cancel(world, saga)
    elif act == "cancel_parent" and saga in world.parents:
        people.cancel(world, world.parents[saga].saga_id)
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
    elif act == "push":
        people.push(world, saga)
    elif act == "unsent":
        world.refuse_newest(saga)
    elif act == "operate" and (stuck := people.stuck_places(world)):
        people.act(world, *world.random.choice(stuck))


def _has_events(world: World, scenario: Scenario) -> bool:
    return bool(scenario.events) or (scenario.event_data is not None and bool(world.subscriptions))


def _event(world: World, scenario: Scenario, prefix: str) -> None:
    """An event: more often than not one that somebody waits for, sometimes just when the wait's time is over."""
    if world.faults.happens("edge"):
        limits = [world.timers[key][0] for key in world.subscriptions if key in world.timers]
        world.now = max(world.now, world.random.choice(limits)) if limits else world.now
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
    children = [child for child, parent in world.parents.items() if parent.saga_id == saga]
    return any(child in world.states and not world.states[child].ended for child in children)


def _heal(world: World, scenario: Scenario) -> None:
    """Faults off; messages arrive, people decide, operators retry, time passes."""
    world.faults.rates = Rates()
    world.limits = replace(world.limits, message_bytes_max=Limits().message_bytes_max)
    world.log.append(Entry(world.now - EPOCH, "", "from here on nothing goes wrong any more"))
    people.heal_participants(world)
    world.struck.clear()
    mended: Counter[tuple[str, str]] = Counter()
    for _ in range(HEALING_STEPS_MAX):
        if not world.flying and all(state.ended for state in world.states.values()) and not _found(world):
            return
        if not _healing_step(world, scenario, mended) or max(mended.values(), default=0) > MENDS_MAX:
            break
    raise BrokenInvariantError(f"did not end although nothing goes wrong any more: {_left(world)}")


def _left(world: World) -> str:
    """What keeps the sagas from their end: stuck places with their reasons, else what is open."""
    found = []
    for saga, state in world.states.items():
        if not state.ended or state.stuck:
            stuck = [f"{place} is stuck: {mark.reason.partition(chr(10))[0]}" for place, mark in state.stuck.items()]
            waits = [
                key for key, activity in state.activities.items() if activity.unsettled or activity.status == "open"
            ]
            found.append(f"{world.names[saga]} {saga[:8]}, {state.phase}: {'; '.join(stuck) or f'open are {waits}'}")
    return "\n".join(found)


def _found(world: World) -> list[tuple[str, str]]:
    """Effects that were found after evidence had said otherwise: work that outlives the end of a saga."""
    return [(saga, place) for saga, state in world.states.items() if state.ended for place in state.stuck]


def _healing_step(world: World, scenario: Scenario, mended: Counter[tuple[str, str]]) -> bool:
    if world.flying:
        world.deliver(0)
        return True
    for saga, state in world.states.items():
        for place in list(state.stuck):
            if people.mend(world, saga, place):
                mended[saga, place] += 1
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
