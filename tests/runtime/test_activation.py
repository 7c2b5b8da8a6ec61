"""A version takes new sagas when two people say so: at one point in the global order, in every process."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import orjson
import pytest

from orchestrator import Saga
from orchestrator.activation.keeping import ActivationError, NotActiveHereError
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.work import Cause
from orchestrator.store.activations import Activations
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.runtime.activating import FLOW_2, activated, ask, order_2, order_3, process, request, versions, vote, vote_of
from tests.runtime.desk import Desk, Eyes, event, reply
from tests.runtime.shop import (
    CaseOpened,
    OrderPlaced,
    Reserved,
    approve,
    case,
    order,
)


async def test_a_new_version_waits_and_new_sagas_go_on_with_the_active_one(database: Database, eyes: Eyes) -> None:
    """Given v1 has run and a process comes with v2, then new sagas take v1 until two people have agreed to v2."""
    async with process(database.url, order, policy="deploy") as before:
        await before.take(event(OrderPlaced(order_id="o-1")))
    async with process(database.url, order, order_2) as desk:
        await desk.take(event(OrderPlaced(order_id="o-2")))
        asked = await ask(desk, 2, 1)
        await desk.take(event(OrderPlaced(order_id="o-3")))
        assert (await vote(desk, eyes, asked)).fate == "applied"
        await desk.take(event(OrderPlaced(order_id="o-4")))
        await desk.take(reply(desk.newest("inventory"), Reserved(hold="h")))
    assert await versions(eyes) == {"o-1": 1, "o-2": 1, "o-3": 1, "o-4": 2}
    assert desk.newest("shipping").saga_id == saga_id_of("main", "order", "o-4"), "v2 charges nothing"


async def test_going_back_is_an_activation_too(database: Database, eyes: Eyes) -> None:
    """The older version, the same rules."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as desk:
        await activated(desk, eyes, 2, 1)
        await desk.take(event(OrderPlaced(order_id="o-1")))
        await activated(desk, eyes, 1, 2)
        await desk.take(event(OrderPlaced(order_id="o-2")))
        assert isinstance(desk.store, PostgresStore)
        history = await Activations(desk.store.pools).history("order")
    assert await versions(eyes) == {"o-1": 2, "o-2": 1}
    assert [(row.version, row.replaces, row.how) for row in history] == [
        (1, 2, "approved"), (2, 1, "approved"), (1, 0, "baseline"),
    ]  # fmt: skip


@pytest.mark.parametrize(("who", "code"), [("ada", "excluded"), ("dora", "excluded")])
async def test_whoever_asked_or_deployed_does_not_agree(database: Database, eyes: Eyes, who: str, code: str) -> None:
    """Ada asked, Dora deployed; nothing is switched by either."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as desk:
        told = await vote(desk, eyes, await ask(desk, 2, 1), who)
        assert told.refusal is not None
        assert told.refusal.code == code
        await desk.take(event(OrderPlaced(order_id="o-1")))
    assert await versions(eyes) == {"o-1": 1}


async def test_what_was_rejected_is_not_active_and_may_be_asked_for_again(database: Database, eyes: Eyes) -> None:
    """One request at a time for a definition: a second one meets the first."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2, order_3) as desk:
        first = await ask(desk, 2, 1)
        again = request(3, 1)
        begin = desk.router.begin(
            "definition-activation",
            Cause("main", "person:eva"),
            again.wire_name,
            again.key(),
            again.plain(),
            "/api/other",
        )
        (told,) = await desk.decide(begin)
        assert told.refusal is not None
        assert told.refusal.code == "already_running"
        assert (await vote(desk, eyes, first, outcome="reject")).fate == "applied"
        await desk.take(event(OrderPlaced(order_id="o-1")))
        await activated(desk, eyes, 3, 1)
        await desk.take(event(OrderPlaced(order_id="o-2")))
    assert await versions(eyes) == {"o-1": 1, "o-2": 3}


async def test_a_definition_that_never_ran_takes_nothing_before_it_is_active(database: Database, eyes: Eyes) -> None:
    """Its events are kept as dead letters, which go on when they are driven again; restarts change nothing."""
    for _ in range(2):
        async with process(database.url, order_2) as desk:
            (told,) = await desk.take(event(OrderPlaced(order_id="o-1")))
            assert (told.fate, told.reason) == ("dead", "not_active")
            placed = OrderPlaced(order_id="o-2")
            (told,) = await desk.decide(
                desk.router.begin("order", Cause("main"), placed.wire_name, "o-2", placed.plain(), "/api/o-2")
            )
            assert told.refusal is not None
            assert told.refusal.code == "not_active"
    assert [reason for reason, _ in await eyes.letters()] == ["not_active", "not_active"]
    async with process(database.url, order_2) as desk:
        await activated(desk, eyes, 2, 0)
        await desk.take(event(OrderPlaced(order_id="o-1")))
    assert await versions(eyes) == {"o-1": 2}


async def test_a_process_without_the_active_version_does_not_start(database: Database, eyes: Eyes) -> None:
    """It says which one is active, what it has, and what to do; what came under approval stays there."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2):
        pass
    with pytest.raises(NotActiveHereError, match=r"saga order: v1 takes new sagas, and this code has v2 alone. Put v1"):
        await process(database.url, order_2).__aenter__()
    with pytest.raises(ActivationError, match=r"order become active by approval.*ORCHESTRATOR_ACTIVATION=approval"):
        await process(database.url, order, order_2, policy="deploy").__aenter__()
    assert await eyes.count("definition_carriers") == 0, "who does not run says nothing"


async def test_a_row_that_nobody_agreed_to_stops_the_next_start(database: Database, eyes: Eyes) -> None:
    """Whoever writes to the table alone is found out by the records, whichever saga the row names."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as desk:
        agreed = await activated(desk, eyes, 2, 1)
        rejected = await ask(desk, 1, 2)
        await vote(desk, eyes, rejected, outcome="reject")
    async with process(database.url, order, order_2):
        pass
    for saga_id, version, replaces in (("nobody", 1, 2), (rejected, 1, 2), (agreed, 2, 1)):
        await eyes.rows("DELETE FROM activations WHERE saga_id = $1", saga_id)
        await eyes.rows(
            "INSERT INTO activations (name, version, replaces, how, saga_id, batch, activated_at) "
            "VALUES ('order', $1, $2, 'approved', $3, 1, 1)", version, replaces, saga_id,
        )  # fmt: skip
        if saga_id == agreed:
            async with process(database.url, order, order_2):
                continue
        with pytest.raises(ActivationError, match=r"the activation of order v1 is not what its records say"):
            await process(database.url, order, order_2).__aenter__()


async def test_a_second_beginning_stops_the_next_start(database: Database, eyes: Eyes) -> None:
    """What ran before approval is written once; a later row of that kind is somebody's way around the second person."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2):
        pass
    await eyes.rows(
        "INSERT INTO activations (name, version, replaces, how, saga_id, batch, activated_at) "
        "VALUES ('order', 2, 0, 'baseline', '', 1, 1)"
    )
    with pytest.raises(ActivationError, match=r"the activation of order v2 is not what its records say"):
        await process(database.url, order, order_2).__aenter__()


async def test_a_definition_may_ask_for_approval_by_itself(database: Database, eyes: Eyes) -> None:
    """The others of the same process are active by deployment."""
    strict = Saga("order", version=2, starts_on=OrderPlaced, flow=FLOW_2, activation="approval")
    assert strict.graph.hash == order_2.graph.hash, "it is no part of the shape"
    async with process(database.url, strict, case, policy="deploy") as desk:
        (told,) = await desk.take(event(OrderPlaced(order_id="o-1")))
        assert told.reason == "not_active"
        (told,) = await desk.take(event(CaseOpened(case_id="c-1")))
        assert told.fate == "applied"


async def test_nobody_agrees_to_what_some_process_has_not_got(database: Database, eyes: Eyes) -> None:
    """A fleet of old and new code: the vote is refused by name until the old process has gone, and counts then."""
    async with process(database.url, order, order_2) as new, process(database.url, order, policy="approval") as old:
        await old.take(event(OrderPlaced(order_id="o-0")))
        asked = await ask(new, 2, 0)
        told = await vote(new, eyes, asked)
        assert told.refusal is not None
        assert told.refusal.code == "not_everywhere"
        assert len(told.refusal.facts["processes"]) == 1
        assert (await vote(new, eyes, asked, "carl", "approve")).refusal is not None
    async with process(database.url, order, order_2) as new:
        assert (await vote(new, eyes, asked)).fate == "applied"
        await new.take(event(OrderPlaced(order_id="o-1")))
    assert await versions(eyes) == {"o-1": 2}


async def test_a_process_that_was_overlooked_begins_nothing_on_the_version_before(
    database: Database, eyes: Eyes
) -> None:
    """Old code that nobody had heard of for long: what it cannot begin is kept, and goes on elsewhere."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as new, process(database.url, order) as old:
        await old.take(event(OrderPlaced(order_id="o-1")))
        await eyes.rows("UPDATE definition_carriers SET seen_at = 1 WHERE NOT 'order/2' = ANY (sagas)")
        await activated(new, eyes, 2, 1)
        (told,) = await old.take(late := event(OrderPlaced(order_id="o-2")))
        assert (told.fate, told.reason) == ("dead", "unknown_saga")
        (item,) = [new.router.route(late, redriven=1)]
        assert item is not None
        (told,) = await new.decide(item)
        assert told.fate == "applied"
    assert await versions(eyes) == {"o-1": 1, "o-2": 2}


async def test_the_switch_is_one_point_for_all_processes(database: Database, eyes: Eyes) -> None:
    """Two processes begin orders while two people agree at once: one switch, and in the global order every order before
    it is on v1 and every one after it on v2."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as one, process(database.url, order, order_2) as two:
        asked = await ask(one, 2, 1)
        enough = asyncio.Event()

        async def stream(desk: Desk, mark: str) -> None:
            for number in range(60):
                await desk.take(event(OrderPlaced(order_id=f"{mark}-{number}")))
                if number == 20:
                    enough.set()

        async def agree(desk: Desk, who: str) -> str:
            await enough.wait()
            told = await vote(desk, eyes, asked, who)
            return told.refusal.code if told.refusal is not None else told.fate

        _, _, first, second = await asyncio.gather(
            stream(one, "a"), stream(two, "b"), agree(one, "ben"), agree(two, "eva")
        )
        assert Counter((first, second)) == {"applied": 1, "already_decided": 1}
        records = [record async for record in one.store.records(0, 10_000)]
    switch = [r.position for r in records if r.saga_id == asked and orjson.loads(r.body)["type"] == "saga.completed"]
    begun = [
        (record.position, record.data["version"])
        for record in records
        if record.type == "saga.started" and record.data["name"] == "order"
    ]
    assert len(switch) == 1
    assert [version for _, version in begun] == [1 if position < switch[0] else 2 for position, _ in begun]
    assert Counter(version for _, version in begun).keys() == {1, 2}
    assert len(begun) == 120
    assert await eyes.rows("SELECT count(*)::int AS n FROM activations WHERE how = 'approved'") == [{"n": 1}]


def test_events_that_any_version_starts_on_are_read() -> None:
    """Which of them starts one is decided where it is written."""
    other = Saga("order", version=4, starts_on=CaseOpened, flow=[approve])
    catalog = Catalog.of([order, other])
    assert "orders.OrderPlaced" not in catalog.routes.starts
    catalog.govern(all_of_them=True)
    assert set(catalog.routes.starts["orders.OrderPlaced"]) == {"order"}
    assert set(catalog.routes.starts["cases.CaseOpened"]) == {"order"}


async def test_an_event_that_starts_another_version_than_the_active_one_starts_nothing(
    database: Database, eyes: Eyes
) -> None:
    """It is no error: the saga simply does not begin on it now."""
    other = Saga("order", version=4, starts_on=CaseOpened, flow=[approve])
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, other) as desk:
        (told,) = await desk.take(event(CaseOpened(case_id="c-1")))
        assert told.fate == "nothing"
        (told,) = await desk.take(event(OrderPlaced(order_id="o-1")))
        assert told.fate == "applied"
    assert await versions(eyes) == {"o-1": 1}
    assert await eyes.letters() == []


@pytest.mark.parametrize("topic", ["orchestrator.events", "shop.events"])
async def test_no_message_asks_for_a_version(database: Database, eyes: Eyes, topic: str) -> None:
    """A request says who may agree and who may not: whoever may write to a topic would choose both."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as desk:
        forged = event(request(2, 1, approvers="clerk", asked_by="nobody", deployed_by=""))
        (told,) = await desk.take(replace(forged, topic=topic))
        assert (told.fate, told.reason) == ("dead", "unauthorised_source")
        assert await eyes.rows("SELECT FROM saga_heads WHERE name = 'definition-activation'") == []


@pytest.mark.parametrize("is_first", [True, False])
async def test_what_begins_in_the_very_batch_of_the_agreement_is_on_the_right_side(
    database: Database, eyes: Eyes, is_first: bool
) -> None:
    """Acts that come in one moment share a transaction: what its order puts after the agreement runs on v2."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2) as desk:
        asked = await ask(desk, 2, 1)
        placed = [OrderPlaced(order_id=f"o-{number}") for number in range(6)]
        starts = [
            desk.router.begin("order", Cause("main"), one.wire_name, one.key(), one.plain(), f"/api/{one.key()}")
            for one in placed
        ]
        voted = await vote_of(desk, eyes, asked)
        told = await desk.coordinator.process([voted, *starts] if is_first else [*starts, voted])
        assert {one.fate for one in told} == {"applied"}
        records = [record async for record in desk.store.records(0, 10_000)]
    (switch,) = [r.position for r in records if r.saga_id == asked and r.type == "saga.completed"]
    begun = [(r.position, r.data["version"]) for r in records if r.type == "saga.started" and r.data["name"] == "order"]
    assert [version for _, version in begun] == [1 if position < switch else 2 for position, _ in begun]
    assert len(begun) == 6


async def test_a_request_that_another_one_has_overtaken_is_refused_by_name(database: Database, eyes: Eyes) -> None:
    """What its maker compared with takes new sagas no more: nobody may agree to that, and anybody may reject it."""
    async with process(database.url, order, policy="deploy"):
        pass
    async with process(database.url, order, order_2, order_3) as desk:
        asked = await ask(desk, 3, 2)
        told = await vote(desk, eyes, asked)
        assert told.refusal is not None
        assert (told.refusal.code, told.refusal.facts) == ("overtaken", {"active": 1, "replaces": 2})
        assert (await vote(desk, eyes, asked, outcome="reject")).fate == "applied"
        await activated(desk, eyes, 3, 1)
    assert await eyes.letters() == []
