"""Each record goes into each projection exactly once, whoever runs it; an unreadable one stops only its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.postgres import PostgresStore
from projections import rebuild as rebuilding
from projections.audit import AuditProjection
from projections.contract import Connection, Facts, FeedRecord, Projection, UnreadableRecordError
from projections.feed import Feed
from projections.models import Models
from projections.rebuild import rebuild
from projections.registry import NAMES, projections
from projections.runner import Runner
from tests.contracts.stores import append, begun, start, written
from tests.databases import Database

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


def runner(store: PostgresStore, projection: Projection | None = None, batch: int = 1_000) -> Runner:
    """A runner with a feed of its own, as another process has it."""
    return Runner(store, Feed(store), projection or AuditProjection(), batch_records=batch, poll_ms=10)


async def drained(*runners: Runner) -> int:
    """Steps until nobody has anything to do; how many records were taken."""
    total = 0
    while True:
        taken = [await one.step() or 0 for one in runners]
        total += sum(taken)
        if not any(taken):
            return total


async def fetch(database: Database, query: str) -> list[Any]:
    """Rows, as the database's owner sees them."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        rows: list[Any] = await connection.fetch(query)
        return rows
    finally:
        await connection.close()


async def test_every_record_has_one_row_and_the_checkpoint_counts_them(
    store: PostgresStore, database: Database
) -> None:
    """Several sagas, several batches of one record and of many."""
    sagas = [start(f"K-{number}") for number in range(5)]
    await begun(store, *sagas)
    for saga in sagas:
        await written(store, append(saga, 1, "step.requested", "step.succeeded"))
    assert await drained(runner(store, batch=4)) == 15
    assert [row["position"] for row in await fetch(database, "SELECT position FROM audit_a ORDER BY 1")] == list(
        range(1, 16)
    )
    slot = (await fetch(database, "SELECT * FROM projection_slots"))[0]
    assert (slot["projection"], slot["position"], slot["records"], slot["stopped"]) == ("audit", 15, 15, "")


async def test_two_runners_share_the_work_and_no_record_counts_twice(store: PostgresStore, database: Database) -> None:
    """Both step at once, over and over, while records come in; each drops what it knew when the other was quicker."""
    sagas = [start(f"K-{number}") for number in range(40)]
    one, two = runner(store, batch=3), runner(store, batch=7)
    for saga in sagas:
        await begun(store, saga)
        await asyncio.gather(one.step(), two.step())
    await drained(one, two)
    assert [row["position"] for row in await fetch(database, "SELECT position FROM audit_a ORDER BY 1")] == list(
        range(1, 41)
    )
    alone = runner(store)
    assert await drained(alone) == 0
    slot = (await fetch(database, "SELECT * FROM projection_slots"))[0]
    assert (slot["position"], slot["records"]) == (40, 40)


async def test_whoever_finds_the_checkpoint_held_stands_by(store: PostgresStore, database: Database) -> None:
    """A process that froze in the middle of its batch: the others neither wait nor write."""
    await begun(store, start())
    await drained(runner(store))
    await written(store, append(start(), 1, "step.requested"))
    waiting = runner(store)
    await waiting.step(up_to=1)  # it knows where the projection stands
    connection = await asyncpg.connect(database.admin_url)
    try:
        async with connection.transaction():
            await connection.fetch("SELECT * FROM projection_slots FOR UPDATE")
            assert await waiting.step() is None
    finally:
        await connection.close()
    assert await drained(waiting) == 1


class Failing(AuditProjection):
    """An audit projection that fails after it has written its rows."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        await super().apply(connection, slot, records, facts)
        if self.error is not None:
            raise self.error


async def test_rows_and_checkpoint_stand_or_fall_together(store: PostgresStore, database: Database) -> None:
    """The database goes away after the rows: neither rows nor position remain, and then each record is there once."""
    await begun(store, start("K-1"), start("K-2"))
    failing = Failing(StoreUnavailableError("away"))
    one = runner(store, failing)
    with pytest.raises(StoreUnavailableError):
        await one.step()
    assert not await fetch(database, "SELECT FROM audit_a")
    failing.error = None
    assert await drained(one) == 2
    assert len(await fetch(database, "SELECT FROM audit_a")) == 2


class Picky(AuditProjection):
    """Cannot read one type of record, until its next release."""

    def __init__(self, unreadable: str) -> None:
        self.unreadable = unreadable

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        for record in records:
            if record.type == self.unreadable:
                raise UnreadableRecordError(self.name, record, "what is this?")
        await super().apply(connection, slot, records, facts)


async def test_a_record_that_nobody_can_read_stops_its_projection_just_before_it(
    store: PostgresStore, database: Database
) -> None:
    """Name, position and record stand in the checkpoint; what lies before is in; the next release goes on."""
    await begun(store, start())
    await written(store, append(start(), 1, "step.requested", "step.from_the_future", "step.succeeded"))
    with pytest.raises(UnreadableRecordError, match=r"projection audit stopped at position 3: step\.from_the_future"):
        await drained(runner(store, Picky("step.from_the_future")))
    slot = (await fetch(database, "SELECT * FROM projection_slots"))[0]
    assert (slot["position"], slot["stopped_position"]) == (2, 3)
    (state,) = [state for state in await Models(store).states() if state.name == "audit"]
    assert (state.state, state.stopped_position, state.complete.lag) == ("stopped", 3, 2)
    assert "what is this?" in state.reason
    assert await drained(runner(store)) == 2
    (state,) = [state for state in await Models(store).states() if state.name == "audit"]
    assert (state.state, state.complete.position) == ("running", 4)


async def test_one_stopped_projection_stops_no_other(store: PostgresStore) -> None:
    """A stream that the kernel cannot fold is no journey; the audit trail has it all the same."""
    await begun(store, start())
    for made in projections():
        if made.name == "journeys":
            with pytest.raises(UnreadableRecordError, match="journeys"):
                await drained(runner(store, made))
        else:
            assert await drained(runner(store, made)) == 1
    states = {state.name: state.state for state in await Models(store).states()}
    assert states == {"approvals": "running", "audit": "running", "journeys": "stopped"}
    assert sorted(states) == sorted(NAMES)


class Newer(AuditProjection):
    """The next version of its code."""

    version = 2


async def test_code_of_another_version_writes_nothing_into_rows_that_are_not_its_own(store: PostgresStore) -> None:
    """During an upgrade old and new code run side by side; the new one asks to be built first."""
    await begun(store, start())
    await drained(runner(store))
    await written(store, append(start(), 1, "step.requested"))
    with pytest.raises(
        Exception, match="of version 1, the code is version 2: run orchestrator projection rebuild audit"
    ):
        await runner(store, Newer()).step()
    assert await drained(runner(store)) == 1


async def test_a_rebuild_gives_the_same_rows_and_takes_the_place_of_the_old_ones(
    store: PostgresStore, database: Database
) -> None:
    """Beside the live slot, from the same records; then readers and the runner go on in the new slot."""
    await begun(store, *(start(f"K-{number}") for number in range(10)))
    live = runner(store)
    await drained(live)
    await written(store, append(start("K-1"), 1, "step.requested"))  # the live one has not got it yet
    built = await rebuild(database.url, "audit")
    assert (built.position, built.same_records, built.same_rows, built.swapped) == (10, True, True, True)
    (slot,) = await fetch(database, "SELECT * FROM projection_slots WHERE live")
    assert (slot["slot"], slot["position"]) == ("b", 10)
    assert await drained(live) == 1
    assert len((await Models(store).audit.search("main")).items) == 11
    again = await rebuild(database.url, "audit")
    assert (again.same_rows, again.swapped) == (True, True)
    assert len((await Models(store).audit.search("main")).items) == 11


async def indexes(database: Database, slot: str) -> set[str]:
    """The definitions of a slot's indexes, without its letter."""
    rows = await fetch(
        database,
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' "
        f"AND tablename ~ '^(audit|approval|journey).*_{slot}$'",
    )
    return {re.sub(rf"_{slot}(?=_|\b)", "_?", row["indexdef"]) for row in rows}


async def test_a_slot_is_filled_bare_and_swapped_in_with_every_index(
    store: PostgresStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it fills it has keys and what the projection itself looks up; then all that the live one has."""
    every, begin, bare = await indexes(database, "a"), rebuilding._begin, []
    assert every == await indexes(database, "b")

    async def begun_bare(*arguments: Any) -> str:
        slot = await begin(*arguments)
        bare.append(await indexes(database, slot))
        return slot

    monkeypatch.setattr(rebuilding, "_begin", begun_bare)
    await begun(store, start())
    for made in [made for made in projections() if made.name != "journeys"]:  # this stream is no journey
        await drained(runner(store, made))
        for _ in range(2):
            assert (await rebuild(database.url, made.name)).swapped
            assert await indexes(database, "a") == await indexes(database, "b") == every
    of_approvals, of_audit = every - bare[0], every - bare[-1]
    assert (len(of_approvals), len(of_audit)) == (3, 5)
    assert any("approval_votes_?_by_task" in line for line in bare[0])


async def test_a_read_model_that_was_never_filled_is_built_up_to_the_last_record(
    store: PostgresStore, database: Database
) -> None:
    """A new one, in a store with years of records: filled bare at once, instead of following from the beginning."""
    await begun(store, *(start(f"K-{number}") for number in range(10)))
    built = await rebuild(database.url, "audit")
    assert (built.position, built.compared, built.same_rows, built.swapped) == (10, False, False, True)
    await written(store, append(start("K-1"), 1, "step.requested"))
    assert await drained(runner(store)) == 1
    assert len((await Models(store).audit.search("main")).items) == 11


async def test_of_two_rebuilds_at_once_the_slower_one_does_not_bring_the_old_rows_back(
    store: PostgresStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators after an upgrade. The one who finds the slot swapped or filled by another says so and stops."""

    class Newer(AuditProjection):
        version = 2

    await begun(store, start("K-1"), start("K-2"))
    await drained(runner(store))
    fill, fills = rebuilding._fill, 0

    async def filled(*arguments: Any) -> None:
        nonlocal fills
        fills += 1
        first = fills == 1
        await fill(*arguments)
        if first:
            assert (await rebuild(database.url, "audit")).swapped

    monkeypatch.setattr(rebuilding, "_fill", filled)
    monkeypatch.setattr(rebuilding, "projection", lambda _: Newer())
    with pytest.raises(rebuilding.BusyError):
        await rebuild(database.url, "audit")
    (slot,) = await fetch(database, "SELECT * FROM projection_slots WHERE live")
    assert (slot["slot"], slot["version"], slot["position"]) == ("b", 2, 2)


async def test_a_rebuild_that_differs_is_shown_and_not_taken(store: PostgresStore, database: Database) -> None:
    """Somebody changed a row of the live slot: the rebuild names table, number and rows, and waits for a word."""
    await begun(store, start("K-1"), start("K-2"))
    await drained(runner(store))
    await fetch(database, "UPDATE audit_a SET actor = 'person:mallory' WHERE position = 2")
    await fetch(database, "DELETE FROM audit_a WHERE position = 1")
    built = await rebuild(database.url, "audit")
    assert built.same_records
    assert not built.swapped
    (difference,) = built.differences
    assert (difference.table, difference.only_live, difference.only_rebuilt) == ("audit", 1, 2)
    assert any("mallory" in sample for sample in difference.samples)
    taken = await rebuild(database.url, "audit", accept_differences=True)
    assert taken.swapped
    assert {entry.actor for entry in (await Models(store).audit.search("main")).items} == {"system"}


async def test_a_comparison_alone_swaps_nothing(store: PostgresStore, database: Database) -> None:
    """`orchestrator projection compare`."""
    await begun(store, start())
    await drained(runner(store))
    compared = await rebuild(database.url, "audit", swap=False)
    assert (compared.same_rows, compared.swapped) == (True, False)
    assert (await fetch(database, "SELECT slot FROM projection_slots WHERE live"))[0]["slot"] == "a"


async def test_the_application_can_neither_change_the_audit_trail_nor_empty_what_is_live(
    store: PostgresStore, database: Database
) -> None:
    """Rows are added and never touched; a slot is emptied by the owner's function, unless it is live."""
    await begun(store, start())
    await drained(runner(store))
    connection = await asyncpg.connect(database.url)
    try:
        for forbidden in ("UPDATE audit_a SET actor = 'x'", "DELETE FROM audit_a", "TRUNCATE audit_a",
                          "UPDATE audit_a_stored SET actor = 'x'", "DELETE FROM audit_a_stored"):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(forbidden)
        with pytest.raises(asyncpg.RaiseError, match="may be emptied"):
            await connection.execute("SELECT projection_clear('audit', 'a')")
        with pytest.raises(asyncpg.RaiseError, match="may be emptied"):
            await connection.execute("SELECT projection_clear('saga_heads', 'b')")
        with pytest.raises(asyncpg.RaiseError, match="may be emptied"):
            await connection.execute("SELECT projection_index('audit', 'a')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT projection_tables('audit')")
    finally:
        await connection.close()


async def test_a_session_that_named_its_tenant_sees_no_other_ones_rows(
    store: PostgresStore, database: Database
) -> None:
    """The second net under every query's own condition: row level security on both slots of every table."""
    await begun(store, start("K-1"), start("K-2", tenant="other"))
    await drained(runner(store))
    connection = await asyncpg.connect(database.url)
    try:
        async with connection.transaction():
            await connection.fetch("SELECT set_config('orchestrator.tenant', 'other', true)")
            assert [row["tenant"] for row in await connection.fetch("SELECT tenant FROM audit_a")] == ["other"]
    finally:
        await connection.close()
    rows = await fetch(
        database,
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' "
        "WHERE c.relkind IN ('r', 'p') AND c.relname ~ '^(audit|approval|journey).*_[ab]$' AND NOT c.relrowsecurity",
    )
    assert not rows
