"""Intake on a real log: positions in the transaction, new owners, pauses, and how far in time it has read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.broker.contract import Broker, IncomingMessage, OutgoingMessage, TopicSpec, open_broker
from orchestrator.broker.settings import BrokerSettings
from orchestrator.runtime.hints import DbClock
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.intake import Intake
from orchestrator.runtime.progress import Progress
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreUnavailableError
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, event
from tests.runtime.shop import OrderPlaced

TOPICS = ("orders.events", "cases.events")
PARTITIONS = 2
SETTINGS = BrokerSettings(
    partitions_default=PARTITIONS, postgres_lease_ms=1_500, postgres_heartbeat_ms=300, postgres_poll_idle_ms=10
)


@pytest_asyncio.fixture
async def broker(database: Database) -> AsyncIterator[Broker]:
    """The log in the same database."""
    made = open_broker(database.url.replace("postgresql://", "postgres://", 1), settings=SETTINGS)
    await made.ensure_topics([TopicSpec(name) for name in TOPICS])
    try:
        yield made
    finally:
        await made.close()


def intake_of(desk: Desk, broker: Broker, overloaded: Callable[[], bool] = lambda: False, **options: Any) -> Intake:
    consumer = broker.consumer(
        "orchestrator", TOPICS, lambda wanted: desk.store.positions("orchestrator", list(wanted))
    )
    settings: dict[str, Any] = {
        "group": "orchestrator",
        "batch_messages": 20,
        "wait_ms": 5,
        "heartbeat_ms": 20,
        "lanes": 2,
    } | options
    return Intake(consumer, desk.coordinator, desk.router, desk.hints.clock, overloaded=overloaded, **settings)


@asynccontextmanager
async def reading(intake: Intake) -> AsyncIterator[dict[str, Pulse]]:
    """Runs an intake's loops; leaving stops them as the supervisor does. Gives the pulses by loop."""
    pulses = {name: Pulse(name, 500) for name in ("intake", "heartbeat", "lane0", "lane1")}
    loops: list[Callable[[Stopping], Awaitable[None]]] = [
        (lambda s: intake.lane(intake.lanes[0], s, pulses["lane0"])),
        (lambda s: intake.lane(intake.lanes[-1], s, pulses["lane1"])),
        (lambda s: intake.heartbeat(s, pulses["heartbeat"])),
        (lambda s: intake.run(s, pulses["intake"])),
    ]
    stops = [Stopping() for _ in loops]
    tasks = [asyncio.ensure_future(loop(stop)) for loop, stop in zip(loops, stops, strict=True)]
    try:
        yield pulses
    finally:
        for stop, task in zip(stops, tasks, strict=True):
            stop.ask()
            await asyncio.wait({task}, timeout=5)
        for task in tasks:
            task.result()


async def publish(broker: Broker, messages: Sequence[IncomingMessage]) -> None:
    producer = broker.producer("test")
    sent = await producer.send([OutgoingMessage(m.topic, m.key, m.value, m.headers) for m in messages])
    assert set(sent) <= {None}


async def until(check: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Waits until an async check is true."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"{what}: did not happen within {seconds} s"
        await asyncio.sleep(0.01)


def placed(count: int, first: int = 0) -> list[IncomingMessage]:
    return [event(OrderPlaced(order_id=f"o-{n}"), id=f"e-{n}") for n in range(first, first + count)]


async def test_every_message_is_taken_once_and_positions_are_stored_with_it(
    desk: Desk, broker: Broker, eyes: Eyes
) -> None:
    await publish(broker, placed(100))
    async with reading(intake_of(desk, broker)):
        await until(lambda: _has(eyes, "saga_heads", 100), "100 sagas")
        await until(lambda: _stored(eyes, 100), "positions")
        processed = time.time_ns() // 1000
        await until(lambda: _read_up_to(desk, processed), "the instant gets on after traffic")
    assert await eyes.count("inbox") == 100
    assert await eyes.letters() == []


async def test_a_heart_beats_before_its_consumer_has_started(
    desk: Desk, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database or the broker may be away for long when a process starts: that is no reason to end."""
    monkeypatch.setattr("orchestrator.runtime.intake.TELL_BROKER_MS", 20)
    pulse, stopping = Pulse("heartbeat", 500), Stopping()
    task = asyncio.create_task(intake_of(desk, broker).heartbeat(stopping, pulse))
    await asyncio.sleep(0.2)
    stopping.ask()
    await task
    assert "has not given this process its partitions" in pulse.detail


async def _has(eyes: Eyes, table: str, count: int) -> bool:
    return await eyes.count(table) >= count


async def _read_up_to(desk: Desk, instant: int) -> bool:
    return (await desk.store.read_until("orchestrator") or 0) > instant


async def _stored(eyes: Eyes, count: int) -> bool:
    rows = await eyes.rows(
        "SELECT coalesce(sum(next_offset), 0)::int AS n FROM positions WHERE topic = 'orders.events'"
    )
    return bool(rows[0]["n"] == count)


async def test_a_restarted_intake_goes_on_where_the_store_says(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    await publish(broker, placed(30))
    async with reading(intake_of(desk, broker)):
        await until(lambda: _has(eyes, "saga_heads", 30), "30 sagas")
    inputs = desk.coordinator.counts["inputs"]
    await publish(broker, placed(10, first=30))
    async with reading(intake_of(desk, broker)):
        await until(lambda: _has(eyes, "saga_heads", 40), "10 more")
    assert desk.coordinator.counts["inputs"] - inputs == 10


async def test_positions_forgotten_by_a_disaster_cost_duplicates_only(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    await publish(broker, placed(30))
    async with reading(intake_of(desk, broker)):
        await until(lambda: _has(eyes, "saga_heads", 30), "30 sagas")
    await eyes.rows("DELETE FROM positions")
    async with reading(intake_of(desk, broker)):
        await until(lambda: _stored(eyes, 30), "everything read again")
    assert {row["version"] for row in await eyes.rows("SELECT version FROM saga_heads")} == {2}
    assert len(desk.sent) == 30


async def test_two_processes_share_the_partitions_and_double_nothing(
    desk: Desk, broker: Broker, eyes: Eyes, database: Database
) -> None:
    await publish(broker, placed(60))
    async with reading(intake_of(desk, broker)), reading(intake_of(desk, broker)):
        await publish(broker, placed(60, first=60))
        await until(lambda: _has(eyes, "saga_heads", 120), "120 sagas")
    assert len({(row.saga_id, row.version) for row in desk.sent}) == len(desk.sent) == 120


async def test_an_idle_partition_is_read_up_to_now(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    """Nothing ever comes on these topics, and still timers may act: there was nothing to read (kernel rule 31)."""
    async with reading(intake_of(desk, broker)):
        await until(lambda: _read_until(desk), "a first instant")
        first = await desk.store.read_until("orchestrator")
        await asyncio.sleep(0.2)
        second = await desk.store.read_until("orchestrator")
    assert first is not None
    assert second is not None
    assert second > first
    rows = await eyes.rows("SELECT count(*)::int AS n FROM positions")
    assert rows == [{"n": len(TOPICS) * PARTITIONS}]


async def _read_until(desk: Desk) -> bool:
    return bool(await desk.store.read_until("orchestrator"))


async def test_what_is_not_processed_holds_the_instant_back(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    """A batch that hangs: its partition does not get on in time, so no timer acts on what lies unread."""
    async with reading(intake_of(desk, broker)):
        await until(lambda: _read_until(desk), "a first instant")
        process = desk.coordinator.process
        gate = asyncio.Event()

        async def slow(items: Any, positions: Any = None) -> Any:
            if items:
                await gate.wait()
            return await process(items, positions or {})

        desk.coordinator.process = slow  # type: ignore[method-assign]
        await publish(broker, placed(1))
        await asyncio.sleep(0.2)
        held = await desk.store.read_until("orchestrator")
        await asyncio.sleep(0.3)
        assert await desk.store.read_until("orchestrator") == held
        gate.set()

        async def gets_on() -> bool:
            now = await desk.store.read_until("orchestrator")
            return bool(now and held and now > held)

        await until(gets_on, "the instant gets on")


async def test_a_full_outbox_pauses_reading_and_nothing_is_lost(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    full = True
    await publish(broker, placed(40))
    intake = intake_of(desk, broker, overloaded=lambda: full)
    async with reading(intake):
        await asyncio.sleep(0.3)
        assert intake.paused
        assert await eyes.count("saga_heads") == 0
        full = False
        await until(lambda: _has(eyes, "saga_heads", 40), "everything after the pause")


async def test_a_database_that_comes_back_gets_the_same_batch_again(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    process = desk.coordinator.process
    failures = 3

    async def away(items: Any, positions: Any = None) -> Any:
        nonlocal failures
        if items and failures:
            failures -= 1
            raise StoreUnavailableError("away")
        return await process(items, positions or {})

    desk.coordinator.process = away  # type: ignore[method-assign]
    await publish(broker, placed(10))
    async with reading(intake_of(desk, broker)) as pulses:
        await until(lambda: _has(eyes, "saga_heads", 10), "10 sagas")
        assert all(pulse.ready for pulse in pulses.values())
    assert failures == 0


async def test_what_was_fetched_under_an_older_assignment_is_dropped(desk: Desk, broker: Broker, eyes: Eyes) -> None:
    intake = intake_of(desk, broker)
    for message in placed(5):
        intake.lanes[0].pending.append(message)
    intake._generation = 7
    batch = intake.lanes[0].pending
    await intake._process(batch, Stopping(), Pulse("lane", 500))  # the consumer's generation is another one
    assert await eyes.count("saga_heads") == 0


async def test_an_assignment_that_shows_late_is_noticed(desk: Desk, broker: Broker) -> None:
    """Its generation comes first, its partitions once their positions were looked up: then they must be followed."""
    intake = intake_of(desk, broker)

    class Late:
        seen: frozenset[tuple[str, int]] = frozenset()

        def generation(self) -> int:
            return 1

        def assignment(self) -> frozenset[tuple[str, int]]:
            return self.seen

    late = Late()
    intake._consumer = late  # type: ignore[assignment]
    intake._notice_assignment()
    late.seen = frozenset({("orders.events", 0)})
    intake._notice_assignment()
    assert intake.progress.assignment == late.seen
    message = placed(1)[0]
    intake.lanes[0].pending.append(message)
    late.seen = frozenset()
    intake._notice_assignment()
    assert intake.lanes[0].pending == [message], "under the same generation nobody would bring it again"


def test_an_instant_counts_only_once_the_end_asked_for_after_it_is_reached() -> None:
    progress, place = Progress(), ("t", 0)
    progress.reset([place])
    messages = [IncomingMessage("t", 0, offset, None, b"", (), 0) for offset in range(3)]
    progress.fetched(messages)
    assert progress.mark(100, {place: 3}, {place: 3}) == {}, "three messages are under way"
    assert progress.read_until(place, 2) == 0
    assert progress.read_until(place, 3) == 100
    progress.processed({place: 3}, messages)
    assert progress.mark(200, {place: 3}, {place: 3}) == {place: (3, 200)}
    progress.fetched([IncomingMessage("t", 0, 3, None, b"", (), 0)])
    assert progress.mark(300, {place: 5}, {place: 4}) == {}
    assert progress.read_until(place, 4) == 200, "what was appended before 300 is not all read"


def test_the_clock_is_carried_on_and_never_ahead() -> None:
    clock = DbClock()
    assert not clock.known
    clock.observe(1_000_000)
    time.sleep(0.01)
    assert 1_000_000 + 9_000 < clock.now() < 1_000_000 + 5_000_000


def test_saga_ids_are_those_of_the_kernel() -> None:
    from orchestrator.kernel.children import saga_id

    assert saga_id_of("main", "order", "ö|1", "run") == saga_id("main", "order", "ö|1", "run")
