"""What the database does to a batch: conflicts, commits that nobody knows of, rows that it cannot take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.kernel.inputs import Cancel
from orchestrator.messages import Done
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.work import Cause, SagaInput
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event, reply
from tests.runtime.faults import FaultyStore
from tests.runtime.shop import Charged, OrderPlaced, Reserved

ORDER = saga_id_of("main", "order", "o-1")


@pytest_asyncio.fixture
async def faulty(database: Database) -> AsyncIterator[FaultyStore]:
    async with PostgresStore(database.url) as real:
        yield FaultyStore(real)


@pytest_asyncio.fixture
async def shaky(database: Database, faulty: FaultyStore) -> AsyncIterator[Desk]:
    """A desk whose store can be made to fail."""
    async with at_desk(database.url, store=faulty, conflict_retries_max=3) as desk:
        yield desk


class TestUnknownCommits:
    """The answer to COMMIT never came."""

    async def test_it_did_commit_so_nothing_is_decided_twice(
        self, shaky: Desk, faulty: FaultyStore, eyes: Eyes
    ) -> None:
        faulty.faults["commit"] = "after"
        (outcome,) = await shaky.take(event(OrderPlaced(order_id="o-1")))
        assert outcome.fate == "applied"
        assert (faulty.batches, faulty.asked) == (1, 1)
        assert await eyes.stream(ORDER) == ["saga.started", "step.requested"]
        assert len(shaky.sent) == 1, "what was committed is sent"

    async def test_it_did_not_commit_so_it_is_decided_again(self, shaky: Desk, faulty: FaultyStore, eyes: Eyes) -> None:
        faulty.faults["commit"] = "before"
        (outcome,) = await shaky.take(event(OrderPlaced(order_id="o-1")))
        assert outcome.fate == "applied"
        assert (faulty.batches, faulty.asked) == (2, 1)
        assert await eyes.stream(ORDER) == ["saga.started", "step.requested"]
        assert len(shaky.sent) == 1

    async def test_a_committed_batch_that_moved_nothing_may_be_decided_again(
        self, shaky: Desk, faulty: FaultyStore, eyes: Eyes
    ) -> None:
        faulty.faults["commit"] = "after"
        message = event(OrderPlaced(order_id="o-1"))
        broken = type(message)(message.topic, 0, 1, b"k", b"{", message.headers, 0)
        await shaky.take(broken)
        assert len(await eyes.letters()) == 1

    async def test_states_in_memory_are_not_believed_afterwards(self, shaky: Desk, faulty: FaultyStore) -> None:
        await shaky.take(event(OrderPlaced(order_id="o-2")))
        faulty.faults["commit"] = "before"
        await shaky.take(event(OrderPlaced(order_id="o-1")))
        assert len(shaky.coordinator.cache) == 1


class TestConflicts:
    """Somebody wrote first."""

    async def test_are_decided_again(self, shaky: Desk, faulty: FaultyStore, eyes: Eyes) -> None:
        await shaky.take(event(OrderPlaced(order_id="o-1")))
        faulty.conflicts = 2
        (outcome,) = await shaky.take(reply(shaky.newest("inventory"), Reserved(hold="h")))
        assert outcome.fate == "applied"
        assert shaky.coordinator.counts["conflicts"] == 2
        assert (await eyes.stream(ORDER)).count("step.succeeded") == 1

    async def test_that_never_end_park_their_saga(self, shaky: Desk, faulty: FaultyStore, eyes: Eyes) -> None:
        await shaky.take(event(OrderPlaced(order_id="o-1")))
        faulty.conflicts = 3
        (outcome,) = await shaky.take(reply(shaky.newest("inventory"), Reserved(hold="h")))
        assert outcome.fate == "failed"
        assert [reason for reason, _ in await eyes.letters()] == ["poison"]

    async def test_a_state_behind_the_stream_is_never_used(self, database: Database, eyes: Eyes) -> None:
        async with at_desk(database.url) as one, at_desk(database.url) as two:
            await one.take(event(OrderPlaced(order_id="o-1")))
            await two.take(reply(one.newest("inventory"), Reserved(hold="h")))
            await one.take(reply(two.newest("payment"), Charged(receipt="r")))
            await two.take(reply(one.newest("shipping"), Done()))
            assert (await eyes.stream(ORDER))[-1] == "saga.completed"
            assert [foreign for _, foreign in two.foreign] == [True, True]
            assert [foreign for _, foreign in one.foreign] == [False, True]

    async def test_two_processes_hammering_the_same_sagas_lose_and_double_nothing(
        self, database: Database, eyes: Eyes
    ) -> None:
        """Every answer goes to both processes at once, as after a rebalance; each saga goes on once."""
        count = 30
        async with at_desk(database.url) as one, at_desk(database.url) as two:
            placed = [event(OrderPlaced(order_id=f"o-{n}")) for n in range(count)]
            await asyncio.gather(one.take(*placed), two.take(*reversed(placed)))
            for answer in (Reserved(hold="h"), Charged(receipt="r"), Done()):
                sent = {(row.saga_id, row.version): row for row in (*one.sent, *two.sent)}
                newest: dict[str, tuple[int, object]] = {}
                for (saga_id, version), row in sent.items():
                    if version > newest.get(saga_id, (0, None))[0]:
                        newest[saga_id] = (version, row)
                answers = [reply(row, answer) for _, row in newest.values()]  # type: ignore[arg-type]
                await asyncio.gather(one.take(*answers), two.take(*reversed(answers)))
        heads = await eyes.rows("SELECT phase, version FROM saga_heads")
        assert heads == [{"phase": "completed", "version": 9}] * count
        doubles = await eyes.rows("SELECT saga_id, version FROM outbox GROUP BY 1, 2 HAVING count(*) > 1")
        assert doubles == []
        assert await eyes.letters() == []


async def test_a_database_that_is_away_is_reported_and_nothing_is_changed(
    shaky: Desk, faulty: FaultyStore, eyes: Eyes
) -> None:
    await shaky.take(event(OrderPlaced(order_id="o-1")))

    class Away:
        async def __aenter__(self) -> None:
            raise StoreUnavailableError("away")

        async def __aexit__(self, *_: object) -> None: ...

    faulty.batch = Away  # type: ignore[assignment,method-assign]
    with pytest.raises(StoreUnavailableError):
        await shaky.take(reply(shaky.newest("inventory"), Reserved(hold="h")))
    assert (await eyes.stream(ORDER))[-1] == "step.requested"


async def test_a_saga_whose_records_cannot_be_stored_is_cut_out(desk: Desk, eyes: Eyes) -> None:
    """A lone surrogate has no UTF-8, so it has no canonical bytes. The others of the batch are committed."""
    await desk.take(event(OrderPlaced(order_id="o-1")), event(OrderPlaced(order_id="o-2")))
    one, two = desk.commands()
    acts = [
        SagaInput(one.saga_id, Cancel("maria", "a bad text: \ud800"), Cause("main", "person:maria")),
        SagaInput(two.saga_id, Cancel("maria", "a good text"), Cause("main", "person:maria")),
    ]
    bad, good = await desk.decide(*acts)
    assert bad.fate == "failed"
    assert good.fate == "applied"
    assert (await eyes.stream(one.saga_id))[-1] == "step.requested"
    assert "compensation.started" in await eyes.stream(two.saga_id)
    again = await desk.take(reply(one, Reserved(hold="h")))
    assert again[0].fate == "applied", "the state in memory was not spoilt"


async def test_a_batch_that_the_store_cannot_take_is_halved_until_the_culprit_is_alone(
    shaky: Desk, faulty: FaultyStore, eyes: Eyes
) -> None:
    """An error of the database that no retry mends, and that names nobody: one input is to blame, not five hundred."""
    await shaky.take(*(event(OrderPlaced(order_id=f"o-{n}")) for n in range(9)))
    answers = [reply(row, Reserved(hold="h")) for row in shaky.commands()]
    faulty.poisoned = shaky.commands()[4].saga_id
    outcomes = await shaky.take(*answers)
    assert [outcome.fate for outcome in outcomes].count("failed") == 1
    assert outcomes[4].fate == "failed"
    ((reason, detail),) = await eyes.letters()
    assert reason == "poison"
    assert "check constraint" in detail


async def test_a_broken_timer_is_kept_and_does_not_come_back(shaky: Desk, faulty: FaultyStore, eyes: Eyes) -> None:
    await shaky.take(event(OrderPlaced(order_id="o-1")))
    (timer,) = await eyes.rows("SELECT saga_id, activity, armed FROM timers")
    faulty.poisoned = ORDER
    assert (await shaky.fire(**timer)).fate == "failed"
    assert await eyes.count("timers") == 0
    assert len(await eyes.letters()) == 1


async def test_an_act_on_a_saga_that_is_not_there_is_refused(desk: Desk) -> None:
    (outcome,) = await desk.decide(SagaInput("nobody", Cancel("maria", "why"), Cause("main", "person:maria")))
    assert outcome.fate == "refused"
    assert outcome.refusal is not None
    assert outcome.refusal.code == "not_found"
