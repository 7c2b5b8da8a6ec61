"""Timers: once, not early, not late, and never before intake has read what came in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.kernel.inputs import Vote
from orchestrator.runtime import parts
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.reconciler import Reconciler
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.timers import Timers
from orchestrator.runtime.work import Cause, SagaInput
from orchestrator.store.maintenance import Maintenance
from orchestrator.store.queries import ReadQueries
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event
from tests.runtime.shop import CaseOpened, NapTaken, OrderPlaced

GROUP = "orchestrator"


def timers_of(desk: Desk) -> Timers:
    return Timers(
        desk.store, desk.coordinator, desk.hints, group=GROUP, tenant="main",
        poll_ms=100, batch_rows=500, behind_ms=1_000,
    )  # fmt: skip


async def read_up_to(desk: Desk, instant: int) -> None:
    """Intake says that it has read everything up to an instant."""
    await desk.coordinator.process([], {(GROUP, "t", 0): (1, instant)})


@asynccontextmanager
async def ticking(timers: Timers) -> AsyncIterator[Pulse]:
    stopping, pulse = Stopping(), Pulse("timers", 1_000)
    task = asyncio.create_task(timers.run(stopping, pulse))
    try:
        yield pulse
    finally:
        stopping.ask()
        timers._hints.timers.give()
        await asyncio.wait_for(task, 60)


async def ended(eyes: Eyes, count: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (await eyes.rows("SELECT count(*)::int AS n FROM saga_heads WHERE ended"))[0]["n"] < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_timer_fires_once_and_less_than_a_second_late(desk: Desk, eyes: Eyes) -> None:
    await read_up_to(desk, 2**60)
    async with ticking(timers_of(desk)):
        await desk.take(*(event(NapTaken(nap_id=f"n-{n}")) for n in range(50)))
        await ended(eyes, 50)
    rows = await eyes.rows("SELECT convert_from(body, 'UTF8')::json AS body FROM records ORDER BY saga_id, version")
    import orjson

    late = list[float]()
    for body in (orjson.loads(row["body"]) for row in rows):
        if body["type"] == "timer.fired":
            set_at = next(
                orjson.loads(row["body"])["recorded_at"]
                for row in rows
                if orjson.loads(row["body"])["saga"] == body["saga"]
            )
            late.append((body["recorded_at"] - set_at) / 1000 - 300)
    # On a machine with other things to do all of them may be late, but not every one by as much.
    assert 0 <= min(late) < 1_000
    assert max(late) < 10_000
    fired = await eyes.rows(
        "SELECT count(*)::int AS n FROM records WHERE convert_from(body,'UTF8') LIKE '%timer.fired%'"
    )
    assert fired == [{"n": 50}]
    assert await eyes.count("timers") == 0


async def test_no_timer_acts_before_intake_has_read_that_far(desk: Desk, eyes: Eyes) -> None:
    """After an outage the answers lie unread in the broker; what is overdue waits until they were looked at."""
    await desk.take(event(NapTaken(nap_id="n-1")))
    due = (await eyes.rows("SELECT due FROM timers"))[0]["due"]
    await asyncio.sleep(0.4)
    timers = timers_of(desk)
    assert not await timers.fire(), "nobody knows what has arrived"
    await read_up_to(desk, due - 1)
    await timers.fire()
    assert timers.fired == 0
    assert timers.behind_us > 0
    await read_up_to(desk, due)
    await timers.fire()
    assert timers.fired == 1
    await ended(eyes, 1)


async def test_timers_held_back_by_intake_are_not_ready(desk: Desk) -> None:
    await read_up_to(desk, 1)
    async with ticking(timers_of(desk)) as pulse:
        await asyncio.sleep(0.05)
        assert "intake is" in pulse.detail


async def test_an_attempts_clock_does_not_run_while_its_command_is_unsent(desk: Desk, eyes: Eyes) -> None:
    """An outage of the broker burns nobody's attempts (kernel rule 9)."""
    await read_up_to(desk, 2**60)
    await desk.take(event(OrderPlaced(order_id="o-1")))  # its step may take one second
    saga_id = saga_id_of("main", "order", "o-1")
    await asyncio.sleep(1.1)
    timers = timers_of(desk)
    await timers.fire()
    assert (await eyes.stream(saga_id))[-1] == "step.requested", "the command never left"
    await desk.store.mark_sent([(row.saga_id, row.version) for row in desk.sent])
    (timer,) = await eyes.rows("SELECT due FROM timers")
    assert timer["due"] > desk.hints.clock.now() + 500_000, "its time starts with its publication"
    await asyncio.sleep(1.3)
    await timers.fire()
    assert "step.timed_out" in await eyes.stream(saga_id)


async def test_a_timer_whose_cause_is_gone_changes_nothing(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(NapTaken(nap_id="n-1")))
    (timer,) = await eyes.rows("SELECT saga_id, activity, armed FROM timers")
    assert (await desk.fire(**timer)).fate == "applied"
    before = await eyes.count("records")
    assert (await desk.fire(**timer)).fate in ("nothing", "refused")
    assert (await desk.fire("nobody", "x", 1)).fate == "nothing"
    assert await eyes.count("records") == before


async def test_two_processes_that_find_the_same_timer_fire_it_once(database: Database, eyes: Eyes) -> None:
    async with at_desk(database.url) as one, at_desk(database.url) as two:
        await one.take(event(NapTaken(nap_id="n-1")))
        await read_up_to(one, 2**60)
        await asyncio.sleep(0.35)
        await asyncio.gather(timers_of(one).fire(), timers_of(two).fire())
    assert (await eyes.stream((await eyes.rows("SELECT saga_id FROM saga_heads"))[0]["saga_id"])).count(
        "timer.fired"
    ) == 1


async def test_a_vote_and_the_end_of_its_time_have_one_outcome(database: Database, eyes: Eyes) -> None:
    """Whoever commits first wins; the other one is refused or changes nothing."""
    async with at_desk(database.url) as one, at_desk(database.url) as two:
        for number in range(10):
            await one.take(event(CaseOpened(case_id=f"c-{number}")))
            saga_id = saga_id_of("main", "case", f"c-{number}")
            (timer,) = await eyes.rows("SELECT saga_id, activity, armed, due FROM timers WHERE saga_id = $1", saga_id)
            (task,) = await eyes.rows(
                "SELECT convert_from(data, 'UTF8')::json->>'hash' AS hash FROM tasks WHERE saga_id = $1", saga_id
            )
            vote = Vote("approve", "maria", ("boss",), {"outcome": "approve"}, task["hash"], one.hints.clock.now())
            due = timer.pop("due")
            assert due
            voted, _ = await asyncio.gather(
                one.decide(SagaInput(saga_id, vote, Cause("main", "person:maria"))), two.fire(**timer)
            )
            stream = await eyes.stream(saga_id)
            assert stream.count("task.decided") + stream.count("task.expired") == 1
            assert (voted[0].fate == "applied") == ("task.decided" in stream)


async def test_a_saga_stopped_at_its_record_limit_goes_on(database: Database, eyes: Eyes) -> None:
    async with at_desk(database.url, turn_records_max=10) as desk:
        from tests.runtime.many import Many, many

        _ = many
        async with at_desk(database.url, sagas=[many], turn_records_max=10) as desk:
            await desk.take(event(Many(many_id="m-1", count=40)))
            assert desk.hints.resumes.given
            reconciler = Reconciler(
                desk.store, desk.coordinator, desk.hints, tenant="main", poll_ms=50, batch_rows=10, report_ms=1_000
            )
            stopping = Stopping()
            task = asyncio.create_task(reconciler.resumes(stopping, Pulse("resumes", 1_000)))
            await ended(eyes, 1)
            stopping.ask()
            desk.hints.resumes.give()
            await task
            assert await eyes.count("resumes") == 0
            assert desk.coordinator.counts["batches"] > 5


async def test_a_live_saga_that_waits_for_nothing_is_reported_as_a_bug(desk: Desk, eyes: Eyes) -> None:
    """Kernel rule 29. One that was written to a moment ago may be waiting for a message that is on its way."""
    await desk.take(event(OrderPlaced(order_id="o-1")), event(OrderPlaced(order_id="o-2")))
    maintenance = Maintenance(desk.store.pools)  # type: ignore[attr-defined]
    reconciler = Reconciler(
        desk.store, desk.coordinator, desk.hints, tenant="main", poll_ms=50, batch_rows=10, report_ms=1_000,
        orphans=maintenance.orphans, trim=maintenance.trim,
    )  # fmt: skip
    await reconciler.report_now()
    assert reconciler.orphans == []
    lost = saga_id_of("main", "order", "o-1")
    await eyes.rows("DELETE FROM timers WHERE saga_id = $1", lost)
    await eyes.rows("DELETE FROM outbox_unsent")
    await reconciler.report_now()
    assert reconciler.orphans == [], "written just now"
    await eyes.rows("UPDATE saga_heads SET recorded_at = recorded_at - 61000000")
    await reconciler.report_now()
    assert reconciler.orphans == [lost]
    await reconciler.trim_now()
    assert reconciler.trimmed_rows == 0


async def test_a_topic_that_nobody_reads_any_more_does_not_hold_timers_back(database: Database, eyes: Eyes) -> None:
    """A retired saga's topic keeps its last instant for ever; only the topics wanted today count."""
    async with at_desk(database.url) as desk:
        long_ago = 1_000_000
        await desk.coordinator.process([], {(GROUP, "retired.events", 0): (1, long_ago)})
        await desk.take(event(NapTaken(nap_id="n-1")))
        await asyncio.sleep(0.4)
        wanted = [*desk.router.topics]
        timers = parts.timers(
            desk.settings, desk.store, desk.coordinator, desk.hints, wanted, ReadQueries(desk.store.pools)  # type: ignore[attr-defined]
        )  # fmt: skip
        await timers.fire()
        assert timers.fired == 0, "the wanted topics were never read"
        await desk.coordinator.process([], everywhere(desk))
        await timers.fire()
        assert timers.fired == 1


async def test_a_partition_that_nobody_has_read_yet_holds_timers_back(database: Database, eyes: Eyes) -> None:
    """It has no row, so the smallest instant of those that are read says nothing about it (kernel rule 31)."""
    async with at_desk(database.url) as desk:
        await desk.take(event(NapTaken(nap_id="n-1")))
        await asyncio.sleep(0.4)
        timers = parts.timers(
            desk.settings, desk.store, desk.coordinator, desk.hints, desk.router.topics, ReadQueries(desk.store.pools)  # type: ignore[attr-defined]
        )  # fmt: skip
        read = everywhere(desk)
        last, instant = read.popitem()
        await desk.coordinator.process([], read)
        await timers.fire()
        assert timers.fired == 0, "what lies in the last partition may have come in time"
        await desk.coordinator.process([], {last: instant})
        await timers.fire()
        assert timers.fired == 1


def everywhere(desk: Desk) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Every partition that is wanted, read far into the future."""
    numbers = range(desk.settings.topic_partitions)
    return {(GROUP, topic, number): (1, 2**60) for topic in desk.router.topics for number in numbers}
