"""Mistakes with calling the outside again: each test is named after one, and all of them were made before.

Source: the kernel's semantics, rule 13, and what its simulation found about it.
"""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.participants import Refused, Work
from orchestrator.participants.testing import Trial, command_message, incoming
from tests.participants.outside import (
    CLEAR,
    FOR,
    FORGOTTEN,
    LEASE,
    SETTLING,
    Crash,
    Pay,
    World,
    age,
    code,
    crash,
    dies,
)


async def test_bug_idempotent_for_ever(repeating: Trial, world: World) -> None:
    """After the outside has forgotten the key, the same call is a second payment."""
    await dies(repeating, world, after_arrival=True)
    await age(repeating, FORGOTTEN)
    world.done.clear()
    assert (await repeating.fence(Pay(amount=5))).outcome == "never"
    assert (len(world.calls), world.done) == (1, {})


async def test_bug_for_without_settling(repeating: Trial, world: World) -> None:
    """The repeated call would arrive when the outside has just forgotten."""
    await dies(repeating, world, after_arrival=True)
    await age(repeating, (FOR - SETTLING).total_seconds() + 1)
    assert (await repeating.ask(Pay(amount=5), attempt=2)).outcome == "error"
    assert (await repeating.fence(Pay(amount=5))).outcome == "never"
    assert len(world.calls) == 1


async def test_bug_never_said_while_a_call_may_still_arrive(repeating: Trial, world: World) -> None:
    """The last repeated call died on its way; the outside has not forgotten yet when it arrives."""
    await dies(repeating, world)
    await age(repeating, (FOR - SETTLING).total_seconds() - 2)
    world.on_call = crash
    with pytest.raises(Crash):
        await repeating.ask(Pay(amount=5), attempt=2)
    world.on_call = None
    await age(repeating, 3)
    assert (await repeating.fence(Pay(amount=5))).outcome == "in_doubt"
    await age(repeating, SETTLING.total_seconds())
    assert (await repeating.fence(Pay(amount=5))).outcome == "never"


async def test_a_repeated_call_is_cut_off_before_the_outside_forgets(repeating: Trial, world: World) -> None:
    await dies(repeating, world, after_arrival=True)
    await age(repeating, (FOR - SETTLING).total_seconds() - 2)
    left: list[float] = []

    async def look(work: Work) -> None:
        left.append(work.time_left())

    world.on_call = look
    assert code(await repeating.ask(Pay(amount=5), attempt=2)) == ("ok", 1)
    assert left[0] <= 2


async def test_bug_refusal_counts_at_once(repeating: Trial, world: World) -> None:
    """The second call is refused while the first is still on its way, and then the first arrives and is accepted."""
    await dies(repeating, world)
    world.refuse = True
    doubt = await repeating.fence(Pay(amount=5))
    assert doubt.outcome == "in_doubt"
    world.refuse = False
    world.arrive(doubt.key)
    assert code(await repeating.fence(Pay(amount=5))) == ("ok", 1)


async def test_a_refusal_counts_when_no_earlier_call_can_arrive(repeating: Trial, world: World) -> None:
    await dies(repeating, world)
    await age(repeating, CLEAR)
    world.refuse = True
    assert (await repeating.ask(Pay(amount=5), attempt=2)).code == "no_money"
    assert (await repeating.fence(Pay(amount=5))).outcome == "refused"


async def test_an_uncounted_refusal_gives_its_lease_back(repeating: Trial, world: World) -> None:
    """Its call has come back, so the wait is for the earlier one alone."""
    await dies(repeating, world)
    await age(repeating, LEASE.total_seconds())
    world.refuse = True
    assert (await repeating.fence(Pay(amount=5))).outcome == "in_doubt"
    await age(repeating, SETTLING.total_seconds())
    assert (await repeating.fence(Pay(amount=5))).outcome == "refused"


async def test_bug_a_refusal_overrules_a_later_call(repeating: Trial, world: World) -> None:
    """The first call is refused, slowly; a second one was sent meanwhile and may have got a yes."""
    first_out = asyncio.Event()

    async def slow(work: Work) -> None:
        world.on_call = crash
        await first_out.wait()
        world.refuse = True

    world.on_call = slow
    first = asyncio.create_task(repeating.ask(Pay(amount=5)))
    await asyncio.sleep(0.1)
    with pytest.raises(Crash):
        await repeating.fence(Pay(amount=5))
    world.on_call = None
    world.done[world.calls[0]] = 0
    del world.done[world.calls[0]]
    first_out.set()
    assert (await first).outcome == "error"
    [row] = await repeating.rows("SELECT outcome, starts FROM inbox")
    assert row == {"outcome": None, "starts": 2}


async def test_an_idempotent_fence_causes_the_effect_and_says_so(repeating: Trial, world: World) -> None:
    """Without a look-up there is no other way to know; the undo then takes it back."""
    await dies(repeating, world)
    assert code(await repeating.fence(Pay(amount=5))) == ("ok", 1)
    assert (len(world.calls), len(world.done)) == (2, 1)


async def test_with_both_ways_a_fence_waits_and_a_do_goes_on(both: Trial, world: World) -> None:
    await dies(both, world)
    assert (await both.fence(Pay(amount=5))).outcome == "in_doubt"
    assert len(world.calls) == 1
    assert code(await both.ask(Pay(amount=5), attempt=2)) == ("ok", 1)
    assert len(world.calls) == 2


async def test_a_refusal_that_is_looked_up_counts_when_no_other_call_can_arrive(both: Trial, world: World) -> None:
    """Two calls were sent; that one of them was refused says nothing about the other."""
    await dies(both, world)
    world.on_call = crash
    with pytest.raises(Crash):
        await both.ask(Pay(amount=5), attempt=2)

    async def was_refused(work: Work) -> None:
        raise Refused("no_money", "refused at noon")

    world.on_lookup = was_refused
    assert (await both.fence(Pay(amount=5))).outcome == "in_doubt"
    await age(both, CLEAR)
    assert (await both.fence(Pay(amount=5))).code == "no_money"


async def test_a_refusal_of_the_only_call_counts_at_once(looking: Trial, world: World) -> None:
    await dies(looking, world)

    async def was_refused(work: Work) -> None:
        raise Refused("no_money", "refused at noon")

    world.on_lookup = was_refused
    assert (await looking.fence(Pay(amount=5))).outcome == "refused"


async def test_command_and_fence_of_one_batch_keep_their_order_outside_too(looking: Trial, world: World) -> None:
    """What a batch hands to the slow path takes the later commands of its keys along."""
    messages = [incoming(command_message(Pay(amount=5), purpose=purpose)) for purpose in ("do", "fence", "do")]
    assert [code(answer) for answer in await looking.deliver(messages)] == [("ok", 1)] * 3


async def test_after_a_definite_nothing_the_command_is_done_by_the_next_attempt(looking: Trial, world: World) -> None:
    await dies(looking, world)
    await age(looking, CLEAR)
    assert code(await looking.ask(Pay(amount=5), attempt=2)) == ("ok", 1)
    assert len(world.calls) == 2


async def test_an_effect_found_after_the_key_was_closed_is_never_dropped(looking: Trial, world: World) -> None:
    """No rule covers a process that freezes between its check and its call. The truth counts from then on."""
    thawed = asyncio.Event()

    async def freeze(work: Work) -> None:
        await thawed.wait()

    world.on_call = freeze
    frozen = asyncio.create_task(looking.ask(Pay(amount=5)))
    await asyncio.sleep(0.1)
    await age(looking, CLEAR)
    assert (await looking.fence(Pay(amount=5))).outcome == "not_done"
    thawed.set()
    assert code(await frozen) == ("ok", 1)
    assert code(await looking.fence(Pay(amount=5))) == ("ok", 1)


async def test_an_outcome_that_somebody_else_finds_first_is_recorded_once(looking: Trial, world: World) -> None:
    """The call has done its work and is slow to come back; a fence looks it up meanwhile."""
    come_back = asyncio.Event()

    async def slow(work: Work) -> None:
        world.arrive(work.key)
        await come_back.wait()

    world.on_call = slow
    paying = asyncio.create_task(looking.ask(Pay(amount=5)))
    await asyncio.sleep(0.1)
    fenced = await looking.fence(Pay(amount=5))
    come_back.set()
    assert (code(fenced), code(await paying)) == (("ok", 1), ("ok", 1))
    assert len(world.recorded) == 1
