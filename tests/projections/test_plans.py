"""Every list finds its rows and their order in an index: whatever the size of the table, a page costs a page.

Asked as the application (row level security is on), with the plans of reading connections. Tables are small here, so
what an index cannot give is made unattractive, and then must not be there.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from orchestrator.store.queries import SQL as STORE
from orchestrator.store.sql import load_queries
from projections import timeline_queries
from projections.approval_queries import REACHES, begun_after
from projections.approvals import SQL as APPROVALS
from projections.audit_queries import SQL as AUDIT
from projections.contract import in_slot
from projections.journeys import SQL as JOURNEYS
from tests.projections.conftest import Told

pytestmark = pytest.mark.asyncio(loop_scope="module")

LAST = 2**63 - 1
PAGES = load_queries("orchestrator.pages", "pages.sql")
PAGE = ("main", LAST, LAST, 51, 10**9, 0)
JOURNEY: tuple[Any, ...] = ("main", LAST, "", 51)


def audit(place: int = -1, value: Any = None) -> tuple[Any, ...]:
    """The arguments of a search with one filter: key, actor, customer, outcome, name."""
    filters: list[Any] = [None] * 7
    if place >= 0:
        filters[place] = value
    return (*PAGE, *filters)


def kinds(actor: str | None = None, customer: str | None = None) -> tuple[Any, ...]:
    """The arguments of a search for kinds of records: types, outcomes and names of sagas, side by side."""
    return (*PAGE, ["task.voted", "task.voted"], ["approve", "reject"], ["payout", "payout"], actor, customer)


def journeys(place: int = -1, value: Any = None) -> tuple[Any, ...]:
    """The arguments of a search with one filter."""
    filters: list[Any] = [None] * 9
    if place >= 0:
        filters[place] = value
    return (*JOURNEY, *filters)


def sagas(place: int, value: Any) -> tuple[Any, ...]:
    """The arguments of a search with one filter, among the heads of the streams."""
    filters: list[Any] = [None] * 9
    filters[place] = value
    return (*JOURNEY, *filters)


LISTS: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "audit, newest": (AUDIT["search"], audit(), "tenant_recorded_at_position"),
    "audit by key": (AUDIT["search"], audit(0, "x"), "business_key"),
    "journeys, newest": (JOURNEYS["search"], journeys(), "journeys_a_by_start"),
    "journeys by name": (JOURNEYS["search"], journeys(0, "payout"), "journeys_a_by_name"),
    "journeys by key": (JOURNEYS["search"], journeys(2, "x"), "journeys_a_by_key"),
    "journeys by customer": (JOURNEYS["search"], journeys(3, "x"), "journeys_a_by_customer"),
    "journeys by phase": (JOURNEYS["search"], journeys(4, "compensating"), "journeys_a_by_phase"),
    "journeys by outcome": (JOURNEYS["search"], journeys(5, "refused"), "journeys_a_by_outcome"),
    "journeys that are stuck": (JOURNEYS["search"], journeys(7, True), "journeys_a_stuck"),
    "journeys, risky": (JOURNEYS["risky"], ("main", -1, "", 51), "journeys_a_due"),
    "approvals, pending": (APPROVALS["now"], ("main", -1, "", "", 51, None, None), "approvals_a_now"),
    "sagas in a rare phase": (STORE["sagas"], sagas(3, "compensating"), "saga_heads_rare"),
    "sagas by name": (STORE["sagas"], sagas(0, "x"), "saga_heads_by_name"),
    "sagas that are stuck": (STORE["sagas"], sagas(7, True), "saga_heads_stuck"),
    "tasks, waiting for others": (PAGES["waiting_for_others"], ("main", "m", -1, "", "", 51), "task_candidates_due"),
    "approvals, decided by": (APPROVALS["decided_by"], ("main", "m", LAST, LAST, 51, 0), "votes_a_by_person"),
}  # fmt: skip


async def planned(told: Told, query: str, arguments: tuple[Any, ...], *, sort: bool = False) -> str:
    """The plan, as the application gets it; what no index gives is made dear."""
    async with told.store.pools.connection("read") as connection:
        await connection.begin("READ ONLY")
        try:
            await connection.fetch("SELECT set_config('orchestrator.tenant', 'main', true)")
            off = ["enable_seqscan", "enable_bitmapscan", *([] if sort else ["enable_sort", "enable_incremental_sort"])]
            for setting in off:
                await connection.fetch("SELECT set_config($1, 'off', true)", setting)
            rows = await connection.fetch(f"EXPLAIN {in_slot(query, 'a')}", *arguments)
        finally:
            await connection.roll_back()
    return "\n".join(row[0] for row in rows)


OF_A_SAGA = ("x", *(None,) * 7)
KINDS: dict[str, tuple[tuple[Any, ...], str]] = {
    "of anybody": (kinds(), "type_outcome_name_recorded_at"),
    "by an actor": (kinds("person:maria"), "actor_type_outcome_name"),
    "for a customer": (kinds(None, "customer-approved"), "customer_type_outcome_name"),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_is_one_range_of_an_index(told: Told, name: str) -> None:
    """The index that is meant, in its own order: nothing is sorted, no table is read through."""
    query, arguments, index = LISTS[name]
    plan = await planned(told, query, arguments)
    assert index in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "Sort" not in plan, plan


@pytest.mark.parametrize("name", ["audit, newest", "audit by key"])
async def test_what_is_listed_together_is_read_together(told: Told, name: str) -> None:
    """The bytes of a record are found by its place in the order: neighbours in time are neighbours there."""
    plan = await planned(told, *LISTS[name][:2])
    assert "records_stored_seq" in plan, plan
    assert "records_stored_pkey" not in plan, plan


@pytest.mark.parametrize(
    ("query", "arguments"),
    [("search_saga", (*PAGE, *OF_A_SAGA)), ("count_saga", ("main", 10_001, 10**9, 0, LAST, *OF_A_SAGA))],
)
async def test_what_a_saga_did_is_found_by_its_records(told: Told, query: str, arguments: tuple[Any, ...]) -> None:
    """By their key, and their rows by position: a few of each, whatever the size of the tables."""
    plan = await planned(told, AUDIT[query], arguments, sort=True)
    assert "records_stored_pkey" in plan, plan
    assert "audit_a_stored_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan


@pytest.mark.parametrize("name", KINDS)
async def test_each_kind_of_record_is_one_range_of_an_index_alone(told: Told, name: str) -> None:
    """Whatever is asked for together: all conditions are in the index's own, and rows are read for the page only."""
    arguments, index = KINDS[name]
    plan = await planned(told, AUDIT["search_kinds"], arguments, sort=True)
    ranges = plan[plan.index("Index Only Scan") :]
    assert index in ranges.splitlines()[0], plan
    condition = ranges.splitlines()[1]
    for part in ("type = ", "outcome = ", "name = ", 'ROW(recorded_at, "position") < ', "recorded_at >= "):
        assert part in condition, plan
    assert not {"actor", "customer"} & set(re.findall(r"\w+", ranges.splitlines()[2])), plan  # what is only filtered
    assert "Seq Scan" not in plan, plan
    assert "records_stored_seq" in plan, plan


@pytest.mark.parametrize(
    ("query", "word", "index"),
    [
        ("kinds", (), "type_outcome_name_recorded_at"),
        ("kinds_of_actor", ("person:maria",), "actor_type_outcome_name"),
        ("kinds_of_customer", ("customer-approved",), "customer_type_outcome_name"),
    ],
)
async def test_kinds_are_found_by_jumping(told: Told, query: str, word: tuple[str, ...], index: str) -> None:
    """From each to the next in the index, which alone is read."""
    plan = await planned(told, AUDIT[query], ("main", "task.", "task/", None, None, *word), sort=True)
    assert plan.count("Index Only Scan") == 2, plan
    assert plan.count(index) == 2, plan
    assert "Seq Scan" not in plan, plan


async def test_the_past_is_found_by_short_ranges(told: Told) -> None:
    """Each reach is an index range between two instants; under row level security too."""
    moment = 1_800_000_000_000_000
    arguments = ("main", -1, "", "", 51, None, None, moment, REACHES, begun_after(moment))
    plan = await planned(told, APPROVALS["then"], arguments, sort=True)
    assert "approvals_a_then" in plan, plan
    condition = next(line for line in plan.splitlines() if "Index Cond" in line and "reach" in line)
    assert "approvals_a_now" in plan, plan  # what still stands
    assert condition.count("valid_from") == 2, plan
    assert "Seq Scan" not in plan, plan


async def test_where_sagas_stand_is_counted_in_short_ranges(told: Told) -> None:
    """Jumping from node to node, and at each no further than the limit: however many stand there."""
    plan = await planned(told, JOURNEYS["crowds"], ("main", None, 10_000, 1_000), sort=True)
    assert plan.count("journeys_a_by_place") >= 4, plan
    assert "Seq Scan" not in plan, plan


async def test_overdue_tasks_are_counted_from_the_index_alone(told: Told) -> None:
    """A hundred thousand may be: their rows are not read."""
    plan = await planned(told, APPROVALS["overdue"], ("main", "", 1_800_000_000_000_000), sort=True)
    assert "Index Only Scan using approvals_a_now" in plan, plan


async def test_what_is_counted_no_further_says_so(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact below the limit; at the limit, at least so many."""
    every = {one.node: one for one in (await told.models.timelines.bottlenecks("main")).items}
    assert all(one.exact for one in every.values())
    assert every["approve"].waiting >= 1
    monkeypatch.setattr(timeline_queries, "CROWD_COUNTED_MAX", 1)
    assert {one.exact for one in (await told.models.timelines.bottlenecks("main")).items} == {False}
    named = (await told.models.timelines.bottlenecks("main", name="payout")).items
    assert {one.node for one in named} == set(every)
    assert not (await told.models.timelines.bottlenecks("main", name="nothing")).items
