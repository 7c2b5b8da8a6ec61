"""Effects outside the database, the ordinary way, and what a declaration must say.

Source: the kernel's semantics, rule 13.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.participants import NotSent, Participant, ParticipantError, Work
from orchestrator.participants.testing import Trial
from tests.participants.outside import (
    FOR,
    LEASE,
    SETTLING,
    Pay,
    World,
    code,
)


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
