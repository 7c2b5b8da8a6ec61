"""Effects outside the database. Each test is named after the mistake that it catches; all of them were made before.

Source: the kernel's semantics, rule 13, and what its simulation found about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from orchestrator.participants import NotSent, Participant, ParticipantError, Refused, Work
from orchestrator.participants.single import Singles
from orchestrator.participants.testing import Answered, Trial, command_message, incoming, trial
from orchestrator.participants.work import Pool
from tests.databases import Database
from tests.participants.outside import FOR, LEASE, SETTLING, Crash, Paid, Pay, PayBack, World, age, crash, payer

CLEAR = (LEASE + SETTLING).total_seconds() + 1  # after that, no call of a start can still arrive
FORGOTTEN = FOR.total_seconds() + CLEAR


@pytest.fixture
def world() -> World:
    """The outside of one test."""
    return World()


@pytest_asyncio.fixture
async def looking(world: World, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A payer that can look up what happened."""
    async with trial(payer(world, lookup=True, idempotent=False), pool, database.migrate_url) as tried:
        yield tried


@pytest_asyncio.fixture
async def repeating(world: World, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A payer whose calls may be repeated."""
    async with trial(payer(world, lookup=False, idempotent=True), pool, database.migrate_url) as tried:
        yield tried


@pytest_asyncio.fixture
async def both(world: World, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A payer with both ways."""
    async with trial(payer(world, lookup=True, idempotent=True), pool, database.migrate_url) as tried:
        yield tried


async def dies(tried: Trial, world: World, *, after_arrival: bool = False) -> None:
    """A command whose participant is killed during the call; the call has arrived, or is lost."""

    async def killed(work: Work) -> None:
        if after_arrival:
            world.arrive(work.key)
        raise Crash

    world.on_call = killed
    with pytest.raises(Crash):
        await tried.ask(Pay(amount=5))
    world.on_call = None


def code(answered: Answered) -> tuple[str, int]:
    return answered.outcome, answered.reply.number if isinstance(answered.reply, Paid) else 0


# --- the ordinary way -------------------------------------------------------------------------------------------------


async def test_an_outside_effect_is_done_once_recorded_and_answered_the_same(looking: Trial, world: World) -> None:
    paid = await looking.ask(Pay(amount=5))
    assert code(paid) == ("ok", 1)
    assert await looking.again(paid) == paid
    assert code(await looking.ask(Pay(amount=5), attempt=2)) == ("ok", 1)
    assert code(await looking.fence(Pay(amount=5))) == ("ok", 1)
    assert (len(world.calls), world.lookups, len(world.recorded)) == (1, [], 1)
    assert await looking.rows("SELECT kind, amount FROM effects") == [{"kind": "paid", "amount": 5}]


async def test_a_refusal_of_the_first_call_is_definite(looking: Trial, world: World) -> None:
    world.refuse = True
    refused = await looking.ask(Pay(amount=5))
    world.refuse = False
    assert (refused.outcome, refused.code) == ("refused", "no_money")
    assert await looking.again(refused) == refused
    assert (await looking.fence(Pay(amount=5))).outcome == "refused"
    assert len(world.calls) == 1


async def test_an_error_is_answered_at_once_and_the_key_stays_started(looking: Trial, world: World) -> None:
    async def fails(work: Work) -> None:
        raise ConnectionResetError("gone")

    world.on_call = fails
    answered = await looking.ask(Pay(amount=5))
    assert (answered.outcome, answered.reason) == ("error", "ConnectionResetError: gone")
    [row] = await looking.rows("SELECT starts, outcome, closed FROM inbox")
    assert row == {"starts": 1, "outcome": None, "closed": None}


async def test_what_was_surely_not_sent_may_be_sent_at_once(looking: Trial, world: World) -> None:
    async def refuses_connection(work: Work) -> None:
        raise NotSent("nobody listens")

    world.on_call = refuses_connection
    assert (await looking.ask(Pay(amount=5))).outcome == "error"
    assert await looking.rows("SELECT key FROM inbox") == []
    world.on_call = None
    assert code(await looking.ask(Pay(amount=5), attempt=2)) == ("ok", 1)
    assert world.lookups == []


async def test_fence_before_the_command_means_no_call_at_all(looking: Trial, world: World) -> None:
    assert (await looking.fence(Pay(amount=5))).outcome == "not_done"
    late = await looking.ask(Pay(amount=5))
    assert (late.outcome, late.code, world.calls) == ("refused", "fenced", [])


async def test_a_handler_with_an_outside_effect_gets_no_connection(looking: Trial, world: World) -> None:
    async def tries(work: Work) -> None:
        await work.connection.execute("SELECT 1")

    world.on_call = tries
    answered = await looking.ask(Pay(amount=5))
    assert (answered.outcome, answered.reason.split(":")[0]) == ("error", "ParticipantError")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"outside": True}, "nobody could know"),
        ({"lookup_for": FOR}, "nobody could know"),
        ({"lookup": World().ask}, "go together"),
        ({"lookup": World().ask, "lookup_for": LEASE}, "not longer than lease"),
        ({"idempotent_for": LEASE + SETTLING, "lease": LEASE, "settling": SETTLING}, "not longer than lease"),
        ({"idempotent_for": FOR, "lease": timedelta(0)}, "must be positive"),
        ({"reads": True, "idempotent_for": FOR}, "reads=True"),
        ({"record": World().record}, "outside effects"),
    ],
)
def test_a_declaration_that_cannot_be_safe_is_refused_at_the_start(options: dict[str, object], text: str) -> None:
    with pytest.raises(ParticipantError, match=text):
        Participant("payer").handles(Pay, **options)(World().pay)  # type: ignore[call-overload, arg-type, unused-ignore]


# --- the mistakes -----------------------------------------------------------------------------------------------------


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


# --- other keys -------------------------------------------------------------------------------------------------------


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
