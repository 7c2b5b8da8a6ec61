"""Sagas by trace and by the message that began them: filled behind the records, each tenant's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.runtime.identity import trace_id_of
from orchestrator.store.contract import NewRecord
from orchestrator.store.finding import Finding
from orchestrator.store.postgres import PostgresStore
from tests.contracts.stores import append, start, written
from tests.databases import Database

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


async def begin(store: PostgresStore, key: str, *, cause: str = "", trace: str = "", tenant: str = "main") -> str:
    """A saga with two records; gives its id."""
    saga = start(key, tenant=tenant)
    traceparent = f"00-{trace}-00f067aa0ba902b7-01" if trace else ""
    first = NewRecord("saga.started", "", {"odd": "\0"}, "system", cause, traceparent)
    second = NewRecord("b", "", {}, "system", "later-message", "00-" + "f" * 32 + "-00f067aa0ba902b7-01")
    await written(store, append(saga, 0, records=[first, second]))
    await store.seal()
    return saga.saga_id


async def test_a_saga_is_found_by_its_trace_and_by_what_began_it(store: PostgresStore) -> None:
    """Also where the trace is our own, made of the saga's id; later records add nothing."""
    finding = Finding(store.pools, trace_id_of)
    upstream = await begin(store, "k-1", cause="event-1", trace=TRACE)
    own = await begin(store, "k-2", cause="/api/ada/1")
    again = await begin(store, "k-3", cause="event-1", trace=TRACE)
    assert await finding.catch_up()
    assert await finding.by_trace("main", TRACE.upper()) == sorted([upstream, again])
    assert await finding.by_trace("main", trace_id_of("", own)) == [own]
    assert await finding.by_message("main", "event-1") == sorted([upstream, again])
    for nothing in ("later-message", "/api/ada/1", ""):
        assert await finding.by_message("main", nothing) == []
    assert await finding.by_trace("main", "f" * 32) == []


async def test_more_than_one_statement_takes_are_all_added(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits of a pass and of a statement lose nothing."""
    monkeypatch.setattr("orchestrator.store.finding.ADDED_SAGAS", 2)
    monkeypatch.setattr("orchestrator.store.finding.BATCHES_MAX", 3)
    finding = Finding(store.pools, trace_id_of)
    first = NewRecord("saga.started", "", {}, "system", "one-for-all", "")
    sagas = [start(f"k-{n}") for n in range(7)]
    await written(store, *(append(saga, 0, records=[first]) for saga in sagas))
    alone = [await begin(store, f"a-{n}", cause="one-for-all") for n in range(5)]
    assert await finding.catch_up()
    assert await finding.by_message("main", "one-for-all") == sorted([*(saga.saga_id for saga in sagas), *alone])


async def test_nobody_finds_another_tenants_saga(store: PostgresStore) -> None:
    """One trace goes through two houses; each sees its own part."""
    finding = Finding(store.pools, trace_id_of)
    ours = await begin(store, "k-1", cause="e", trace=TRACE)
    theirs = await begin(store, "k-1", cause="e", trace=TRACE, tenant="other")
    await finding.catch_up()
    assert await finding.by_trace("main", TRACE) == [ours]
    assert await finding.by_trace("other", TRACE) == [theirs]
    assert await finding.by_message("third", "e") == []


async def test_filling_goes_on_where_it_stopped_and_two_may_do_it(store: PostgresStore) -> None:
    """Nothing is lost, whoever comes first; what is not sealed yet comes with a later pass."""
    finding = Finding(store.pools, trace_id_of)
    assert await finding.fill() is False
    sagas = [await begin(store, f"k-{n}", cause=f"e-{n}") for n in range(5)]
    await asyncio.gather(*(finding.fill() for _ in range(4)))
    late = await begin(store, "late", cause="e-late")
    await finding.catch_up()
    assert [await finding.by_message("main", f"e-{n}") for n in range(5)] == [[saga] for saga in sagas]
    assert await finding.by_message("main", "e-late") == [late]
