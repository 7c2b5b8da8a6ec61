"""Races for one decision, on real PostgreSQL: however many come at once, one outcome, and everybody hears the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.api.conftest import Product

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 12
OUTCOMES = {"task.decided", "task.expired", "compensation.started"}
Racer = Callable[[Product, dict[str, Any], int], Awaitable[Any]]


async def approve(product: Product, task: dict[str, Any], number: int) -> Any:
    """Somebody approves."""
    return await _vote(product, task, f"approver-{number}", "approve")


async def reject(product: Product, task: dict[str, Any], number: int) -> Any:
    """Somebody rejects."""
    return await _vote(product, task, f"rejecter-{number}", "reject")


async def cancel(product: Product, task: dict[str, Any], number: int) -> Any:
    """An operator cancels the saga: the task is withdrawn."""
    return await product.post(f"/v1/sagas/{task['sagaId']}/cancel", {"reason": "race"}, actor=f"operator-{number}")


async def claim(product: Product, task: dict[str, Any], number: int) -> Any:
    """Somebody claims it."""
    return await product.post(f"/v1/tasks/{task['id']}/claim", actor=f"claimer-{number}", roles="manager,approver")


async def reassign(product: Product, task: dict[str, Any], number: int) -> Any:
    """An operator gives it to the same role again."""
    body = {"to": ["role:manager"], "reason": "race"}
    return await product.post(f"/v1/tasks/{task['id']}/reassign", body, actor=f"operator-{number}", roles="operator")


async def _vote(product: Product, task: dict[str, Any], actor: str, outcome: str) -> Any:
    body = {"outcome": outcome, "subjectHash": task["subjectHash"]}
    return await product.post(f"/v1/tasks/{task['id']}/decide", body, actor=actor, roles="manager")


@pytest.mark.parametrize(
    "racers",
    [
        pytest.param((approve, reject), id="C7 approve against reject"),
        pytest.param((approve, cancel), id="C11 approve against withdraw"),
        pytest.param((approve, reject, cancel), id="approve against reject against withdraw"),
        pytest.param((approve, claim, reassign), id="approve while others claim and reassign"),
    ],
)
async def test_one_outcome_whoever_races(product: Product, racers: tuple[Racer, ...]) -> None:
    """Exactly one of them decided; each loser is told what there is, never an error; the stream says the same."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    order = [(racer, number) for number in range(AT_ONCE) for racer in racers]
    answers = await asyncio.gather(*(racer(product, task, number) for racer, number in order))
    assert {answer.status_code for answer in answers} <= {200, 202, 403, 409, 410}
    won = Counter(
        racer.__name__
        for (racer, _), answer in zip(order, answers, strict=True)
        if answer.status_code < 300 and racer in (approve, reject, cancel)
    )
    types = await product.versions(saga_id)
    closing = [type_ for type_ in types if type_ == "task.decided"]
    assert len(closing) <= 1
    assert won["approve"] + won["reject"] == len(closing)
    assert won["cancel"] <= 1
    assert closing or won["cancel"], "somebody won"
    assert types.count("task.voted") == len(closing)
    phase = (await product.get(f"/v1/sagas/{saga_id}")).json()["saga"]["phase"]
    state = (await product.get(f"/v1/tasks/{task['id']}")).json()["state"]
    assert state == ("decided" if closing else "withdrawn"), phase


async def test_votes_at_the_deadline_have_one_outcome_that_is_the_streams(product: Product) -> None:
    """C9: before, at and after the end of the time. Whoever heard `decided` is in the stream, and nobody else."""
    sagas = await asyncio.gather(*(product.start("soon") for _ in range(6)))

    async def race(saga_id: str) -> None:
        (item,) = (await product.get("/v1/tasks", saga=saga_id, state="all")).json()["items"]
        answers = []
        for number in range(60):
            outcome = "maybe" if number < 4 else "approve"  # votes that count for nothing, until it gets late
            voters = [f"{saga_id}-{number}-{voter}" for voter in "ab"]
            answers += await asyncio.gather(*(_vote(product, item, voter, outcome) for voter in voters))
            await asyncio.sleep(0.02)
            if {answers[-1].status_code, answers[-2].status_code} & {200, 409, 410}:
                break
        codes = Counter(answer.status_code for answer in answers)
        types = await product.versions(saga_id)
        closing = [type_ for type_ in types if type_ in ("task.decided", "task.expired")]
        assert len(closing) == 1
        assert (codes[200], codes[410] > 0) in ((1, False), (0, True)), codes
        assert (closing == ["task.decided"]) == (codes[200] == 1)
        assert set(codes) <= {200, 409, 410, 422}

    await asyncio.gather(*(race(saga_id) for saga_id in sagas))
