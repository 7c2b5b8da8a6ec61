"""The planner on PostgreSQL: each record once, those whom it concerns, when they wish to hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

import pytest

from orchestrator.api.views import Actor
from orchestrator.identity.keeping import Kept
from orchestrator.notices import planner as planning
from orchestrator.notices.desk import NoticeDesk
from orchestrator.notices.guard import Guard
from orchestrator.notices.planner import Reach
from orchestrator.notices.preferences import Preferences
from orchestrator.notices.store import Row
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError
from tests.databases import Database
from tests.notices.desk import ALL, Office, at_office, until_planned


async def test_what_happened_before_notices_were_switched_on_is_told_to_nobody(database: Database) -> None:
    """Old tasks would be thousands of mails on the first day."""
    async with at_office(database.url, database.admin_url) as office:
        await office.change("DELETE FROM notice_position")
        await office.ask("old")
        await office.planner().plan()
        await office.ask("new")
        await until_planned(office.planner())
        assert len({row["saga_id"] for row in await office.rows()}) == 1


async def test_a_record_is_planned_once_however_many_look_at_it(office: Office) -> None:
    """Four planners at once, and one more afterwards."""
    for n in range(5):
        await office.ask(f"k-{n}")
    await asyncio.gather(*(until_planned(office.planner()) for _ in range(4)))
    await until_planned(office.planner())
    rows = await office.rows()
    assert len(rows) == len({(row["saga_id"], row["who"]) for row in rows}) == 15


async def test_whoever_is_slower_throws_away_what_it_read(office: Office) -> None:
    """The position is compared, not trusted."""
    await office.ask("k")
    before = await office.store.position() or 0
    assert await office.store.plan(before, before + 1, [])
    assert not await office.store.plan(before, before + 5, [])
    assert await office.store.position() == before + 1


async def test_a_position_that_was_set_back_tells_nobody_twice(office: Office) -> None:
    """An operator did, or a backup: what was told stands in the outbox under its record."""
    await office.ask("k")
    await until_planned(office.planner())
    await office.sender().send()
    await office.change("UPDATE notice_position SET position = 0")
    await until_planned(office.planner())
    await office.sender().send()
    assert office.mail.to() == ALL


async def test_a_task_that_is_closed_when_it_is_read_is_told_to_nobody_but_the_log(office: Office) -> None:
    """The event is history and stays; people are spared."""
    saga_id = await office.ask("k")
    for who in ("maria", "noel"):
        await office.vote(saga_id, who)
    await until_planned(office.planner(events=True))
    assert [(row["kind"], row["who"]) for row in await office.rows()] == [
        ("opened", "system"),
        ("decided", "system"),
    ]


async def test_who_has_no_address_is_counted_and_the_others_are_told(office: Office) -> None:
    """No domain by which everybody has one; maria is in the book."""
    await office.wish("person:maria", Preferences(), "maria.b@bank.example")
    planner = office.planner(mail_domain="")
    await office.ask("k")
    await until_planned(planner)
    assert [row["who"] for row in await office.rows()] == ["person:maria"]
    assert planner.unreachable == 2


async def test_an_id_that_is_no_part_of_an_address_gets_no_mail(office: Office) -> None:
    """Nothing of an id may become a second recipient or a header."""
    planner = office.planner()
    for id_ in ("eve@evil.example,maria", "a\r\nBcc: x", "two words", 'q"uote'):
        assert planner._by_id(f"person:{id_}", known=True) == ""
    assert planner._by_id("person:anna@other.example", known=True) == "anna@other.example"
    assert planner._by_id("role:anna@other.example", known=True) == ""


async def test_a_stranger_whom_somebody_named_gets_no_mail(office: Office) -> None:
    """Whoever delegates may type any name: an address counts when its person was here, or its domain is ours."""
    names = ["eve@outside.example", "ann@outside.example", "pat@bank.example", "kim@partner.example"]
    kept = Kept(office.desk.store.pools)  # type: ignore[attr-defined]
    await kept.begin_session(Actor(names[1], (), "oidc", capacities=frozenset({"approver"})), seconds=60)
    for name in names:
        saga_id = await office.ask(f"to {name}")
        assert (await office.delegate(saga_id, "maria", name)).refusal is None
    planner = office.planner(mail_domains=frozenset({"partner.example"}))
    await until_planned(planner)
    told = {row["address"] for row in await office.rows() if row["kind"] == "delegated"}
    assert told == set(names[1:])
    assert planner.unreachable == 1


async def test_a_record_whose_notices_the_database_refuses_keeps_nobody_else_from_hearing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that it will never take: it is passed over alone, and the loop goes on."""
    poison = await office.ask("poison")
    others = [await office.ask(f"k-{n}") for n in range(3)]
    planner, plan = office.planner(), office.store.plan

    async def refusing(before: int, after: int, rows: Sequence[Row]) -> bool:
        if any(row.saga_id == poison for row in rows):
            raise StoreError("invalid byte sequence")
        return await plan(before, after, rows)

    monkeypatch.setattr(office.store, "plan", refusing)
    await until_planned(planner)
    assert {row["saga_id"] for row in await office.rows()} == set(others)
    assert planner.passed_over == 1
    monkeypatch.setattr(office.store, "plan", AsyncMock(side_effect=StoreError("the schema is older than the code")))
    await office.ask("later")
    with pytest.raises(StoreError, match="older"):
        await planner.plan()


async def test_whoever_stands_in_is_told_as_well_and_an_excluded_one_is_not(office: Office) -> None:
    """Maria is away until tomorrow: zoe stands in. Noel's substitute is the requester, who may not decide."""
    now, day = await office.store.now(), 86_400_000_000
    for person, substitute, since, until in (
        ("maria", "zoe", now - day, now + day),
        ("maria", "old", now - 2 * day, now - day),
        ("noel", "ravi", now - day, now + day),
    ):
        await office.change(
            "INSERT INTO substitutions (tenant, person, substitute, roles, since, until, reason, made_at, made_by) "
            "VALUES ('main', $1, $2, '{}', $3, $4, 'away', 0, 'test')",
            person, substitute, since, until,
        )  # fmt: skip
    await office.ask("k")
    await until_planned(office.planner())
    told = sorted(row["who"] for row in await office.rows())
    assert told == ["person:maria", "person:noel", "person:zoe", "role:manager"]
    await office.sender().send()
    assert len(office.mail.sent) == 4


async def test_a_substitution_that_was_taken_back_counts_no_more(office: Office) -> None:
    """She is back early."""
    now, day = await office.store.now(), 86_400_000_000
    await office.change(
        "WITH s AS (INSERT INTO substitutions "
        "(tenant, person, substitute, roles, since, until, reason, made_at, made_by) "
        "VALUES ('main', 'maria', 'zoe', '{}', $1, $2, 'away', 0, 'test') RETURNING id) "
        "INSERT INTO substitutions_ended SELECT id, 'main', 0, 'maria' FROM s",
        now - day, now + day,
    )  # fmt: skip
    await office.ask("k")
    await until_planned(office.planner())
    assert "person:zoe" not in await office.states()


async def test_another_tenant_sees_and_changes_nothing_of_this_one(office: Office) -> None:
    """In the statement, and in the session."""
    await office.wish("person:maria", Preferences(), "maria@bank.example")
    await office.ask("k")
    await until_planned(office.planner())
    desk = NoticeDesk(office.store._pools, Guard(), Reach(mail=True))
    (first, *_), _ = await desk.notices("main", state=None, who=None, saga_id=None, limit=9, cursor="")
    assert await desk.notices("other", state=None, who=None, saga_id=None, limit=9, cursor="") == ([], "")
    assert await desk.contacts("other", who=None, limit=9, cursor="") == ([], "")
    assert await desk.notice("other", first.id) is None
    await office.change("UPDATE notice_outbox SET state = 'failed'")
    assert not await desk.again("other", first.id, "eve")
    assert not await desk.drop("other", "person:maria", "mail")
    assert await desk.again("main", first.id, "op")
    assert await desk.drop("main", "person:maria", "mail")


async def test_wishes_decide_when(office: Office) -> None:
    """A digest waits for its hour; who wants escalations alone hears nothing of the rest."""
    now = await office.store.now()
    soon = (now // 60_000_000 + 30) % 1440  # in half an hour, before the task is due
    await office.wish("person:maria", Preferences(delivery="digest", digest_at=soon))
    await office.wish("person:noel", Preferences(delivery="escalations"))
    await office.ask("k")
    await until_planned(office.planner())
    maria, manager = sorted(await office.rows(), key=lambda row: str(row["who"]))
    assert (maria["who"], manager["who"]) == ("person:maria", "role:manager")
    assert maria["digest"]
    assert now < maria["due"] <= now + 31 * 60_000_000
    assert manager["due"] <= await office.store.now()


async def test_a_zone_that_this_host_does_not_know_keeps_nobody_from_hearing(office: Office) -> None:
    """It was chosen on a host with newer zones: that contact is told by UTC, and everybody else as always."""
    await office.wish("person:maria", Preferences(), "maria.b@bank.example")
    await office.change("UPDATE notice_contacts SET zone = 'Mars/Olympus_Mons'")
    await office.ask("k")
    await until_planned(office.planner())
    await office.sender().send()
    assert "opened maria.b@bank.example" in office.mail.to()
    assert len(office.mail.sent) == 3


async def test_what_the_planner_cannot_read_ends_no_process(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Money runs through the same process: notices wait, with the reason in the log, and go on when they can."""
    monkeypatch.setattr(planning, "STOPPED_RETRY_MS", 10)
    planner, stopping, pulse = office.planner(), Stopping(), Pulse("notices-plan", 60_000)
    rows, failures = planner._rows, 0

    async def failing(records: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise KeyError("a bug")
        return await rows(records)

    monkeypatch.setattr(planner, "_rows", failing)
    await office.ask("k")
    loop = asyncio.create_task(planner.run(stopping, pulse))
    try:
        async with asyncio.timeout(20):
            while len(await office.rows()) < 3:
                assert not loop.done(), loop.exception()
                await asyncio.sleep(0.01)
    finally:
        stopping.ask()
        await asyncio.gather(loop, return_exceptions=True)
    assert failures >= 3
