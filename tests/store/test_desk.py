"""What people keep beside the streams: drafts and substitutions, tenants apart, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.api.views import Actor
from orchestrator.identity.keeping import Kept, LocalUser
from orchestrator.kernel.effects import TaskRow
from orchestrator.store.desk import Desk
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries
from tests.contracts.stores import append, start, written
from tests.databases import Database

HOUR_US = 3_600_000_000


@pytest_asyncio.fixture
async def store(database: Database) -> AsyncIterator[PostgresStore]:
    """An empty store."""
    async with PostgresStore(database.url) as made:
        yield made


@pytest.fixture
def desk(store: PostgresStore) -> Desk:
    """Its drafts and substitutions."""
    return Desk(store.pools)


async def test_a_draft_is_of_one_person_and_one_open_task(store: PostgresStore, desk: Desk) -> None:
    """Replaced by the next one; not for a closed task; of another tenant there is nothing."""
    saga = start()
    task = saga.saga_id, "t"
    assert not await desk.save_draft("main", task, "maria", "h", {"reason": "early"})
    await written(store, append(saga, 0, "x", tasks_open=[TaskRow("t", 10, {"to": [{"role": "clerk"}]})]))
    assert await desk.save_draft("main", task, "maria", "h1", {"reason": "a"})
    assert await desk.save_draft("main", task, "maria", "h2", {"reason": "b"})
    kept = await desk.draft("main", task, "maria")
    assert kept is not None
    assert (kept.subject_hash, kept.form) == ("h2", {"reason": "b"})
    assert await desk.draft("main", task, "lee") is None
    assert await desk.draft("other", task, "maria") is None
    assert not await desk.save_draft("other", task, "maria", "h", {"reason": "x"})
    await written(store, append(saga, 1, "x", tasks_closed=[("t", "decided")]))
    assert not await desk.save_draft("main", task, "maria", "h3", {"reason": "c"})
    await desk.drop_draft("main", task, "maria")
    assert await desk.draft("main", task, "maria") is None


async def arrange(desk: Desk, since: int, until: int, *, person: str = "maria", tenant: str = "main") -> bool:
    """Lee stands in for somebody. False where that overlaps."""
    made = await desk.substitute(
        tenant, person, "lee", ["manager"], since=since, until=until, reason="away", made_by=f"person:{person}"
    )
    return made is not None


async def test_an_absence_has_one_substitute_at_a_time(desk: Desk) -> None:
    """What touches is no overlap; what was taken back is none either; another person and tenant are their own."""
    assert await arrange(desk, 100, 200)
    assert not await arrange(desk, 199, 300)
    assert not await arrange(desk, 0, 101)
    assert await arrange(desk, 200, 300)
    assert await arrange(desk, 100, 200, person="omar")
    assert await arrange(desk, 100, 200, tenant="other")
    assert [(one.since, one.until) for one in await desk.substitutions("main", "maria")] == [(200, 300), (100, 200)]
    assert len(await desk.substitutions("main", "lee")) == len(await desk.substitutions("main", None)) == 3


async def test_who_asks_for_two_substitutes_at_once_gets_one(desk: Desk) -> None:
    """The two requests take turns."""
    made = await asyncio.gather(*(arrange(desk, 100, 200) for _ in range(8)))
    assert made.count(True) == 1


async def test_somebody_stands_in_within_the_time_and_until_it_is_taken_back(desk: Desk) -> None:
    """With the roles that were arranged."""
    far = 1 << 60
    assert await arrange(desk, 100, far)
    (found,) = await desk.stands_in("main", "lee", 100)
    assert (found.person, found.roles, found.since, found.until) == ("maria", ("manager",), 100, far)
    assert await desk.stands_in("main", "lee", 99) == await desk.stands_in("main", "lee", far) == []
    assert await desk.stands_in("other", "lee", 100) == []
    assert not await desk.end_substitution("other", found.id, "person:maria")
    assert await desk.end_substitution("main", found.id, "person:maria")
    assert not await desk.end_substitution("main", found.id, "person:maria")
    assert await desk.stands_in("main", "lee", 100) == []
    assert await arrange(desk, 100, far), "the time is free again"


async def test_whoever_is_barred_lends_nothing(database: Database, desk: Desk) -> None:
    """Until they are let in again."""
    assert await arrange(desk, 100, 1 << 60)
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute("INSERT INTO barred_people VALUES ('main', 'maria', 'left', 'person:adm')")
        assert await desk.stands_in("main", "lee", 100) == []
        lenders = await desk.lenders("main", ["maria", "omar", "maria"])
        assert [(one.person, one.out) for one in lenders] == [("maria", True), ("omar", False)]
        assert [one.out for one in await desk.lenders("other", ["maria"])] == [False]
        assert await desk.lenders("main", []) == []
    finally:
        await connection.close()


async def test_what_is_lent_goes_no_further_than_what_the_lender_holds(
    store: PostgresStore, desk: Desk, database: Database
) -> None:
    """As last seen: a lost role is gone, a new one was never lent, who may not decide lends nothing, and an old token
    says nothing about today."""
    assert await arrange(desk, 100, 1 << 60)
    kept = Kept(store.pools)

    async def seen(roles: tuple[str, ...], capacity: str, at: int) -> tuple[list[tuple[str, ...]], bool]:
        actor = Actor("maria", roles, "oidc-token", capacities=frozenset({capacity}))
        await kept.know_person(actor, datetime.fromtimestamp(at, UTC))
        (lender,) = await desk.lenders("main", ["maria"])
        return [one.roles for one in await desk.stands_in("main", "lee", 100)], lender.out

    assert (await desk.lenders("main", ["maria"]))[0].roles is None
    assert await seen(("board", "manager"), "approver", 1_000) == ([("manager",)], False)
    assert await seen(("board",), "approver", 2_000) == ([()], False)
    assert await seen(("manager",), "approver", 1_500) == ([()], False), "the token is older"
    assert await seen(("manager",), "viewer", 3_000) == ([], True)
    assert await seen(("manager",), "approver", 4_000) == ([("manager",)], False)
    assert [one.roles for one in await desk.lenders("other", ["maria"])] == [None]


async def test_who_signs_in_and_who_is_a_local_user_is_known(store: PostgresStore, desk: Desk) -> None:
    """With what they hold; a local user who is removed holds nothing."""
    kept = Kept(store.pools)
    await kept.begin_session(Actor("maria", ("manager",), "oidc", capacities=frozenset({"approver"})), seconds=60)
    await kept.put_local_user(LocalUser("lee", "Lee", ("clerk",), frozenset({"approver"})))
    found = await desk.lenders("main", ["maria", "lee"])
    assert [(one.roles, one.out) for one in found] == [(("manager",), False), (("clerk",), False)]
    assert await kept.remove_local_user("lee")
    (removed,) = await desk.lenders("main", ["lee"])
    assert (removed.roles, removed.out) == ((), True)


async def test_the_application_cannot_change_who_stood_in(database: Database, desk: Desk) -> None:
    """Append-only by privilege, and a session of one tenant sees its own rows."""
    assert await arrange(desk, 100, 200)
    connection = await asyncpg.connect(database.url)
    try:
        for statement in ("UPDATE substitutions SET until = 9", "DELETE FROM substitutions_ended"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.execute("SELECT set_config('orchestrator.tenant', 'other', false)")
        assert await connection.fetchval("SELECT count(*) FROM substitutions") == 0
    finally:
        await connection.close()


async def test_inboxes_follow_substitutes_and_keep_out_who_may_not(store: PostgresStore) -> None:
    """A substitute by name; not who voted or was voted for, nor who chose who decides, nor an earlier voter."""
    queries = ReadQueries(store.pools)
    data = {
        "to": [{"role": "manager"}],
        "delegations": [{"by": "maria", "to": "lee", "until": 5, "roles": []}],
        "votes": [{"by": "ann", "on_behalf_of": "bob"}],
        "steered": ["olga"],
        "earlier": ["eve"],
        "excluded": ["ravi"],
    }
    saga = start()
    await written(store, append(saga, 0, "x", tasks_open=[TaskRow("t", 10, data)]))
    assert len((await queries.tasks_for("main", "lee", [])).items) == 1
    assert len((await queries.tasks_for("main", "ida", [], also=["role:manager"])).items) == 1
    for name in ("ann", "bob", "olga", "eve", "ravi"):
        assert (await queries.tasks_for("main", name, ["manager"])).items == (), name
