"""The whole process on a real database and a real log: it runs, is healthy, stops cleanly, survives being killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.broker.contract import BrokerUnavailableError, OutgoingMessage, open_broker
from orchestrator.config import Settings
from orchestrator.kernel.inputs import Cancel
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog, CatalogError, DefinitionChangedError
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.submit import BusyError, Submitter
from orchestrator.runtime.supervisor import LoopDiedError, Stopping
from orchestrator.runtime.work import Cause, Outcome, SagaInput
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.migrate import SchemaBehindError
from tests import forking
from tests.databases import Database
from tests.runtime.desk import Eyes, event
from tests.runtime.proxy import wire_to
from tests.runtime.shop import SAGAS, CaseOpened, OrderPlaced, order
from tests.runtime.shop_participants import PARTICIPANTS
from tests.runtime.shop_process import QUICK


async def prepare(database: Database) -> None:
    for participant in PARTICIPANTS:
        await participant.own_schema.migrate(database.migrate_url)


@asynccontextmanager
async def at_work(database: Database, **settings: Any) -> AsyncIterator[Runtime]:
    """A process with all roles; leaving stops it gracefully."""
    await prepare(database)
    made = Settings(database_url=database.url, **(QUICK | settings))
    async with Runtime(made, catalog=Catalog.of(SAGAS, PARTICIPANTS)) as runtime:
        running = asyncio.create_task(runtime.run())
        try:
            yield runtime
        finally:
            runtime.stop()
            await running


async def publish(runtime: Runtime, count: int, first: int = 0) -> None:
    producer = runtime.broker.producer("test")
    placed = [event(OrderPlaced(order_id=f"o-{n}"), id=f"e-{n}") for n in range(first, first + count)]
    assert set(await producer.send([OutgoingMessage(m.topic, m.key, m.value, m.headers) for m in placed])) <= {None}


async def completed(eyes: Eyes, count: int, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while (await eyes.rows("SELECT count(*)::int AS n FROM saga_heads WHERE phase = 'completed'"))[0]["n"] < count:
        assert time.monotonic() < deadline, await eyes.rows(
            "SELECT phase, waiting_for, count(*) FROM saga_heads GROUP BY 1, 2"
        )
        await asyncio.sleep(0.02)


async def all_over(eyes: Eyes, count: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (await eyes.rows("SELECT count(*)::int AS n FROM saga_heads WHERE ended"))[0]["n"] < count:
        assert time.monotonic() < deadline, await eyes.rows("SELECT phase, waiting_for, stuck FROM saga_heads")
        await asyncio.sleep(0.02)


async def check_all(eyes: Eyes, count: int) -> None:
    """Every order is through, step by step, once; nothing is left over."""
    rows = await eyes.rows("SELECT version, ended FROM saga_heads WHERE name = 'order'")
    assert len(rows) == count
    # A retry after a crash may add attempts; a stream is never shorter, and effects are counted below.
    assert all(row["ended"] and row["version"] >= 9 for row in rows)
    assert await eyes.letters() == []
    for table in ("outbox_unsent", "timers", "live_runs", "resumes"):
        assert await eyes.count(table) == 0, table
    for participant in PARTICIPANTS:
        (effects,) = await eyes.rows(f"SELECT count(*)::int AS n FROM {participant.own_schema.name}.inbox")
        assert effects["n"] == count, participant.name


async def test_orders_run_through_and_the_process_stops_cleanly(database: Database, eyes: Eyes) -> None:
    async with at_work(database) as runtime:
        await publish(runtime, 100)
        await completed(eyes, 100)
        health = runtime.health()
        assert health.ready, health.loops
        assert {"intake", "timers", "relay", "participant-payment"} <= {loop.name for loop in health.loops}
        assert health.facts["records"] >= 900
        assert health.facts["outbox_refused_rows"] == 0
    assert not runtime.health().ready
    await check_all(eyes, 100)


async def test_stopping_in_the_middle_and_going_on_loses_nothing(database: Database, eyes: Eyes) -> None:
    for round_ in range(3):
        async with at_work(database) as runtime:
            await publish(runtime, 60, first=round_ * 60)
            await asyncio.sleep(0.15)
    async with at_work(database):
        await completed(eyes, 180)
        await asyncio.sleep(0.3)
    await check_all(eyes, 180)


@pytest.mark.timeout(180)
async def test_a_database_that_goes_away_turns_the_process_red_and_is_taken_up_again(
    database: Database, eyes: Eyes
) -> None:
    """Every connection breaks in the middle of the work, and no new one is to be had for a while."""
    async with wire_to(database) as wire:
        through = Database(database.name, wire.url, database.migrate_url, database.admin_url)
        async with at_work(through, stall_ms_max=500) as runtime:
            await publish(runtime, 40)
            await asyncio.sleep(0.2)
            await wire.cut()
            await until(lambda: not runtime.health().ready, 20)
            assert any(loop.detail for loop in runtime.health().loops), "a loop says what is wrong"
            await asyncio.sleep(1)
            await wire.mend()
            # A step that got no answer for three seconds gave up: such an order has turned back, which is an end too.
            await all_over(eyes, 40, seconds=60)
            await until(lambda: runtime.health().ready, 30)
            await asyncio.sleep(0.5)
    assert await eyes.letters() == []
    assert await eyes.rows("SELECT saga_id FROM saga_heads WHERE stuck > 0") == []
    for table in ("outbox_unsent", "timers", "live_runs"):
        assert await eyes.count(table) == 0, table


async def until(check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_acts_of_people_share_transactions(database: Database, eyes: Eyes) -> None:
    async with at_work(database) as runtime:
        cases = [event(CaseOpened(case_id=f"c-{n}")) for n in range(30)]
        items = [item for case in cases if (item := runtime.router.route(case)) is not None]
        await runtime.coordinator.process(items)
        before = runtime.coordinator.counts["batches"]
        acts = [
            SagaInput(saga_id_of("main", "case", f"c-{n}"), Cancel("maria", "no"), Cause("main", "person:maria"))
            for n in range(30)
        ]
        outcomes = await asyncio.gather(*(runtime.submit(act) for act in acts))
        assert {outcome.fate for outcome in outcomes} == {"applied"}
        assert runtime.coordinator.counts["batches"] - before <= 3
    rows = await eyes.rows("SELECT phase FROM saga_heads")
    assert {row["phase"] for row in rows} == {"compensated"}


async def test_too_many_waiting_acts_are_refused_at_once() -> None:
    gate = asyncio.Event()

    async def process(items: Sequence[Any]) -> list[Outcome]:
        await gate.wait()
        return [Outcome("applied") for _ in items]

    submitter = Submitter(process, wait_ms=0, acts_max=1, waiting_max=2)
    act = SagaInput("s", Cancel("m", "r"), Cause("main"))
    waiting = [asyncio.create_task(submitter.submit(act)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await submitter.submit(act)
    gate.set()
    assert [outcome.fate for outcome in await asyncio.gather(*waiting)] == ["applied", "applied"]
    stopping = Stopping()
    stopping.ask()
    await submitter.run(stopping)
    with pytest.raises(BusyError):
        await submitter.submit(act)


async def test_acts_that_come_while_others_are_committed_share_the_next_transaction() -> None:
    """The first goes at once, alone; the next three wait for company and go together."""
    batches: list[int] = []
    gate = asyncio.Event()

    async def process(items: Sequence[Any]) -> list[Outcome]:
        batches.append(len(items))
        await gate.wait()
        return [Outcome("applied") for _ in items]

    submitter = Submitter(process, wait_ms=30, acts_max=10, waiting_max=10)
    act = SagaInput("s", Cancel("m", "r"), Cause("main"))
    asked = [asyncio.create_task(submitter.submit(act))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert batches == [1]
    for _ in range(3):
        asked.append(asyncio.create_task(submitter.submit(act)))
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asked)
    assert batches == [1, 3]


async def test_an_act_whose_asker_gives_up_is_decided_all_the_same() -> None:
    done: list[Any] = []

    async def process(items: Sequence[Any]) -> list[Outcome]:
        await asyncio.sleep(0.05)
        done.extend(items)
        return [Outcome("applied") for _ in items]

    submitter = Submitter(process, wait_ms=1, acts_max=10, waiting_max=10)
    asking = asyncio.create_task(submitter.submit(SagaInput("s", Cancel("m", "r"), Cause("main"))))
    await asyncio.sleep(0.02)
    asking.cancel()
    await asyncio.sleep(0.1)
    assert len(done) == 1


async def test_a_changed_definition_refuses_to_start(database: Database) -> None:
    from orchestrator import Saga
    from tests.runtime.shop import reserve

    async with at_work(database):
        pass
    changed = Saga("order", version=1, starts_on=OrderPlaced, flow=[reserve])
    with pytest.raises(DefinitionChangedError, match=r"saga order v1: the shape[\s\S]*/nodes"):
        async with Runtime(Settings(database_url=database.url), catalog=Catalog.of([changed])):
            pass
    with pytest.raises(CatalogError, match="two different sagas are called order v1"):
        Catalog.of([order, changed])


async def test_an_old_schema_refuses_to_start(empty_database: Database) -> None:
    settings = Settings(database_url=empty_database.url)
    with pytest.raises(SchemaBehindError, match="orchestrator migrate"):
        async with Runtime(settings, catalog=Catalog.of(SAGAS)):
            pass


async def test_a_database_that_goes_away_during_the_start_is_told_as_such(database: Database) -> None:
    """At whichever connection: who starts it then waits, instead of showing what the driver said."""
    await prepare(database)
    async with wire_to(database) as wire:
        made = Settings(database_url=wire.url, **QUICK)  # type: ignore[arg-type]
        for let_in in range(12):
            wire.lets_in = let_in
            try:
                async with Runtime(made, catalog=Catalog.of(SAGAS, PARTICIPANTS)):
                    break
            except (StoreUnavailableError, BrokerUnavailableError):
                continue
    assert 3 <= let_in < 11


async def test_a_loop_that_dies_ends_the_process(database: Database) -> None:
    await prepare(database)
    settings = Settings(database_url=database.url, **QUICK)  # type: ignore[arg-type]
    async with Runtime(settings, catalog=Catalog.of(SAGAS, PARTICIPANTS)) as runtime:

        async def bad(stopping: Stopping) -> None:
            await asyncio.sleep(0.2)
            raise ZeroDivisionError("a bug")

        runtime.add("bad", bad)
        with pytest.raises(LoopDiedError, match="loop bad ended"):
            await asyncio.wait_for(runtime.run(), 60)


async def test_a_subset_of_roles_runs_no_other_loops(database: Database) -> None:
    settings = Settings(database_url=database.url, roles="relay", **QUICK)  # type: ignore[arg-type]
    async with Runtime(settings, catalog=Catalog.of(SAGAS)) as runtime:
        names = {loop.name for loop in runtime.health().loops}
        assert names == {"relay", "relay-sweep", "relay-mark"}
        assert runtime.relay is not None
        assert runtime.relay._owner


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(2))
async def test_processes_killed_again_and_again_lose_and_double_nothing(
    database: Database, eyes: Eyes, seed: int
) -> None:
    """Two processes with all roles; one of them is killed with SIGKILL every now and then, and started anew."""
    await prepare(database)
    chance = random.Random(seed)
    broker = open_broker(database.url)
    count = 240
    processes = [await _started(database, number) for number in range(2)]
    try:
        producer = broker.producer("test")
        for first in range(0, count, 30):
            placed = [event(OrderPlaced(order_id=f"o-{n}"), id=f"e-{n}") for n in range(first, first + 30)]
            await producer.send([OutgoingMessage(m.topic, m.key, m.value, m.headers) for m in placed])
            await asyncio.sleep(chance.uniform(0.05, 0.5))
            victim = chance.randrange(2)
            os.kill(processes[victim].pid, signal.SIGKILL)
            await processes[victim].wait()
            processes[victim] = await _started(database, victim)
        await completed(eyes, count, seconds=90)
        await asyncio.sleep(1)
    finally:
        await broker.close()
        for process in processes:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    await check_all(eyes, count)


async def _started(database: Database, number: int) -> forking.Program:
    roles = "coordinator,relay,timers,participants"
    process = await forking.started("tests.runtime.shop_process", database.url, roles, f"process-{number}")
    assert await process.stdout.readline() == b"up\n"
    return process
