"""From the store to the collector: nothing lost, nothing doubled, nothing that a commit waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import pytest_asyncio

from orchestrator.config import Settings
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store import small
from orchestrator.store.contract import NewRecord
from orchestrator.store.postgres import PostgresStore
from orchestrator.tracing.again import Again, CollectorError, Emitted
from orchestrator.tracing.fold import Fields, SagaSpans, Wire
from orchestrator.tracing.loop import BacklogLimit, TraceLoop
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.settings import telemetry_settings
from orchestrator.tracing.span import Span
from orchestrator.tracing.store import Told, TraceStore
from orchestrator.tracing.wiring import Traces
from tests.contracts.stores import append, start, written
from tests.databases import Database
from tests.evidence.logs import as_superuser
from tests.tracing.collector import Collector, collecting
from tests.tracing.trees import UPSTREAM

STARTED: dict[str, Any] = {"name": "order", "version": 1, "tenant": "main", "type": "shop.OrderPlaced", "data": {}}

TOLD = Told({"service.name": "saga-orchestrator"})


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector for one test."""
    with collecting() as made:
        yield made


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


@pytest.fixture(params=["few", "many"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a batch is written."""
    if request.param == "many":
        monkeypatch.setattr(small, "SAGAS_MAX", -1)
        monkeypatch.setattr(small, "RECORDS_MAX", -1)
    return str(request.param)


Loops = Callable[..., TraceLoop]


@pytest.fixture
def loop(store: PostgresStore, collector: Collector) -> Iterator[Loops]:
    """The loops of processes; their connections are closed at the end."""
    made: list[Sender] = []

    def make(who: str = "one", **more: Any) -> TraceLoop:
        limits: dict[str, Any] = {"poll_ms": 10, "records_max": 100, "sagas_max": 100, "backlog_batches_max": 1_000}
        made.append(Sender(collector.settings()))
        resource = {"service.name": "saga-orchestrator"}
        kept = TraceStore(store)
        return TraceLoop(kept, made[-1], Told(resource), lambda _: "shop.events", who=who, **(limits | more))

    yield make
    for sender in made:
        sender.close()


def began() -> NewRecord:
    """A first record."""
    return NewRecord("saga.started", "", STARTED, "system", "m-1", UPSTREAM)


def opened(number: int) -> NewRecord:
    """A record that makes one span."""
    return NewRecord("timer.set", f"pause{number}", {"due": 1}, "system", "m-2")


async def rows(store: PostgresStore) -> int:
    """Batches that wait."""
    return len(await TraceStore(store).due(1_000))


async def drained(running: TraceLoop) -> None:
    """Sends until nothing is due."""
    while await running.step(Stopping(), Pulse("test", 60_000)):
        pass


async def test_only_sampled_sagas_are_read(store: PostgresStore, collector: Collector, loop: Loops, way: str) -> None:
    """Between those of others, in one batch: the work set holds nothing of them."""
    sagas = [start(f"{way}-{number}") for number in range(6)]
    batch = [append(s, 0, traced=n % 3 != 1, records=[began(), opened(n)]) for n, s in enumerate(sagas)]
    await written(store, *batch)
    ((_, places),) = await TraceStore(store).due(10)
    assert places == [0, 1, 4, 7, 10, 11]
    await drained(loop())
    found = {span["tags"]["saga.id"] for span in collector.spans()}
    assert found == {saga.saga_id for number, saga in enumerate(sagas) if number % 3 != 1}
    assert await rows(store) == 0


async def test_without_sampled_sagas_nothing_is_noted(store: PostgresStore, way: str) -> None:
    """The common case costs no row."""
    await written(store, append(start(way), 0, records=[began()]))
    assert await rows(store) == 0


async def test_a_crash_between_post_and_mark_sends_the_same_bytes(
    store: PostgresStore, collector: Collector, loop: Loops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died after the collector had them: the next one sends them again, and they are the same spans."""
    saga = start("crash")
    await written(store, append(saga, 0, traced=True, records=[began(), opened(1)]))
    dying = loop()

    async def dies(_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(dying._store, "sent", dies)
    with pytest.raises(RuntimeError, match="killed"):
        await drained(dying)
    await drained(loop("two"))
    assert len(collector.bodies) == 2
    assert collector.bodies[0] == collector.bodies[1]


async def test_a_restart_midway_repeats_earlier_spans_unchanged(
    store: PostgresStore, collector: Collector, loop: Loops
) -> None:
    """What is not in memory is read from the store: no parent is missing, and no span comes in two forms."""
    saga = start("midway")
    await written(store, append(saga, 0, traced=True, records=[began(), opened(1)]))
    await drained(loop())
    await written(store, append(saga, 2, traced=True, records=[NewRecord("timer.fired", "pause1", {}, "system", "")]))
    await drained(loop())
    forms: dict[str, set[str]] = {}
    for span in collector.spans():
        forms.setdefault(span["spanId"], set()).add(repr(span))
    assert len(forms) == 3
    assert all(len(form) == 1 for form in forms.values())


async def test_records_that_were_never_noted_are_sent_as_well(
    store: PostgresStore, collector: Collector, loop: Loops
) -> None:
    """Tracing was switched on while the saga ran: its beginning comes with the next record."""
    saga = start("late")
    await written(store, append(saga, 0, records=[began(), opened(1)]))
    await written(store, append(saga, 2, records=[opened(2)]))
    await written(store, append(saga, 3, traced=True, records=[opened(3)]))
    running = loop()
    await drained(running)
    assert [span["tags"]["saga.record.version"] for span in collector.spans()] == ["1", "2", "3", "4"]
    await written(store, append(saga, 4, records=[opened(4)]))  # by a process that traces nothing
    await written(store, append(saga, 5, traced=True, records=[opened(5)]))
    await drained(running)
    assert {span["tags"]["saga.record.version"] for span in collector.spans()} == set("123456")


async def test_a_collector_that_is_away_costs_nothing_and_gets_all_later(
    store: PostgresStore, collector: Collector, loop: Loops
) -> None:
    """The loop waits with one request in memory; the store goes on; then everything comes, in order."""
    collector.status = 503
    running, stopping, pulse = loop(), Stopping(), Pulse("traces", 60_000)
    task = asyncio.create_task(running.run(stopping, pulse))
    for number in range(5):
        await written(store, append(start(f"away-{number}"), 0, traced=True, records=[began()]))
    await asyncio.to_thread(collector.wait_refused)
    for _ in range(3_000):  # it counts before its answer is there
        if running.trouble:
            break
        await asyncio.sleep(0.01)
    assert running.trouble == "HTTP 503"
    collector.status = 200
    await asyncio.to_thread(collector.wait, 5)
    stopping.ask()
    await task
    assert await rows(store) == 0
    assert running.facts()["trace_spans_sent"] == 5


async def test_what_a_collector_refuses_for_good_does_not_stop_the_rest(
    store: PostgresStore, collector: Collector, loop: Loops
) -> None:
    """The same bytes again would be refused again."""
    collector.status = 400
    await written(store, append(start("bad"), 0, traced=True, records=[began()]))
    running = loop()
    await drained(running)
    assert (running.refused_spans, await rows(store)) == (1, 0)
    collector.status = 200
    await written(store, append(start("good"), 0, traced=True, records=[began()]))
    await drained(running)
    assert len(collector.spans()) == 1


async def test_the_backlog_has_a_limit(store: PostgresStore) -> None:
    """Beyond it the oldest are given up; their sagas can be sent again."""
    for number in range(6):
        await written(store, append(start(f"old-{number}"), 0, traced=True, records=[began()]))
    kept = TraceStore(store)
    assert await kept.give_up(4) == 2
    assert await kept.give_up(4) == 0
    assert await rows(store) == 4


async def test_the_backlog_has_a_limit_where_nobody_sends(store: PostgresStore) -> None:
    """An installation that forgot the role `traces`, and a collector that is slow but never refuses."""
    for number in range(6):
        await written(store, append(start(f"old-{number}"), 0, traced=True, records=[began()]))
    limit = BacklogLimit(TraceStore(store), 4)
    await limit.look()
    assert await rows(store) == 4
    assert limit.facts() == {"trace_batches_given_up": 2}
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    for roles, names in (({"coordinator"}, ["traces-limit"]), ({"coordinator", "traces"}, ["traces"])):
        made = Traces(
            Settings(),
            telemetry_settings(environment),
            store,
            lambda _: "",
            Wire(),
            roles=frozenset(roles),
            instance="one",
        )
        assert [name for name, _ in made.loops()] == names


async def test_one_process_sends_at_a_time(store: PostgresStore) -> None:
    """Else a span could come before its parent. A hold that is let go is free at once."""
    kept = TraceStore(store)
    assert await kept.hold("one", 60_000, TOLD)
    assert not await kept.hold("two", 60_000, TOLD)
    assert await kept.hold("one", 60_000, TOLD)
    await kept.let_go("one")
    assert await kept.hold("two", 60_000, TOLD)


async def test_a_record_that_cannot_be_read_costs_its_own_span_alone(
    store: PostgresStore, collector: Collector, loop: Loops
) -> None:
    """A record of a later release, or a damaged one: the others are sent, and nothing stops."""
    strange = NewRecord("step.requested", "pay", {"command": "no command"}, "system", "")
    await written(store, append(start("strange"), 0, traced=True, records=[began(), strange, opened(3)]))
    await drained(loop())
    assert [span["tags"]["saga.record.version"] for span in collector.spans()] == ["1", "3"]


async def test_a_body_that_is_no_record_and_a_span_that_is_no_text_hold_up_nobody(
    store: PostgresStore, collector: Collector, loop: Loops, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged by somebody who may write anything; and an attribute of a kind that nobody thought of."""
    await written(store, append(start("torn"), 0, traced=True, records=[began(), opened(2), opened(3)]))
    await as_superuser(database, "UPDATE records SET body = '[]' WHERE version = 2")
    real = SagaSpans.take

    def take(self: SagaSpans, record: Fields) -> list[Span]:
        made = real(self, record)
        for span in made if record.version == 3 else ():
            span.attributes = {**span.attributes, "odd": cast("str", [object()])}
        return made

    monkeypatch.setattr(SagaSpans, "take", take)
    await written(store, append(start("next"), 0, traced=True, records=[began()]))
    running = loop()
    await drained(running)
    assert [span["tags"]["saga.record.version"] for span in collector.spans()] == ["1", "1"]
    assert (await rows(store), running.refused_spans) == (0, 1)


async def test_a_saga_is_sent_again_from_the_store(store: PostgresStore, collector: Collector, loop: Loops) -> None:
    """Sampled or not, and for one that was, byte for byte what the loop sent; whatever environment it is typed in."""
    saga, other = start("again"), start("unsampled")
    await written(store, append(saga, 0, traced=True, records=[began(), opened(1)]))
    await written(store, append(other, 0, records=[began()]))
    await TraceStore(store).hold("one", 1, TOLD)
    await drained(loop())
    done = Emitted()
    elsewhere = replace(collector.settings(), resource={"service.name": "a-shell"})
    again = Again(TraceStore(store), elsewhere, lambda _: "shop.events", Wire("kafka", "another-group"))
    await again.saga("main", saga.saga_id, done)
    assert (done.sagas, done.spans, done.trace_id) == (1, 2, UPSTREAM[3:35])
    assert collector.bodies[0] == collector.bodies[1]
    await again.saga("elsewhere", saga.saga_id, done)
    assert done.sagas == 1, "another tenant's saga is not there"
    assert [one async for one in again.between("main", 0, 2**62)] == sorted([saga.saga_id, other.saga_id])
    assert [one async for one in again.between("main", 2**62, 2**62)] == []
    collector.status = 503
    with pytest.raises(CollectorError, match="503"):
        await again.saga("main", other.saga_id, done)
    again.close()


async def test_posts_can_be_small(collector: Collector) -> None:
    """gzip where it is asked for, and headers that authorise."""
    sender = Sender(collector.settings(gzip=True, headers={"authorization": "Bearer x"}))
    assert (await sender.post(b'{"resourceSpans":[]}')).fate == "taken"
    assert (await sender.post(b'{"resourceSpans":[]}')).fate == "taken"
    sender.close()
    assert collector.headers[0]["content-encoding"] == "gzip"
    assert collector.headers[0]["authorization"] == "Bearer x"
    assert collector.bodies == [b'{"resourceSpans":[]}'] * 2
