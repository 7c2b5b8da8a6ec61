"""explore: a saga through random replies, refusals, silences, duplicates, cancels and operators' acts.

Rules of this file
- A schedule has two parts: hostile, then healing (faults off, people decide, operators retry). After healing every saga
  has ended; before it, whatever has not ended waits for something that exists (kernel rule 29).
- A failure names the seed and prints the schedule; `explore(..., seeds=[seed])` repeats it.
Source: deterministic simulation testing, as FoundationDB and TigerBeetle do it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.kernel.children import saga_id as id_of
from orchestrator.kernel.graph import Program, TaskNode, node_path
from orchestrator.kernel.inputs import Start
from orchestrator.kernel.state import State
from orchestrator.kernel.turn import Limits
from orchestrator.testing.exploring.checker import BrokenInvariantError, demand
from orchestrator.testing.exploring.participants import Rates, Stored
from orchestrator.testing.exploring.world import World

HOSTILE_STEPS_MAX = 400
HEALING_STEPS_MAX = 4000
TAIL_LINES = 60


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a schedule needs: programs by saga name, the start, replies by type, and events people may send."""

    programs: Mapping[str, Program]
    name: str
    start_type: str
    start_data: Any
    business_key: str
    replies: Callable[[str], Any]
    events: tuple[tuple[str, str, Any], ...] = ()  # (type, key, data)
    limits: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Report:
    """How the schedules ended, by phase of the root saga, and how much was done."""

    ended: Counter[str] = field(default_factory=Counter)
    records: int = 0
    seeds: int = 0


class ScheduleError(AssertionError):
    """A schedule broke an invariant. `seed` repeats it; the text ends with the schedule's last lines."""

    def __init__(self, seed: int, cause: BaseException, log: list[str]) -> None:
        super().__init__(f"seed {seed}: {cause}\n" + "\n".join(log[-TAIL_LINES:]))
        self.seed = seed


def explore_scenario(scenario: Scenario, seeds: Iterable[int]) -> Report:
    """Runs one schedule per seed. Raises ScheduleError for the first that breaks an invariant."""
    report = Report()
    for seed in seeds:
        world = run_schedule(scenario, seed)
        root = world.states[root_id(scenario)]
        report.ended[root.phase] += 1
        report.records += sum(state.version for state in world.states.values())
        report.seeds += 1
    return report


def root_id(scenario: Scenario) -> str:
    """The id of the saga that the scenario starts."""
    return id_of("main", scenario.name, scenario.business_key)


def run_schedule(scenario: Scenario, seed: int) -> World:
    """One seed, one schedule. Raises ScheduleError."""
    random = Random(seed)  # noqa: S311 - a schedule must be repeatable, not secret
    world = World(scenario.programs, random, Rates.swarm(random), scenario.replies, limits=scenario.limits)
    try:
        _begin(world, scenario)
        _hostile(world, scenario)
        _orphans(world)
        _heal(world, scenario)
        world.checker.finish(world.states, world.participants.effects)
    except (AssertionError, Exception) as error:
        raise ScheduleError(seed, error, world.log) from error
    return world


def _begin(world: World, scenario: Scenario) -> None:
    saga = root_id(scenario)
    world.names[saga] = scenario.name
    world.give(saga, Start(saga, "main", scenario.business_key, scenario.start_type, scenario.start_data))


def _hostile(world: World, scenario: Scenario) -> None:
    random = world.random
    for _ in range(random.randrange(HOSTILE_STEPS_MAX)):
        if not _something(world, scenario):
            return
        for saga in list(world.states):
            if not world.states[saga].ended and random.random() < world.rates.cancel / 2:
                world.cancel(saga)


def _something(world: World, scenario: Scenario) -> bool:
    """One random thing that may happen now. False where nothing can."""
    random = world.random
    choices: list[Callable[[], Any]] = []
    if world.flying:
        late = world.rates.late and random.random() < world.rates.late
        index = random.randrange(len(world.flying)) if late else 0
        choices += [lambda: world.deliver(index)] * 6
    if world.timers:
        choices += [world.next_timer] * (1 if world.flying else 3)
    tasks = _open_tasks(world)
    if tasks:
        choices.append(lambda: _vote(world, *random.choice(tasks)))
    if scenario.events:
        event = random.choice(scenario.events)
        choices.append(lambda: world.publish_event(*event, event_id=f"e{len(world.early)}"))
    stuck = [(saga, place) for saga, state in world.states.items() for place in state.stuck]
    if stuck and random.random() < world.rates.operator:
        choices.append(lambda: _act(world, *random.choice(stuck)))
    if not world.flying and not world.timers and not tasks:
        return bool(stuck) and bool(choices) and _go(random.choice(choices))
    return _go(random.choice(choices))


def _go(action: Callable[[], Any]) -> bool:
    action()
    return True


def _open_tasks(world: World) -> list[tuple[str, str]]:
    return [
        (saga, activity)
        for saga, state in world.states.items()
        for activity, found in state.activities.items()
        if found.task is not None and found.status == "open"
    ]


def _vote(world: World, saga: str, activity: str) -> None:
    node = world.programs[world.names[saga]].graph.nodes[node_path(activity)]
    assert isinstance(node, TaskNode)
    task = world.states[saga].activities[activity].task
    assert task is not None
    excluded = [*task.excluded, *(cast["by"] for cast in task.votes)]
    by = next(name for name in (f"p{i}" for i in range(99)) if name not in excluded)
    world.vote(saga, activity, world.random.choice(node.outcomes), by)


def _act(world: World, saga: str, place: str) -> None:
    """An operator does something that fits the place: most often a retry."""
    random = world.random
    sign = place[:1]
    if sign == "?":
        world.operate(saga, place, "retry")
    elif sign == "~" and random.random() < 0.3:
        world.operate(saga, place, "take_over")
    else:
        world.operate(saga, place, "retry")


def _orphans(world: World) -> None:
    """A live saga waits for something that exists (rule 29)."""
    for saga, state in world.states.items():
        if state.ended or any(going.saga_id == saga for going in world.flying):
            continue
        text = f"{saga}: phase {state.phase}, tokens {list(state.tokens)}: waits for nothing (V30)"
        demand(_has_reason_to_wait(world, saga, state), text)


def _has_reason_to_wait(world: World, saga: str, state: State) -> bool:
    if state.stuck or any(key[0] == saga for key in world.timers):
        return True
    for found in state.activities.values():
        if found.undo_status in ("handed", "taken") or (found.status == "open" and found.kind in ("task", "wait")):
            return True
    children = [f.command["saga_id"] for f in state.activities.values() if f.kind == "call" and f.command]
    flying = any(going.saga_id in children for going in world.flying)
    return flying or any(not world.states[child].ended for child in children if child in world.states)


def _heal(world: World, scenario: Scenario) -> None:
    """Faults off; messages arrive, people decide, operators retry, time passes."""
    world.rates = Rates()
    world.participants.rates = world.rates
    for _ in range(HEALING_STEPS_MAX):
        if not _live(world) and not world.flying:
            return
        if not _healing_step(world, scenario):
            break
    names = ", ".join(f"{saga[:8]} {world.states[saga].phase} {world.states[saga].stuck}" for saga in _live(world))
    raise BrokenInvariantError(f"did not end after healing: {names}")


def _live(world: World) -> list[str]:
    return [saga for saga, state in world.states.items() if not state.ended]


def _healing_step(world: World, scenario: Scenario) -> bool:
    if world.flying:
        world.deliver(0)
        return True
    for saga, state in world.states.items():
        for place in list(state.stuck):
            if _mend(world, saga, place):
                return True
        handed = [key for key, found in state.activities.items() if found.undo_status == "handed"]
        if handed:
            undo = state.activities[handed[0]].undo
            assert undo is not None
            world.operate(
                saga, f"~{handed[0]}", world.random.choice(["give_back", "done", "skip"]), version=undo.taken_at
            )
            return True
    tasks = _open_tasks(world)
    if tasks and world.random.random() < 0.7:
        _vote(world, *tasks[0])
        return True
    if scenario.events and world.random.random() < 0.5:
        event = world.random.choice(scenario.events)
        world.publish_event(*event, event_id=f"h{len(world.early)}")
        return True
    return world.next_timer()


def _mend(world: World, saga: str, place: str) -> bool:
    """An operator un-sticks a place. An outcome that can never be known takes two people's evidence: the truth."""
    state = world.states[saga]
    stuck = state.stuck[place]
    if place[:1] == "?" and stuck.cause == "never":
        found = state.activities[place[1:]]
        assert found.command is not None
        key = (saga, found.command["key"])
        stored = world.participants.stored.get(key)
        done = stored is not None and stored.outcome == "ok"
        outcome = "done" if done else "not_done"
        data = stored.data if stored is not None and done else None
        world.participants.stored.setdefault(key, Stored("not_done"))
        world.operate(saga, place, "settle", by="olga", outcome=outcome, data=data)
        proposal = world.states[saga].activities[place[1:]].proposal
        if proposal is not None:
            version = proposal["version"]
            world.operate(saga, place, "settle", by="piet", outcome=outcome, data=data, version=version)
        return True
    turn = world.operate(saga, place, "retry")
    return turn.refusal is None
