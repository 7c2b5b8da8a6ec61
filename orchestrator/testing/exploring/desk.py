"""People of a simulated world at their desks: what they do with tasks beside deciding, and votes by others' rights.

Rules of this file
- Drawn only where the rate `desk` is above zero, so that other schedules stay what they were.
- About half of it is wrong: who may not, to whom it may not go, too late, without a reason.
"""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.kernel.inputs import Held, StandIn, TaskAct, TaskVerb, Vote
from orchestrator.testing.exploring.people import EVERYBODY
from orchestrator.testing.exploring.world import Delivery, World

HOUR_US = 3_600_000_000
VERBS: tuple[TaskVerb, ...] = (
    "claim", "claim", "release", "delegate", "delegate", "reassign", "comment", "attach",
)  # fmt: skip
LINKS = ("https://files.example/1", "https://files.example/2", "http://files.example/", "javascript:alert(1)")


def act(world: World, saga: str, activity: str) -> None:
    """Somebody claims, releases, delegates, reassigns, comments or attaches."""
    random = world.random
    world.faults.fired["desk"] += 1
    row = world.tasks.get((saga, activity)) or world.closed_tasks[saga, activity]
    verb: TaskVerb = random.choice(
        ["claim", "claim", "release", "delegate", "delegate", "reassign", "comment", "attach"]
    )
    by = random.choice([*EVERYBODY, (row.get("claim") or {}).get("by", "p0")])
    facts: dict[str, Any] = {"steers": random.random() < 0.5, "reason": random.choice(["", "busy", "busy"])}
    if verb == "delegate":
        to = random.choice([*EVERYBODY, by, ""])
        until = random.choice([0, 0, world.now + random.choice([0, 1, 2, 9]) * HOUR_US])
        facts |= {"to": ({"person": to},) if to else (), "until": until}
    elif verb == "reassign":
        entries = [{"person": random.choice(EVERYBODY)}, {"role": "boss"}, {"role": "chief"}, {"person": "p2"}]
        facts |= {"to": tuple(random.sample(entries, random.choice([0, 1, 2, 2])))}
    elif verb == "comment":
        said = row.get("comments", ())
        facts |= {"text": random.choice(["hm", "well", "no"]), "replaces": random.choice([0, 3])}
        if said and random.random() < 0.7:
            chosen = random.choice(said)
            by, facts["replaces"] = random.choice([chosen["by"], chosen["by"], by]), chosen["id"]
    elif verb == "attach":
        facts |= {"url": random.choice(LINKS), "text": "the case"}
    given = TaskAct(
        activity, verb, by, _roles(world, row), _received(world, row), stands_in=_stands_in(world, row), **facts
    )  # fmt: skip
    world.past.append(Delivery(saga, given=given))
    world.give(saga, given)


def vote(world: World, saga: str, activity: str) -> None:
    """A vote by a right of one's own or of another, or by none."""
    random = world.random
    row = world.tasks.get((saga, activity)) or world.closed_tasks[saga, activity]
    delegations = row.get("delegations", ())
    by, behalf, roles = random.choice(EVERYBODY), "", _roles(world, row)
    if delegations and random.random() < 0.6:
        chosen = random.choice(delegations)
        by = chosen["to"] if random.random() < 0.8 else by
        behalf = random.choice(["", chosen["by"], chosen["by"], by, random.choice(EVERYBODY)])
        roles = random.choice([(), roles])
    stands_in = _stands_in(world, row)
    if stands_in and random.random() < 0.3:
        behalf = stands_in[0].person
    node = world.programs[world.names[saga]].graph.nodes[node_path(activity)]
    assert isinstance(node, TaskNode)
    outcome = random.choice([*node.outcomes, node.outcomes[0]])
    form = world.form_data(node.form) if world.form_data is not None else {}
    barred = tuple(one["by"] for one in delegations if random.random() < 0.1)
    holds = tuple(Held(one["by"], _roles(world, row)) for one in delegations if random.random() < 0.3)
    cast = Vote(
        activity, by, roles, dict(form, outcome=outcome), row["hash"], _received(world, row), on_behalf_of=behalf,
        stands_in=stands_in, barred=barred, holds=holds,
    )  # fmt: skip
    world.past.append(Delivery(saga, given=cast))
    world.give(saga, cast)


def _roles(world: World, row: dict[str, Any]) -> tuple[str, ...]:
    """Some of the roles that are asked, or none of them."""
    asked = list(dict.fromkeys(entry["role"] for entry in row["to"] if "role" in entry))
    if not asked or world.random.random() < 0.15:
        return ("visitor",)
    return tuple(world.random.sample(asked, world.random.randrange(1, len(asked) + 1)))


def _received(world: World, row: dict[str, Any]) -> int:
    """Now, or at the very end of the task's time, or right before."""
    end: int = row["expires"]
    return world.random.choice([world.now] * 8 + [end, end - 1, world.now + HOUR_US])


def _stands_in(world: World, row: dict[str, Any]) -> tuple[StandIn, ...]:
    if world.random.random() < 0.75:
        return ()
    ends = world.random.choice([0, 1, HOUR_US, 9 * HOUR_US])
    person = world.random.choice(EVERYBODY)
    return (StandIn(person, _roles(world, row), world.now - HOUR_US, world.now + ends, "substitution 1"),)
