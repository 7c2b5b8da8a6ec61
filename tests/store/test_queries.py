"""What people ask: filters, pages that meet, tenants apart, and plans that stay cheap when there is much."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.kernel.effects import Subscription, TaskRow
from orchestrator.store.contract import DeadLetter, EarlyEvent
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import SQL, BadCursorError, Page, ReadQueries, SagaFilter
from tests.contracts.stores import append, begun, message, outgoing, record, start, written
from tests.databases import Database


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


@pytest.fixture
def queries(store: PostgresStore) -> ReadQueries:
    """Its questions."""
    return ReadQueries(store.pools)


def ids(page: Page[Any]) -> list[str]:
    """The saga ids of a page."""
    return [item.saga_id for item in page.items]


class TestSagas:
    async def test_a_saga_is_found_by_its_id_or_its_business_key(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """By the key, the newest run of it."""
        first, second, other = start(), start(run=".2"), start(name="refund")
        await written(store, append(first, 0, "x", ended=True, phase="completed", outcome="done"))
        await begun(store, second)
        found = await queries.find("main", first.saga_id)
        assert found is not None
        assert (found.phase, found.outcome, found.ended, found.version) == ("completed", "done", True, 1)
        assert found.started_at <= found.recorded_at
        assert (await queries.find("main", "K-1", "transfer")).saga_id == second.saga_id  # type: ignore[union-attr]
        await begun(store, other)
        assert (await queries.find("main", "K-1")).saga_id == other.saga_id  # type: ignore[union-attr]
        for nobody in ("K-2", "", "\0", "' OR 1=1--"):
            assert await queries.find("main", nobody) is None
        assert await queries.find("main", first.saga_id, "refund") is None
        assert await queries.find("other", first.saga_id) is None

    async def test_pages_meet_and_stay_while_new_sagas_start(self, store: PostgresStore, queries: ReadQueries) -> None:
        """Newest first; what begins meanwhile does not move anything."""
        sagas = [start(f"K-{n}") for n in range(7)]
        for saga in sagas[:5]:
            await begun(store, saga)
        first = await queries.sagas("main", limit=2)
        await begun(store, *sagas[5:])
        second = await queries.sagas("main", limit=2, cursor=first.next)
        third = await queries.sagas("main", limit=2, cursor=second.next)
        seen = ids(first) + ids(second) + ids(third)
        assert seen == [saga.saga_id for saga in reversed(sagas[:5])]
        assert third.next == ""

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (SagaFilter(), "dcba"),
            (SagaFilter(name="transfer"), "dba"),
            (SagaFilter(name="refund", ended=True), ""),
            (SagaFilter(business_key="a"), "a"),
            (SagaFilter(phase="compensating"), "b"),
            (SagaFilter(outcome="done"), "d"),
            (SagaFilter(stuck=True), "c"),
            (SagaFilter(stuck=False), "dba"),
            (SagaFilter(ended=True), "d"),
            (SagaFilter(ended=False), "cba"),
            (SagaFilter(waiting_for="task "), "a"),
            (SagaFilter(parent="main.transfer.a"), "b"),
            (SagaFilter(definition_version=2), ""),
            (SagaFilter(started_before=1), ""),
        ],
    )
    async def test_every_filter_counts(
        self, store: PostgresStore, queries: ReadQueries, wanted: SagaFilter, expected: str
    ) -> None:
        """Alone and together."""
        await written(store, append(start("a"), 0, "x", waiting_for="task manager_approval"))
        await written(store, append(start("b"), 0, "x", phase="compensating", parent="main.transfer.a"))
        await written(store, append(start("c", name="refund"), 0, "x", stuck=2))
        await written(store, append(start("d"), 0, "x", ended=True, phase="completed", outcome="done"))
        await begun(store, start("e", tenant="other"))
        found = await queries.sagas("main", wanted)
        assert "".join(saga.business_key for saga in found.items) == expected

    async def test_a_stream_is_read_in_parts_with_its_positions(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """A position is there as soon as anybody has read the feed."""
        saga = start()
        await written(store, append(saga, 0, "a", "b"))
        assert [line.position for line in await queries.records("main", saga.saga_id)] == [0, 0]
        await store.seal()
        await written(store, append(saga, 2, "c"))
        records = await queries.records("main", saga.saga_id, after=1)
        assert [(line.type, line.version, line.position) for line in records] == [("b", 2, 2), ("c", 3, 0)]
        assert await queries.records("other", saga.saga_id) == []

    async def test_a_stored_stream_is_verified_against_its_head(
        self, store: PostgresStore, queries: ReadQueries, database: Database
    ) -> None:
        """Whatever the owner of the tables does to one row of it."""
        saga, other = start("K-1"), start("K-2")
        await written(store, append(saga, 0, *"abcde"), append(other, 0, *"abcde"))
        assert await queries.verify("main", saga.saga_id) is None
        assert str(await queries.verify("main", "nobody")) == "saga nobody, record 0: there is no such saga"
        changes = {
            "UPDATE records SET body = overlay(body placing 'X' from 40) WHERE version = 3": 3,
            "UPDATE records SET body = 'no json' WHERE version = 4": 4,
            "UPDATE records SET hash = sha256('x') WHERE version = 2": 2,
            "DELETE FROM records WHERE version = 2": 2,
            "DELETE FROM records WHERE version = 5": 5,
            "UPDATE records SET version = 6 WHERE version = 5": 5,
            "UPDATE records r SET body = o.body, hash = o.hash FROM records o "
            "WHERE o.version = r.version AND o.saga_id <> r.saga_id AND r.version = 3": 3,
            "UPDATE saga_heads SET hash = sha256('x')": 5,
            "UPDATE saga_heads SET version = 6": 6,
            "DELETE FROM saga_heads": 0,
        }
        owner = await asyncpg.connect(database.migrate_url)
        await owner.execute("CREATE TABLE kept_records AS TABLE records; CREATE TABLE kept_heads AS TABLE saga_heads")
        for change, version in changes.items():
            await owner.execute(change)
            flaw = await queries.verify("main", saga.saga_id)
            assert flaw is not None, change
            assert flaw.version == version, f"{change}: {flaw}"
            await owner.execute("DELETE FROM records; INSERT INTO records TABLE kept_records")
            await owner.execute("DELETE FROM saga_heads; INSERT INTO saga_heads TABLE kept_heads")
            assert await queries.verify("main", saga.saga_id) is None
        await owner.close()

    async def test_counts_are_by_version_and_phase(self, store: PostgresStore, queries: ReadQueries) -> None:
        """With how many are stuck."""
        await written(store, append(start("a"), 0, "x", stuck=1), append(start("b"), 0, "x"))
        await begun(store, start("c", tenant="other"))
        (count,) = await queries.counts("main")
        assert (count.name, count.phase, count.sagas, count.stuck) == ("transfer", "forward", 2, 1)
        (count,) = await queries.counts()
        assert count.sagas == 3

    @pytest.mark.parametrize("cursor", ["x", "!!!", "W10", "WzEsMl0", "bnVsbA", "WyJhIiwiYiJd", "W3RydWUsImEiXQ"])
    async def test_a_cursor_that_was_not_given_is_refused(self, queries: ReadQueries, cursor: str) -> None:
        """Never a page of something else, never an error of the database."""
        with pytest.raises(BadCursorError, match="leave it out"):
            await queries.sagas("main", cursor=cursor)


class TestTasks:
    async def test_a_person_sees_open_tasks_that_are_hers_due_first(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """By name or role; not those she is excluded from or has voted on; each once."""
        tasks = {
            "c": TaskRow("t", 30, {"to": [{"role": "manager"}, {"person": "maria"}], "n": 3}),
            "a": TaskRow("t", 10, {"to": [{"person": "maria"}]}),
            "b": TaskRow("t", 20, {"to": [{"role": "manager"}]}),
            "excluded": TaskRow("t", 5, {"to": [{"role": "manager"}], "excluded": ["maria"]}),
            "voted": TaskRow("t", 5, {"to": [{"role": "manager"}], "votes": [{"by": "maria"}, {"by": "lee"}]}),
            "others": TaskRow("t", 5, {"to": [{"role": "auditor"}, {"person": "lee"}]}),
        }
        await written(store, *(append(start(key), 0, "x", tasks_open=[task]) for key, task in tasks.items()))
        await written(store, append(start("a", tenant="other"), 0, "x", tasks_open=[tasks["a"]]))
        first = await queries.tasks_for("main", "maria", ["manager", "clerk"], limit=2)
        second = await queries.tasks_for("main", "maria", ["manager", "clerk"], limit=2, cursor=first.next)
        assert [task.business_key for task in first.items + second.items] == ["a", "b", "c"]
        assert second.next == ""
        assert second.items[0].data == tasks["c"].data
        assert second.items[0].saga_name == "transfer"

    async def test_a_task_that_changes_or_closes_moves_in_the_list(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """Escalated: to others as well. Decided: gone from every inbox, still found by itself."""
        saga = start()
        await written(store, append(saga, 0, "x", tasks_open=[TaskRow("t", 10, {"to": [{"role": "clerk"}]})]))
        escalated = TaskRow("t", 20, {"to": [{"role": "manager"}]})
        await written(store, append(saga, 1, "x", tasks_open=[escalated]))
        assert (await queries.tasks_for("main", "lee", ["clerk"])).items == ()
        (task,) = (await queries.tasks_for("main", "lee", ["manager"])).items
        assert (task.due, task.closed, task.closed_at) == (20, "", None)
        await written(store, append(saga, 2, "x", tasks_closed=[("t", "decided")]))
        assert (await queries.tasks_for("main", "lee", ["manager"])).items == ()
        found = await queries.task("main", saga.saga_id, "t")
        assert found is not None
        assert (found.closed, found.data) == ("decided", escalated.data)
        assert found.closed_at is not None
        assert await queries.task("other", saga.saga_id, "t") is None
        assert await queries.task("main", saga.saga_id, "nothing") is None

    async def test_tasks_are_listed_by_state_and_saga(self, store: PostgresStore, queries: ReadQueries) -> None:
        """Open ones by default."""
        for key, how in {"a": "", "b": "decided", "c": "expired"}.items():
            saga = start(key)
            await written(store, append(saga, 0, "x", tasks_open=[TaskRow("t", ord(key), {})]))
            if how:
                await written(store, append(saga, 1, "x", tasks_closed=[("t", how)]))
        for state, expected in {"open": "a", "decided": "b", "expired": "c", None: "abc", "withdrawn": ""}.items():
            page = await queries.tasks("main", state=state)
            assert "".join(task.business_key for task in page.items) == expected
        assert ids(await queries.tasks("main", state=None, saga_id=start("b").saga_id)) == [start("b").saga_id]


class TestMessages:
    async def test_dead_letters_are_listed_without_and_shown_with_their_bytes(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """Newest first; processed ones only when asked for."""
        headers = [("h", b"\xff\x00")]
        letters = [
            DeadLetter("main", "t", 3, n, None, b"\x00\xff", headers, reason, "d", f"m-{n}")
            for n, reason in enumerate(["unreadable", "unknown_type", "unreadable"])
        ]
        await written(store, dead_letters=[*letters, DeadLetter("other", "t", 0, 9, b"k", None, [], "x", "")])
        page = await queries.letters("main", limit=2)
        assert [letter.offset for letter in page.items] == [2, 1]
        assert [letter.offset for letter in (await queries.letters("main", cursor=page.next)).items] == [0]
        assert [letter.offset for letter in (await queries.letters("main", reason="unreadable")).items] == [2, 0]
        shown = await queries.letter("main", page.items[0].id)
        assert shown is not None
        assert (shown.value, shown.key, shown.headers) == (b"\x00\xff", None, tuple(headers))
        assert await queries.letter("other", page.items[0].id) is None
        await written(store, redriven=[page.items[0].id])
        assert [letter.offset for letter in (await queries.letters("main")).items] == [1, 0]
        assert [letter.offset for letter in (await queries.letters("main", redriven=True)).items] == [2]
        assert len((await queries.letters("main", redriven=None)).items) == 3

    async def test_early_events_tell_who_took_them(self, store: PostgresStore, queries: ReadQueries) -> None:
        """By type, in pages."""
        early = [EarlyEvent("main", type_, "k", f"e\n{n}", {"n": n}, n) for n, type_ in enumerate("aab")]
        await written(store, append(start(), 0, "x", consumed=["e\n1"]), early=early)
        first = await queries.early_events("main", limit=2)
        second = await queries.early_events("main", limit=2, cursor=first.next)
        assert [event.event_id for event in first.items + second.items] == ["e\n0", "e\n1", "e\n2"]
        assert first.items[1].consumed_by == {("transfer", "K-1")}
        assert [event.type for event in (await queries.early_events("main", type_="b")).items] == ["b"]

    async def test_waits_positions_and_definitions_are_there_to_be_shown(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """For operators."""
        saga = start()
        await written(
            store,
            append(saga, 0, "x", waits_opened=[Subscription("w", "t", "k", 1)]),
            positions={("g", "t", 0): (5, 6)},
        )
        assert [wait.activity for wait in await queries.waits("main")] == ["w"]
        assert await queries.waits("main", saga_id="other") == []
        (position,) = await queries.positions()
        assert (position.group, position.next_offset, position.read_until) == ("g", 5, 6)
        await store.register_definition("transfer", 1, "h", {"nodes": [1]})
        assert [found.hash for found in await queries.definitions()] == ["h"]
        shown = await queries.definition("transfer", 1)
        assert shown is not None
        assert shown.data == {"nodes": [1]}
        assert await queries.definition("transfer", 2) is None

    async def test_the_backlog_says_what_waits_and_for_how_long(
        self, store: PostgresStore, queries: ReadQueries
    ) -> None:
        """What a dashboard and the readiness check need."""
        empty = await queries.backlog()
        assert (empty.unsent, empty.unsent_age, empty.timers_due, empty.position) == (0, None, 0, 0)
        saga = start()
        await written(
            store, append(saga, 0, "x", outbox=[outgoing(saga, 1)], resume=True), messages=[message("m")],
            dead_letters=[DeadLetter("main", "t", 0, 0, None, None, [], "x", "")],
        )  # fmt: skip
        full = await queries.backlog()
        assert (full.unsent, full.resumes, full.letters, full.unsealed_batches) == (1, 1, 1, 1)
        assert full.unsent_age is not None
        assert 0 <= full.unsent_age < 60_000_000
        await store.seal()
        assert (await queries.backlog()).position == 1


class TestCosts:
    async def test_lists_are_read_from_an_index_however_much_there_is(
        self, store: PostgresStore, queries: ReadQueries, database: Database
    ) -> None:
        """The plans for real values on a filled table: no list may read or sort everything."""
        owner = await asyncpg.connect(database.migrate_url)
        for n in range(10):
            sagas = [start(f"K-{n}-{m}") for m in range(200)]
            task = TaskRow("t", n, {"to": [{"role": f"role-{n}"}]})
            await written(
                store,
                *(append(s, 0, records=[record("x")], tasks_open=[task], stuck=int(s is sagas[0])) for s in sagas),
                dead_letters=[DeadLetter("main", "t", 0, m, None, None, [], "x", "") for m in range(50)],
                early=[EarlyEvent("main", "t", f"{n}-{m}", "e", {}, 1) for m in range(50)],
            )
        await store.seal()
        await owner.execute("ANALYZE")
        await owner.close()
        rare: list[Any] = [None, None, None, "compensating", *[None] * 5]
        named: list[Any] = ["refund", *[None] * 8]
        values: dict[str, tuple[Any, ...]] = {
            "sagas": ("main", 2**62, "", 50, *[None] * 9),
            "sagas in a rare phase": ("main", 2**62, "", 50, *rare),
            "sagas of a rare name": ("main", 2**62, "", 50, *named),
            "saga": ("main", "x"),
            "saga_by_key": ("main", "K-1-1", None),
            "records_of": ("main", start("K-1-1").saga_id, 0, 100),
            "tasks_for": ("main", 0, "", "", 50, ["role:role-3", "person:maria"], "maria"),
            "tasks": ("main", 0, "", "", 50, None, "open"),
            "task": ("main", "x", "t"),
            "letters": ("main", 2**62, 50, None, False),
            "letter": ("main", 5),
            "early_events": ("main", "", "", "", 50, None),
        }
        async with store.pools.connection("read") as connection:
            await connection.begin()
            await connection.fetch(SQL["read_as"], "main")
            for name, args in values.items():
                query = SQL[name.partition(" ")[0]]
                plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (ANALYZE) {query}", *args))
                looked_at = re.findall(r"rows=([\d.]+) loops|Rows Removed by Filter: (\d+)", plan)
                assert max(float(rows or removed) for rows, removed in looked_at) <= 200, f"{name}\n{plan}"
            await connection.roll_back()
