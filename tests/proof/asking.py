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

PERIOD = timedelta(days=30)
PAGE_ROWS = 50

Question = Callable[[random.Random], Awaitable[object]]


def moment(chance: random.Random) -> datetime:
    """Some instant of the last month."""
    return datetime.now(UTC) - PERIOD * chance.random()


def hour(chance: random.Random) -> dict[str, Any]:
    """Some hour of it."""
    since = moment(chance)
    return {"since": since, "until": since + timedelta(hours=1)}


def asking(store: PostgresStore, ids: Sequence[str], keys: Sequence[str]) -> dict[str, Question]:
    """Every question by its name. `ids`, `keys`: of sagas that there are."""
    return {
        **_of_tasks(store),
        **_of_sagas(store, keys),
        **_of_journeys(store, ids),
        **_of_audit(store, ids, keys),
    }


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
    models = Models(store)

    def audit(count: bool = False, **wanted: Any) -> Awaitable[object]:
        return models.audit.search("main", AuditFilter(**wanted), count=count)

    return {
        "audit, newest": lambda _: audit(),
        "audit of a saga": lambda c: audit(saga=c.choice(ids)),
        "audit by key": lambda c: audit(business_key=c.choice(keys)),
        "audit by actor": lambda c: audit(actor="person:maria", **hour(c)),
        "audit by customer": lambda _: audit(customer="customer-rejected"),
        "audit by customer and action": lambda _: audit(customer="customer-refused", action="step.refused"),
        "audit by actor and action": lambda c: audit(actor="person:maria", action="task.voted", **hour(c)),
        "audit of tasks": lambda c: audit(action="task.", **hour(c)),
        "audit by outcome": lambda c: audit(outcome="reject", **hour(c)),
        "audit of a time": lambda c: audit(**hour(c)),
        "audit, counted": lambda c: audit(count=True, action="step.succeeded", **hour(c)),
    }
