"""Effects outside the database that other commands speak of: undos, later rounds, people who take over."""

from __future__ import annotations

from orchestrator.participants.testing import Trial
from tests.participants.outside import (
    CLEAR,
    FORGOTTEN,
    Pay,
    PayBack,
    World,
    age,
    code,
    dies,
)


async def test_an_undo_of_a_started_key_resolves_it_first(looking: Trial, world: World) -> None:
    await dies(looking, world, after_arrival=True)
    key = world.calls[0]
    undone = await looking.undo(PayBack(amount=5), key)
    assert undone.outcome == "ok"
    assert [row["kind"] for row in await looking.rows("SELECT kind FROM effects ORDER BY number")] == ["paid", "back"]


async def test_an_undo_of_a_started_key_that_is_in_doubt_waits(looking: Trial, world: World) -> None:
    await dies(looking, world)
    key = world.calls[0]
    assert (await looking.undo(PayBack(amount=5), key)).outcome == "error"
    await age(looking, CLEAR)
    assert (await looking.undo(PayBack(amount=5), key)).outcome == "ok"
    assert await looking.rows("SELECT kind FROM effects") == []
    assert (await looking.ask(Pay(amount=5), attempt=2)).outcome == "refused"


async def test_an_undo_of_a_key_that_is_never_known_trusts_the_evidence(looking: Trial, world: World) -> None:
    """Only what two people have settled as done is undone then; the participant cannot know better."""
    await dies(looking, world)
    key = world.calls[0]
    await age(looking, FORGOTTEN)
    assert (await looking.fence(Pay(amount=5))).outcome == "never"
    assert (await looking.undo(PayBack(amount=5), key)).outcome == "ok"
    assert [row["kind"] for row in await looking.rows("SELECT kind FROM effects")] == ["back"]


async def test_a_later_round_first_resolves_the_started_key_of_an_earlier_one(looking: Trial, world: World) -> None:
    await dies(looking, world)
    key = world.calls[0]
    second = await looking.ask(Pay(amount=5), round=2, earlier=[key])
    assert (second.outcome, len(world.calls)) == ("error", 1)
    world.arrive(key)
    second = await looking.ask(Pay(amount=5), round=2, attempt=2, earlier=[key])
    assert (code(second), second.done_key, len(world.calls)) == (("ok", 1), key, 1)


async def test_a_person_taking_an_undo_over_fences_both_keys(looking: Trial, world: World) -> None:
    paid = await looking.ask(Pay(amount=5))
    handed = await looking.undo(PayBack(amount=5), paid, purpose="fence_undo")
    assert handed.outcome == "not_done"
    assert (await looking.undo(PayBack(amount=5), paid)).outcome == "refused"
    nothing = await looking.ask(PayBack(amount=6), activity="b", purpose="fence_undo", undoes="saga-1:other:1")
    assert nothing.outcome == "ok"
