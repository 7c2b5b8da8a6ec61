"""Events and waits: whoever comes first, and in whichever process, nobody is missed and nothing is taken twice."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.messages import Done
from orchestrator.runtime.identity import saga_id_of
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event, reply
from tests.runtime.shop import ParcelArrived, ParcelSent, RoundSent, Signed, echo

PARCEL = saga_id_of("main", "parcel", "p-1")
WATCH = saga_id_of("main", "watch", "p-1")


async def test_an_event_reaches_every_saga_that_waits_for_it(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(ParcelSent(parcel_id="p-1")))
    await desk.take(reply(desk.newest("mail"), Done()))  # watch is at its wait now, parcel was at once
    await desk.checks()
    (outcome,) = await desk.take(event(ParcelArrived(parcel_id="p-1")))
    assert outcome.fate == "applied"
    assert "event.received" in await eyes.stream(PARCEL)
    assert "event.received" in await eyes.stream(WATCH)
    assert await eyes.count("early_events") == 1, "a run of `twice` may still come to a wait for it"


async def test_an_early_event_is_taken_when_the_wait_opens(desk: Desk, eyes: Eyes) -> None:
    (kept,) = await desk.take(event(ParcelArrived(parcel_id="p-1")))
    assert kept.fate == "early"
    assert await eyes.count("early_events") == 1
    await desk.take(event(ParcelSent(parcel_id="p-1")))
    assert "event.received" in await eyes.stream(PARCEL)


async def test_a_wait_whose_key_is_locked_leaves_no_check_behind(desk: Desk, eyes: Eyes) -> None:
    """A saga's own business key is locked when it starts: nothing is left for the reconciler to look at."""
    await desk.take(event(ParcelSent(parcel_id="p-1")))
    assert await eyes.count("waits") == 1
    assert await eyes.count("wait_checks") == 0


async def test_event_and_start_in_one_batch_find_each_other_in_both_orders(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(ParcelArrived(parcel_id="p-1")), event(ParcelSent(parcel_id="p-1")))
    await desk.take(event(ParcelSent(parcel_id="p-2")), event(ParcelArrived(parcel_id="p-2")))
    assert "event.received" in await eyes.stream(PARCEL)
    assert "event.received" in await eyes.stream(saga_id_of("main", "parcel", "p-2"))
    assert await eyes.count("waits") == 0, "what was opened and closed in one batch is closed"


async def test_a_wait_opened_later_takes_the_early_event_by_its_durable_check(desk: Desk, eyes: Eyes) -> None:
    """`watch` comes to its wait by a reply, so the key is not locked in that batch; `parcel` has taken the event."""
    await desk.take(event(ParcelSent(parcel_id="p-1")))
    await desk.take(event(ParcelArrived(parcel_id="p-1")))
    assert "event.received" in await eyes.stream(PARCEL)
    assert await eyes.count("early_events") == 1, "watch may still come to its wait"
    first = next(row for row in desk.commands(WATCH))
    await desk.take(reply(first, Done()))
    assert "event.received" not in await eyes.stream(WATCH)
    assert desk.hints.checks.given
    (outcome,) = await desk.checks()
    assert outcome.fate == "applied"
    assert (await eyes.stream(WATCH))[-1] == "saga.completed"
    assert await eyes.count("wait_checks") == 0


async def test_a_message_that_comes_again_is_a_duplicate(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(ParcelSent(parcel_id="p-1")))
    arrived = event(ParcelArrived(parcel_id="p-1"))
    await desk.take(arrived)
    before = await eyes.stream(PARCEL)
    (again,) = await desk.take(arrived)
    assert again.fate == "duplicate"
    await desk.checks()
    assert await eyes.stream(PARCEL) == before


@pytest.mark.parametrize("early", [True, False])
async def test_a_saga_never_takes_an_event_twice(desk: Desk, eyes: Eyes, early: bool) -> None:
    """The event is kept for other sagas that may come to a wait for it; the second wait of this one wants another."""
    saga_id = saga_id_of("main", "twice", "p-1")
    messages = [event(RoundSent(parcel_id="p-1")), event(ParcelArrived(parcel_id="p-1", by="a"))]
    for message in reversed(messages) if early else messages:
        await desk.take(message)
    await desk.checks()
    assert (await eyes.stream(saga_id)).count("event.received") == 1
    assert await eyes.count("early_events") == 1
    await desk.take(event(ParcelArrived(parcel_id="p-1", by="b")))
    assert (await eyes.stream(saga_id)).count("event.received") == 2
    assert (await eyes.stream(saga_id))[-1] == "saga.completed"
    assert await eyes.letters() == []


async def test_an_event_from_before_a_saga_and_its_early_age_is_not_taken(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(ParcelArrived(parcel_id="p-1"), at=1))
    await desk.take(event(ParcelSent(parcel_id="p-1")))
    assert "event.received" not in await eyes.stream(PARCEL)


async def test_more_early_events_than_are_kept_become_dead_letters(database: Database, eyes: Eyes) -> None:
    async with at_desk(database.url, early_events_max_per_key=2) as desk:
        fates = [outcome.fate for outcome in await desk.take(*(event(Signed(parcel_id="p-1")) for _ in range(3)))]
        (later,) = await desk.take(event(Signed(parcel_id="p-1")))
    assert fates == ["early", "early", "dead"]
    assert later.reason == "too_many_early"
    assert await eyes.count("early_events") == 2


@pytest.mark.parametrize("seed", range(12))
async def test_event_and_wait_racing_in_two_processes_always_meet(database: Database, eyes: Eyes, seed: int) -> None:
    """Both orders of commit: one side's lock on the key makes the other see what was written (kernel rule 23)."""
    async with at_desk(database.url) as one, at_desk(database.url) as two:
        await one.take(event(ParcelSent(parcel_id="p-1")))
        answer = reply(one.commands(WATCH)[0], Done())
        await asyncio.gather(
            _after(seed % 4, one.take(answer)), _after(seed // 4, two.take(event(ParcelArrived(parcel_id="p-1"))))
        )
        for _ in range(3):
            await one.checks()
    assert (await eyes.stream(WATCH))[-1] == "saga.completed"


async def _after(ms: int, work: object) -> None:
    await asyncio.sleep(ms / 1000)
    await work  # type: ignore[misc]


async def test_two_tenants_with_one_key_never_see_each_others_events(database: Database, eyes: Eyes) -> None:
    async with at_desk(database.url, other_tenants="acme") as desk:
        await desk.take(event(ParcelSent(parcel_id="p-1")), event(ParcelSent(parcel_id="p-1"), tenant="acme"))
        await desk.take(
            event(ParcelArrived(parcel_id="p-1", by="main"), id="the-same"),
            event(ParcelArrived(parcel_id="p-1", by="acme"), id="the-same", tenant="acme"),
        )
    for tenant in ("main", "acme"):
        saga_id = saga_id_of(tenant, "parcel", "p-1")
        rows = await eyes.rows("SELECT convert_from(body, 'UTF8') AS body FROM records WHERE saga_id = $1", saga_id)
        received = [row["body"] for row in rows if "event.received" in row["body"]]
        assert len(received) == 1
        assert f'"by":"{tenant}"' in received[0]


async def test_a_saga_does_not_take_the_event_that_started_it(database: Database, eyes: Eyes) -> None:
    """Neither at once nor as an early one; the next of its kind it takes."""
    async with at_desk(database.url, sagas=[echo]) as desk:
        saga_id = saga_id_of("main", "echo", "p-1")
        await desk.take(event(Signed(parcel_id="p-1")))
        await desk.checks()
        assert "event.received" not in await eyes.stream(saga_id)
        (other,) = await desk.take(event(Signed(parcel_id="p-1"), id="second"))
        assert other.fate == "applied"
        assert (await eyes.stream(saga_id))[-1] == "saga.completed"
