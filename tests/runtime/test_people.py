"""People and time on a real database: levels after downtime, the inbox that follows them, and a quorum under a race."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import orjson

from orchestrator import Escalate, Role, Saga, task
from orchestrator.kernel.inputs import TaskAct, Vote
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.work import Cause, SagaInput
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.queries import ReadQueries
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event
from tests.runtime.shop import CaseOpened, Shown
from tests.runtime.test_timers import read_up_to, timers_of

MOMENT, HOUR = timedelta(milliseconds=40), timedelta(hours=1)


@task(
    to=Role("boss"),
    within=HOUR,
    escalate=[Escalate(MOMENT, Role("lead")), Escalate(2 * MOMENT, Role("chief"), reset_sla=True)],
    remind=[MOMENT],
)
def climb(case: CaseOpened) -> Shown:
    """Look at it."""
    return Shown(case_id=case.case_id)


@task(to=Role("boss"), within=HOUR, votes=3)
def agree(case: CaseOpened) -> Shown:
    """Three people agree."""
    return Shown(case_id=case.case_id)


LADDER = Saga("ladder", version=1, starts_on=CaseOpened, flow=[climb])
QUORUM = Saga("quorum", version=1, starts_on=CaseOpened, flow=[agree])


async def bodies(eyes: Eyes, saga_id: str) -> list[dict[str, Any]]:
    """The records of a saga."""
    rows = await eyes.rows("SELECT body FROM records WHERE saga_id = $1 ORDER BY version", saga_id)
    return [orjson.loads(row["body"]) for row in rows]


async def test_after_downtime_every_missed_level_happens_once_in_order(database: Database, eyes: Eyes) -> None:
    """One firing of the timers: reminder and both levels; the second sets the clock anew, and all inboxes have it."""
    async with at_desk(database.url, sagas=[LADDER]) as desk:
        await desk.take(event(CaseOpened(case_id="c-1")))
        await asyncio.sleep(0.2)  # nothing runs
        await read_up_to(desk, 2**60)
        before = desk.hints.clock.now()
        await timers_of(desk).fire()
        saga_id = saga_id_of("main", "ladder", "c-1")
        types = [type_ for type_ in await eyes.stream(saga_id) if type_.startswith("task.")]
        assert types == ["task.opened", "task.escalated", "task.reminded", "task.escalated"]
        assert isinstance(desk.store, PostgresStore)
        queries = ReadQueries(desk.store.pools)
        for role in ("boss", "lead", "chief"):
            (row,) = (await queries.tasks_for("main", "maria", [role])).items
            assert row.due >= before + HOUR // timedelta(microseconds=1), "people have the whole time again"


async def test_a_quorum_is_so_many_people_however_many_vote_at_once(database: Database, eyes: Eyes) -> None:
    """Thirty votes of ten people and their substitutes, in two processes: three distinct heads, one decision."""
    async with at_desk(database.url, sagas=[QUORUM]) as one, at_desk(database.url, sagas=[QUORUM]) as two:
        await one.take(event(CaseOpened(case_id="c-1")))
        saga_id = saga_id_of("main", "quorum", "c-1")
        (opened,) = [body for body in await bodies(eyes, saga_id) if body["type"] == "task.opened"]
        now, hash_ = one.hints.clock.now(), opened["data"]["hash"]

        def lend(number: int) -> TaskAct:
            to = ({"person": f"deputy-{number}"},)
            return TaskAct("agree", "delegate", f"p-{number}", ("boss",), now, to=to)

        def vote(name: str, *roles: str) -> Vote:
            return Vote("agree", name, roles, {"outcome": "approve"}, hash_, now)

        await one.decide(*(SagaInput(saga_id, lend(number), Cause("main")) for number in range(10)))
        votes = [vote(f"p-{number}", "boss") for number in range(10)]
        votes += [vote(f"deputy-{number}") for number in range(10)]
        votes += [vote(f"p-{number}", "boss") for number in range(10)]

        async def cast(desk: Desk, given: Vote) -> str:
            (outcome,) = await desk.decide(SagaInput(saga_id, given, Cause("main")))
            return outcome.refusal.code if outcome.refusal is not None else outcome.fate

        told = await asyncio.gather(*(cast((one, two)[n % 2], given) for n, given in enumerate(votes)))
        records = await bodies(eyes, saga_id)
        cast_ = [body["data"]["vote"] for body in records if body["type"] == "task.voted"]
        heads = [vote["on_behalf_of"] or vote["by"] for vote in cast_]
        assert (len(cast_), len(set(heads)), len({vote["by"] for vote in cast_})) == (3, 3, 3)
        assert [body["type"] for body in records].count("task.decided") == 1
        counted = Counter(told)
        assert counted.pop("applied") == 3
        # A substitute whose lender was quicker has no right of their own, and hears that while the task is still open.
        assert set(counted) <= {"voted_already", "already_decided", "not_eligible"}
