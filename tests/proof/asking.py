"""The questions of `tests.proof.lists`: every list that a page, the API or the command line shows.

Rules of this file
- Asked as the product asks: through its own queries and pools, a page at a time, with other words each time.
- A new list on a page comes here too.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.pages.keeping import Keeping
from orchestrator.store.operations import OperationQueries
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries, SagaFilter
from projections.answers import AuditFilter
from projections.models import Models
from tests.proof.filling import CUSTOMERS, PEOPLE

PERIOD = timedelta(days=30)
PAGE_ROWS = 50
AUDIT_ROWS = 100  # as on the page

Question = Callable[[random.Random], Awaitable[object]]
Wanted = Callable[[random.Random], dict[str, Any]]

# What very many records have; what two of these words have in common may be very much, little or nothing.
FREQUENT: dict[str, dict[str, Any]] = {
    "of everything": {},
    "by actor": {"actor": "participant:apitest-desk"},
    "by person": {"actor": "person:maria"},
    "by nobody": {"actor": "person:nobody"},
    "by customer": {"customer": "customer-approved"},
    "by action": {"action": "step.succeeded"},
    "by a rare action": {"action": "undo.failed"},
    "by an action that is not": {"action": "nothing"},
    "of tasks": {"action": "task."},
    "of steps": {"action": "step."},
    "by outcome": {"outcome": "succeeded"},
    "by a rare outcome": {"outcome": "expired"},
    "by name": {"name": "payout"},
    "by name and outcome": {"name": "payout", "outcome": "stuck"},
    "by person and action": {"actor": "person:maria", "action": "task.voted"},
    "by person and outcome": {"actor": "person:maria", "outcome": "reject"},
    "by person and outcome, nothing": {"actor": "person:maria", "outcome": "refused"},
    "by actor and action, nothing": {"actor": "participant:apitest-desk", "action": "task.voted"},
    "by action and outcome, nothing": {"action": "step.requested", "outcome": "reject"},
    "by customer and action": {"customer": "customer-approved", "action": "task.decided"},
    "by customer and outcome, nothing": {"customer": "customer-approved", "outcome": "expired"},
    "by customer and actor": {"customer": "customer-approved", "actor": "person:maria"},
    "by customer and actor, nothing": {"customer": "customer-refused", "actor": "person:maria"},
    "by all": {
        "customer": "customer-approved", "actor": "person:maria", "action": "task.", "outcome": "approve",
        "name": "payout",
    },
}  # fmt: skip


def moment(chance: random.Random) -> datetime:
    """Some instant of the last month."""
    return datetime.now(UTC) - PERIOD * chance.random()


def hour(chance: random.Random) -> dict[str, Any]:
    """Some hour of it."""
    since = moment(chance)
    return {"since": since, "until": since + timedelta(hours=1)}


def always(wanted: dict[str, Any]) -> Wanted:
    """The same each time."""
    return lambda _: wanted


def in_an_hour(wanted: dict[str, Any]) -> Wanted:
    """The same, of another hour each time."""
    return lambda chance: {**wanted, **hour(chance)}


async def asking(store: PostgresStore, ids: Sequence[str], keys: Sequence[str], only: str = "") -> dict[str, Question]:
    """Every question by its name, or those whose names begin so. `ids`, `keys`: of sagas that there are."""
    asked = {
        **_of_tasks(store),
        **_of_sagas(store, keys),
        **_of_journeys(store, ids),
        **_of_audit(store, ids, keys),
    }
    if "audit".startswith(only[:5]):
        asked |= await hundredth_pages(store)
    return {name: question for name, question in asked.items() if name.startswith(only)}


def _of_tasks(store: PostgresStore) -> dict[str, Question]:
    lists, keeping, approvals = ReadQueries(store.pools), Keeping(store.pools), Models(store).approvals
    first = (-1, "", "")
    return {
        "inbox": lambda _: lists.tasks_for("main", "maria", ["manager", "clerk"]),
        "inbox, nothing": lambda _: lists.tasks_for("main", "nobody", ["none"]),
        "inbox of who may not": lambda _: lists.tasks_for("main", "customer-expired", ["manager"]),
        "inbox, all": lambda _: lists.tasks("main"),
        "inbox, all that were closed": lambda _: lists.tasks("main", state="decided"),
        "inbox, counted": lambda _: keeping.count_for("main", "maria", ["role:manager", "role:clerk"]),
        "inbox, waiting for others": lambda _: keeping.waiting_for_others("main", "customer-open", first, PAGE_ROWS),
        "inbox, waiting for nobody": lambda _: keeping.waiting_for_others("main", "nobody", first, PAGE_ROWS),
        "pending now": lambda _: approvals.as_of("main", candidates=["role:manager"]),
        "pending then": lambda c: approvals.as_of("main", moment(c)),
        "decided by": lambda _: approvals.decided_by("main", "maria"),
    }


def _of_sagas(store: PostgresStore, keys: Sequence[str]) -> dict[str, Question]:
    lists, operations = ReadQueries(store.pools), OperationQueries(store.pools)

    def sagas(**wanted: Any) -> Awaitable[object]:
        return lists.sagas("main", SagaFilter(**wanted))

    return {
        "sagas, newest": lambda _: sagas(),
        "sagas by key": lambda c: sagas(business_key=c.choice(keys)),
        "sagas by name": lambda _: sagas(name="payout"),
        "sagas of no such name": lambda _: sagas(name="nothing"),
        "sagas by a rare phase": lambda _: sagas(phase="compensating"),
        "sagas by a frequent phase": lambda _: sagas(phase="completed"),
        "sagas that are under way": lambda _: sagas(ended=False),
        "sagas that are stuck": lambda _: sagas(stuck=True),
        "sagas that began before": lambda c: sagas(started_before=int(moment(c).timestamp() * 1_000_000)),
        "sagas by facets": lambda _: operations.facets("main"),
        "places of live sagas": lambda _: operations.live_by_place("main", "payout"),
        "what waits for operators": lambda _: operations.waiting("main"),
        "dead letters": lambda _: lists.letters("main"),
        "early events": lambda _: lists.early_events("main"),
        "backlog": lambda _: lists.backlog(),
    }


def _of_journeys(store: PostgresStore, ids: Sequence[str]) -> dict[str, Question]:
    models = Models(store)
    journeys = models.timelines.search
    return {
        "journeys, newest": lambda _: journeys("main"),
        "journeys by name": lambda _: journeys("main", name="payout"),
        "journeys by outcome": lambda _: journeys("main", outcome="refused"),
        "journeys by phase": lambda _: journeys("main", phase="compensating"),
        "journeys by place": lambda _: journeys("main", name="payout", place="approve"),
        "journeys by customer": lambda _: journeys("main", customer="customer-approved"),
        "journeys that are stuck": lambda _: journeys("main", stuck=True),
        "journeys of a time": lambda c: journeys("main", outcome="failed", **hour(c)),
        "journeys, risky": lambda _: models.timelines.risky("main"),
        "bottlenecks": lambda _: models.timelines.bottlenecks("main"),
        "timeline": lambda c: models.timelines.of("main", c.choice(ids)),
        "levels": lambda _: models.levels.tiles("main"),
        "levels, trend": lambda _: models.levels.series("main", "p95", window=PERIOD),
        "levels, names": lambda _: models.levels.names("main"),
        "read models": lambda _: models.states(),
    }


def _of_audit(store: PostgresStore, ids: Sequence[str], keys: Sequence[str]) -> dict[str, Question]:
    """The first page of the audit trail with its count, as the office shows it, for everything that it can be asked."""
    models = Models(store)

    def page(wanted: Wanted) -> Question:
        return lambda c: models.audit.search("main", AuditFilter(**wanted(c)), limit=AUDIT_ROWS, count=True)

    said: dict[str, Wanted] = {
        "of a saga": lambda c: {"saga": c.choice(ids)},
        "of a saga, by action": lambda c: {"saga": c.choice(ids), "action": "task."},
        "by key": lambda c: {"business_key": c.choice(keys)},
        "by key and outcome": lambda c: {"business_key": c.choice(keys), "outcome": "approve"},
        **{name: always(wanted) for name, wanted in FREQUENT.items()},
        **{f"{name}, an hour": in_an_hour(wanted) for name, wanted in FREQUENT.items()},
        "by a rare actor": lambda c: {"actor": f"person:person-{c.randrange(PEOPLE):03d}"},
        "by a rare actor and action": lambda c: {
            "actor": f"person:person-{c.randrange(PEOPLE):03d}", "action": "task.voted", **hour(c)
        },
        "by a rare customer": lambda c: {"customer": f"customer-{c.randrange(CUSTOMERS):05d}-approved"},
        "by a rare customer and actor": lambda c: {
            "customer": f"customer-{c.randrange(CUSTOMERS):05d}-approved", "actor": "person:maria"
        },
        "by a frequent customer and a rare actor": lambda c: {
            "customer": "customer-approved", "actor": f"person:person-{c.randrange(PEOPLE):03d}"
        },
    }  # fmt: skip
    asked = {f"audit {name}": page(wanted) for name, wanted in said.items()}
    asked["audit as of an instant"] = lambda c: models.audit.search(
        "main", AuditFilter(actor="person:maria"), as_of=moment(c), limit=AUDIT_ROWS, count=True
    )
    return asked


async def hundredth_pages(store: PostgresStore) -> dict[str, Question]:
    """The hundredth page of long lists, by the cursor that the ninety-ninth gave."""
    search = Models(store).audit.search

    def page(wanted: dict[str, Any], cursor: str) -> Question:
        return lambda _: search("main", AuditFilter(**wanted), limit=AUDIT_ROWS, cursor=cursor)

    asked = {}
    for name, wanted in FREQUENT.items():
        cursor = ""
        for _ in range(99):
            cursor = (await search("main", AuditFilter(**wanted), limit=AUDIT_ROWS, cursor=cursor)).next
            if not cursor:
                break
        if cursor:
            asked[f"audit {name}, hundredth page"] = page(wanted, cursor)
    return asked
