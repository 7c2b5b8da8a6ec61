"""People of a simulated world: those who decide tasks, operators at stuck places, and the wrong ones among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.kernel.inputs import Cancel, Operate, Vote
from orchestrator.kernel.operators import proposed
from orchestrator.kernel.state import State
from orchestrator.messages.contract import Contract
from orchestrator.testing.exploring.participants import Stored
from orchestrator.testing.exploring.story import NONSENSE
from orchestrator.testing.exploring.world import Delivery, World

EVERYBODY = tuple(f"p{number}" for number in range(9))


def open_tasks(world: World) -> list[tuple[str, str]]:
    """Saga and activity of every task that lists show."""
    return list(world.tasks)


def vote(world: World, saga: str, activity: str, *, honest: bool = True) -> None:
    """Somebody decides an open task: as it should be, or excluded, twice, with a stale hash, late, not eligible."""
    random = world.random
    row = world.tasks.get((saga, activity)) or world.closed_tasks[saga, activity]
    first = world.checker.stories[saga].facts[activity].task["to"]  # who could decide it from the start
    roles = tuple(entry["role"] for entry in random.choice([first, row["to"]]) if "role" in entry)
    people = [entry["person"] for entry in row["to"] if "person" in entry]
    voted = [cast["by"] for cast in row["votes"]]
    wrong = not honest and world.faults.happens("wrong_person")
    by, kind = random.choice(EVERYBODY), -1
    if not wrong:
        out = {*row["excluded"], *voted, *row.get("earlier", ()), *row.get("steered", ())}
        others = [name for name in (*people, *(EVERYBODY if roles else ())) if name not in out]
        by = random.choice(others) if others else by
    hash_, received, behalf = row["hash"], world.now, ""
    if wrong:
        kind = random.randrange(8)
        by = random.choice([*row["excluded"], *voted, by]) if kind == 0 else by
        hash_ = random.choice(["", "0" * 64]) if kind == 1 else hash_
        roles = ("visitor",) if kind == 2 else roles
        received = received + 9 * 3_600_000_000 if kind == 3 else received
        behalf = random.choice([*row["excluded"], "p1"]) if kind == 4 else ""
        by = random.choice(voted) if kind == 5 and voted else by
        received = world.checker.stories[saga].facts[activity].task["expires"] if kind == 6 else received
    node = world.programs[world.names[saga]].graph.nodes[node_path(activity)]
    assert isinstance(node, TaskNode)
    outcome = "maybe" if kind == 7 else random.choice(node.outcomes)
    form = world.form_data(node.form) if world.form_data is not None else {}
    answer = dict(form, outcome=outcome)
    cast = Vote(activity, by, roles, answer, hash_, received, on_behalf_of=behalf)
    world.past.append(Delivery(saga, given=cast))
    world.give(saga, cast)


def cancel(world: World, saga: str) -> None:
    """Somebody cancels."""
    world.give(saga, Cancel("mallory", "changed my mind"))


def operate(world: World, saga: str, place: str, act: Any, by: str = "olga", **more: Any) -> bool:
    """An operator acts on a place, naming the version that is stuck now. False where the act was refused."""
    stuck = world.states[saga].stuck.get(place)
    more.setdefault("version", stuck.version if stuck else 0)
    more.setdefault("reason", "looked at it")
    given = Operate(act, place, by=by, **more)
    return _by_two(world, saga, given) if act in world.limits.two_people else world.give(saga, given).refusal is None


def _by_two(world: World, saga: str, act: Operate) -> bool:
    """One person proposes and another confirms; sometimes nobody does, or the same person."""
    state = world.states[saga]
    found, stuck = state.activities.get(act.place[1:]), state.stuck.get(act.place)
    about = stuck.version if stuck else found.undo.taken_at if found is not None and found.undo is not None else 0
    first = proposed(state, act.place, about)
    if first is None or first["act"] != act.act:
        accepted = world.give(saga, act).refusal is None
        first = world.states[saga].proposed.get(act.place)
        if not accepted or first is None or world.random.random() < 0.2:
            return accepted
    second = replace(act, by=_another(first["by"]), version=first["version"])
    if world.faults.happens("wrong_operator"):
        other = NONSENSE if isinstance(act.data, str) else _typed_otherwise(act.data)
        wrong: list[dict[str, Any]] = [{"by": first["by"]}, {"version": about}, {"data": other}]
        second = replace(second, **world.random.choice(wrong))
    return world.give(saga, second).refusal is None


def _typed_otherwise(data: Any) -> Any:
    """The same kind of data with something else in it."""
    return dict(data, note="typed by a second person") if isinstance(data, dict) else data


def stuck_places(world: World) -> list[tuple[str, str]]:
    """Saga and place of all that only a person can move: stuck ones, and undos handed over."""
    return [
        (saga, place)
        for saga, state in world.states.items()
        for place in (*state.stuck, *(f"~{key}" for key in handed(state)))
    ]


def handed(state: State) -> list[str]:
    """Undos that a person has taken over."""
    return [key for key, found in state.activities.items() if found.undo_status == "handed"]


def act(world: World, saga: str, place: str) -> None:
    """An operator does something: what fits the place, or what does not."""
    random, state = world.random, world.states[saga]
    if world.faults.happens("wrong_operator"):
        kinds = ["retry", "value", "done", "not_done", "skip", "give_back", "take_over", "settle"]
        taken = place[0] == "~" and state.activities[place[1:]].undo_status in ("handed", "taken")
        _wrongly(world, saga, place, random.choice(["skip", "done", "give_back"] if taken else kinds))
        return
    if place[1:] in handed(state) and place[0] == "~":
        _handed(world, saga, place)
    elif place[0] == "?":
        _unknown(world, saga, place)
    elif place[0] == "~":
        never = state.stuck[place].cause == "never" if place in state.stuck else False
        if never:
            settle_undo(world, saga, place)
        else:
            operate(world, saga, place, random.choice(["retry", "take_over"]))
    elif place[0] == "!":
        _step(world, saga, place)
    else:
        if not (random.random() < 0.4 and value(world, saga, place)):
            operate(world, saga, place, "retry")


def _wrongly(world: World, saga: str, place: str, act: Any) -> None:
    """An act with something wrong about it: a stale version, no reason, data that nothing can read."""
    random, state = world.random, world.states[saga]
    stuck, found = state.stuck.get(place), state.activities.get(place[1:])
    taken = found.undo.taken_at if found is not None and found.undo is not None else 0
    known = stuck.version if stuck else taken or 5
    operate(
        world, saga, place, act,
        version=random.choice([known, max(0, known - random.choice([1, 2, 7])), taken or known, known]),
        outcome=random.choice(["done", "not_done"]),
        data=random.choice([None, NONSENSE, _reply(world, saga, place[1:])]),
        reason=random.choice(["", "looked at it", "looked at it"]), by=random.choice(["olga", "piet"]),
    )  # fmt: skip


def _handed(world: World, saga: str, place: str) -> None:
    undo = world.states[saga].activities[place[1:]].undo
    assert undo is not None
    act_ = world.random.choice(["give_back", "done", "skip"])
    operate(world, saga, place, act_, version=undo.taken_at)


def _step(world: World, saga: str, place: str) -> None:
    found = world.states[saga].activities.get(place[1:])
    acts = ["retry", "retry", "done"]
    if found is not None and found.unsettled:
        acts.append("not_done")
    operate(world, saga, place, world.random.choice(acts), data=_reply(world, saga, place[1:]))


def _reply(world: World, saga: str, activity: str) -> Any:
    """A reply typed by hand: what the participant answered, or what it could have."""
    found = world.states[saga].activities.get(activity)
    if found is None or not found.command:
        return None
    return world.participants.typed((saga, found.command["key"]))


def value(world: World, saga: str, place: str) -> bool:
    """The value of a function that raised, typed by hand. False where the place is not stuck in a function."""
    stuck = world.states[saga].stuck[place]
    program = world.programs[world.names[saga]]
    if not stuck.function or program.functions[stuck.function].params:
        return False
    function = program.functions[stuck.function]
    rates, world.faults.rates = world.faults.rates, world.faults.rates.without("raises")
    try:
        made = function.call()
    finally:
        world.faults.rates = rates
    try:
        plain = made.plain() if isinstance(made, Contract) else program.codecs[function.returns].dump(made)
    except KeyError:
        return False
    if isinstance(plain, dict) and isinstance(plain.get("what"), str):
        plain = dict(plain, what="typed by hand")
    return operate(world, saga, place, "value", data=plain)


def _unknown(world: World, saga: str, place: str) -> None:
    random = world.random
    if random.random() < 0.4:
        operate(world, saga, place, "retry")
        return
    wrong = world.faults.happens("wrong_evidence")
    settle(world, saga, place, second=random.random() < 0.6, wrong=wrong)


def settle(world: World, saga: str, place: str, *, second: bool = True, wrong: bool = False) -> bool:
    """Two people's evidence about an unknown outcome: the truth, or the contrary."""
    found = world.states[saga].activities[place[1:]]
    if found.kind != "step":
        return operate(world, saga, place, "retry")
    assert found.command is not None
    key = (saga, found.command["key"])
    done = any((effect.saga_id, effect.key) == key for effect in world.participants.effects) != wrong
    data = world.participants.typed(key)
    facts: dict[str, Any] = {"outcome": "done" if done else "not_done", "data": data if done else None}
    if found.proposal is None or found.proposal["outcome"] != facts["outcome"]:
        operate(world, saga, place, "settle", **facts)
    proposal = world.states[saga].activities[place[1:]].proposal
    if second and proposal is not None:
        by = proposal["by"] if world.faults.happens("wrong_operator") else _another(proposal["by"])
        return operate(world, saga, place, "settle", by=by, version=proposal["version"], **facts)
    return False


def step_in(world: World, saga: str) -> None:
    """People act on the newest stuck place at once: evidence, often wrong, or a take-over."""
    places = [place for place in world.states[saga].stuck if place[0] in "?~"]
    if places and places[-1][0] == "?":
        wrong = world.random.random() < 0.5
        world.faults.fired["wrong_evidence"] += wrong
        settle(world, saga, places[-1], wrong=wrong)
    elif places:
        operate(world, saga, places[-1], "take_over")


def push(world: World, saga: str) -> None:
    """People do what comes next for the newest stuck place, without waiting for anything that is still on its way."""
    place = next(reversed(world.states[saga].stuck), "")
    if place[:1] == "?":
        settle(world, saga, place)
    elif place[:1] == "!":
        found = world.states[saga].activities.get(place[1:])
        operate(world, saga, place, "not_done" if found is not None and found.unsettled else "retry")


def settle_undo(world: World, saga: str, place: str) -> bool:
    """Two people's evidence about an undo that is being taken over: was it done?"""
    found = world.states[saga].activities[place[1:]]
    if found.undo is None or found.undo.status != "taken" or found.undo.command is None:
        return operate(world, saga, place, "retry")
    key = (saga, found.undo.command["key"])
    outcome = "done" if any((e.saga_id, e.key) == key for e in world.participants.effects) else "not_done"
    if found.proposal is None or found.proposal["outcome"] != outcome:
        operate(world, saga, place, "settle", outcome=outcome)
    proposal = world.states[saga].activities[place[1:]].proposal
    version = proposal["version"] if proposal is not None else 0
    by = _another(proposal["by"]) if proposal is not None else "olga"
    return operate(world, saga, place, "settle", by=by, version=version, outcome=outcome)


def _another(by: str) -> str:
    return "olga" if by == "piet" else "piet"


def mend(world: World, saga: str, place: str) -> bool:
    """After the faults: a place is moved, so that the saga can end."""
    state = world.states[saga]
    stuck = state.stuck[place]
    if place[0] == "?" and stuck.cause == "never":
        return settle(world, saga, place)
    if place[0] == "~" and stuck.cause == "never":
        return settle_undo(world, saga, place)
    if stuck.cause == "effect_found":
        return operate(world, saga, place, "done", data=_reply(world, saga, place[1:]))
    if place[0] == "~" and _unknowable(world, saga, place[1:]):
        return operate(world, saga, place, "take_over")
    return operate(world, saga, place, "retry")


def _unknowable(world: World, saga: str, activity: str) -> bool:
    """The participant can never say what became of this undo: asking again brings the same error for ever."""
    undo = world.states[saga].activities[activity].undo
    key = undo.command["key"] if undo is not None and undo.command is not None else ""
    stored = world.participants.stored.get((saga, key))
    return stored is not None and stored.outcome == "never"


def heal_participants(world: World) -> None:
    """What was in doubt outside becomes known."""
    participants = world.participants
    for key, message in list(participants.started.items()):
        del participants.started[key]
        if any((effect.saga_id, effect.key) == key for effect in participants.effects):
            participants.stored[key] = Stored("ok", participants.replies(message))
