"""Mistakes with looking up what happened outside: each test is named after one, and all of them were made before.

Source: the kernel's semantics, rule 13, and what its simulation found about it.
"""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.participants import Work
from orchestrator.participants.single import Singles
from orchestrator.participants.testing import Trial
from tests.participants.outside import (
    CLEAR,
    FORGOTTEN,
    LEASE,
    SETTLING,
    Pay,
    World,
    age,
    code,
    dies,
)


@pytest.mark.parametrize("purpose", ["do", "fence"])
async def test_bug_fence_ignores_started(looking: Trial, world: World, purpose: str) -> None:
    """The process died after the money had moved: whoever comes next must find that out."""
    await dies(looking, world, after_arrival=True)
    answered = await looking.ask(Pay(amount=5), attempt=2, purpose=purpose)
    assert code(answered) == ("ok", 1)
    assert (len(world.calls), len(world.lookups), len(world.recorded)) == (1, 1, 1)


@pytest.mark.parametrize("purpose", ["do", "fence"])
async def test_bug_look_up_believed_at_once(looking: Trial, world: World, purpose: str) -> None:
    """The call is still on its way: nothing found now says nothing about a minute later."""
    await dies(looking, world)
    doubt = await looking.ask(Pay(amount=5), attempt=2, purpose=purpose)
    assert doubt.outcome == ("in_doubt" if purpose == "fence" else "error")
    assert doubt.until > 0
    world.arrive(doubt.key)
    assert code(await looking.fence(Pay(amount=5))) == ("ok", 1)
    assert len(world.calls) == 1


async def test_bug_no_settling_time(looking: Trial, world: World) -> None:
    """The lease is over, but a call sent at its last moment has not arrived yet."""
    await dies(looking, world)
    await age(looking, LEASE.total_seconds() + 1)
    doubt = await looking.fence(Pay(amount=5))
    assert doubt.outcome == "in_doubt"
    await age(looking, SETTLING.total_seconds())
    assert (await looking.fence(Pay(amount=5))).outcome == "not_done"
    assert (await looking.ask(Pay(amount=5))).outcome == "refused"
    assert len(world.calls) == 1


async def test_bug_time_checked_after_the_look_up(looking: Trial, world: World) -> None:
    """The look-up was sent before everything had settled; that it came back later makes it no better."""
    await dies(looking, world)
    await age(looking, CLEAR - 1.2)

    async def slow(work: Work) -> None:
        await asyncio.sleep(0.5)

    world.on_lookup = slow
    assert (await looking.fence(Pay(amount=5))).outcome == "in_doubt"


async def test_bug_look_up_for_ever(looking: Trial, world: World) -> None:
    """An outside that forgets its keys finds nothing under those of payments that it made."""
    await dies(looking, world, after_arrival=True)
    world.forgets = True
    await age(looking, FORGOTTEN)
    for _ in range(2):
        assert (await looking.fence(Pay(amount=5))).outcome == "never"
    late = await looking.ask(Pay(amount=5))
    assert (late.outcome, late.code) == ("error", "")
    assert (len(world.calls), len(world.lookups)) == (1, 1)


async def test_bug_a_late_look_up_that_finds_something_is_thrown_away(looking: Trial, world: World) -> None:
    """Only "nothing" needs a time limit; what was found was found."""
    await dies(looking, world, after_arrival=True)
    await age(looking, FORGOTTEN)
    assert code(await looking.fence(Pay(amount=5))) == ("ok", 1)


async def test_bug_failed_look_up_taken_for_nothing_found(looking: Trial, world: World) -> None:
    await dies(looking, world, after_arrival=True)
    await age(looking, FORGOTTEN)

    async def down(work: Work) -> None:
        raise ConnectionRefusedError("down")

    world.on_lookup = down
    assert (await looking.fence(Pay(amount=5))).outcome == "in_doubt"
    world.on_lookup = None
    assert code(await looking.fence(Pay(amount=5))) == ("ok", 1)


async def test_bug_lease_not_checked_again(looking: Trial, world: World) -> None:
    """The process froze between noting its start and calling: meanwhile others may have settled the key."""
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return 0.0 if looks == 1 else LEASE.total_seconds() + 1

    looking.singles = Singles(looking.inbox, looking.participant.handlers, 1000, clock)
    answered = await looking.ask(Pay(amount=5))
    assert (answered.outcome, answered.reason.split(":")[0], world.calls) == ("error", "LeaseOver", [])


async def test_bug_lease_not_checked_right_before_the_call(looking: Trial, world: World) -> None:
    """The handler was slow to get ready, or froze there: `timeout=work.time_left()` stops it in the very call."""
    now = 0.0

    async def freeze(work: Work) -> None:
        nonlocal now
        now += LEASE.total_seconds() + 1
        work.time_left()
        raise AssertionError("it must not get here")

    world.on_call = freeze
    looking.singles = Singles(looking.inbox, looking.participant.handlers, 1000, lambda: now)
    answered = await looking.ask(Pay(amount=5))
    assert (answered.outcome, answered.reason.split(":")[0]) == ("error", "LeaseOver")


async def test_bug_frozen_after_a_good_look_up(looking: Trial, world: World) -> None:
    """It looked up, found nothing, froze; meanwhile a fence refused the key for ever. It must not call any more."""
    await dies(looking, world)
    await age(looking, CLEAR)
    thawed = asyncio.Event()

    async def freeze(work: Work) -> None:
        world.on_lookup = None
        await thawed.wait()

    world.on_lookup = freeze
    frozen = asyncio.create_task(looking.ask(Pay(amount=5), attempt=2))
    await asyncio.sleep(0.1)
    assert (await looking.fence(Pay(amount=5))).outcome == "not_done"
    thawed.set()
    assert (await frozen).outcome == "refused"
    assert len(world.calls) == 1


async def test_bug_never_not_stored(looking: Trial, world: World) -> None:
    """People settle by evidence after *never*; then nothing may start under that key again."""
    await dies(looking, world)
    world.forgets = True
    await age(looking, FORGOTTEN)
    assert (await looking.fence(Pay(amount=5))).outcome == "never"
    world.forgets = False
    assert (await looking.ask(Pay(amount=5), attempt=7)).outcome == "error"
    assert (await looking.fence(Pay(amount=5))).outcome == "never"
    assert len(world.calls) == 1
