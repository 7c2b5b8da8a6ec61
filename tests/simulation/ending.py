"""What must hold when everything has ended: the participants' own history, the tables and the log tell one story."""

from __future__ import annotations

from orchestrator.store.chain import verify
from orchestrator.testing.exploring.checker import demand
from tests.simulation.world import World

EXPECTED_LETTERS = frozenset(
    {
        "unreadable", "null_value", "unknown_type", "invalid", "oversized", "wrong_tenant", "other_body",
        "already_running", "unknown_saga", "unknown_activity", "too_many_early", "unauthorised_source",
    }
)  # fmt: skip


def finish(world: World) -> None:
    """Raises BrokenInvariantError."""
    if world.broken is not None:
        raise world.broken
    world.checker.finish(world.participants.effects, world.participants.under)
    tables = world.tables
    for saga_id, message in world.started.items():
        stream = tables.stream(saga_id)
        demand(stream, f"the start {message} is lost (V1)")
        demand(stream[0].causation_id == message, f"{saga_id} was not started by {message} (V1)")
    for saga_id, row in tables.heads.items():
        stream = tables.stream(saga_id)
        flaw = verify(stream, saga_id=saga_id, head_version=row.head.version, head_hash=row.head.hash)
        demand(flaw is None, f"{flaw} (V17)")
        versions = [record.version for record in stream]
        demand(versions == list(range(1, row.head.version + 1)), f"{saga_id}: versions {versions} (V2)")
    for place in tables.outbox:
        demand(place in world.published or place in world.refused, f"{place} was never sent (V5)")
    for place in world.refused:
        heard = place in world.told or place in world.published or place in tables.unsent
        demand(heard, f"the broker refused {place} for good, and its saga was not told (rule 30)")
    for partition, messages in world.consumed_partitions():
        for came in messages:
            demand(world.accounted(came), f"{partition} {came.offset} was lost (V27)")
    for letter in tables.letters.values():
        demand(letter.reason in EXPECTED_LETTERS, f"a dead letter {letter.reason}: {letter.detail}")
    live = {row.head.saga_id for row in tables.heads.values() if not row.head.ended}
    demand(not live, f"live sagas {live}")
    for name, rest in (
        ("timers", tables.timers), ("waits", tables.waits), ("tasks", tables.tasks), ("runs", tables.runs),
        ("checks", tables.checks), ("resumes", tables.resumes), ("unsent", tables.unsent),
    ):  # fmt: skip
        demand(not rest, f"all sagas have ended, and {name} are left: {list(rest)[:3]}")


def meet(world: World) -> None:
    """At a quiet moment no wait is open for which something is kept that it may take (rule 23)."""
    tables = world.tables
    for check, wait in tables.waits.items():
        saga_id, activity = check[:2]
        head, state = tables.heads[saga_id].head, world.states[saga_id]
        found = state.activities[activity]
        if any(place[1:] == activity for place in state.stuck):
            continue
        for event in tables.kept({(wait.tenant, *check[2:])}):
            mine = event.arrived_at >= wait.accepts_from and (head.name, head.business_key) not in event.consumed_by
            late = found.due and event.arrived_at >= found.due
            demand(not mine or late, f"{saga_id} {activity} waits for {event.event_id}, which is kept (rule 23)")
