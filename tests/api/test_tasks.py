"""Decisions over HTTP: authorised, fresh, and committed in their request; each no names its rule."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from orchestrator.api.engine import Actor
from orchestrator.api.identity import AUTHENTICATION
from tests.api.conftest import Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def decide(
    product: Product, task: dict[str, Any], outcome: str = "approve", *, actor: str = "maria", roles: str = "manager",
    key: str | None = None, **changes: Any,
) -> Any:  # fmt: skip
    """One vote on a task as it was shown."""
    body = {"outcome": outcome, "reason": "known", "subjectHash": task["subjectHash"], **changes}
    return await product.post(f"/v1/tasks/{task['id']}/decide", body, actor=actor, roles=roles, key=key)


async def test_an_approval_is_committed_when_it_is_answered(product: Product) -> None:
    """The answer says decided; the records are there at once, with who and how we knew."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    assert (task["state"], task["shown"], task["to"]) == ("open", {"amount": "10"}, [{"role": "manager"}])
    answer = await decide(product, task)
    assert (answer.status_code, answer.json()["decided"]) == (200, True)
    records = (await product.get(f"/v1/sagas/{saga_id}/records")).json()["items"]
    (voted,) = [record for record in records if record["type"] == "task.voted"]
    assert voted["actor"] == "person:maria"
    assert "header-on-loopback" in str(voted["data"])
    assert task["subjectHash"] in str(voted["data"])
    await product.until(saga_id, "completed")
    closed = (await product.get(f"/v1/tasks/{task['id']}")).json()
    assert closed["state"] == "decided"


async def test_a_rejection_turns_the_saga_back(product: Product) -> None:
    """And the saga says why."""
    saga_id = await product.start()
    assert (await decide(product, await product.task_of(saga_id), "reject")).json()["decided"]
    assert (await product.until(saga_id, "compensated"))["failure"]["reason"] == "rejected"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"actor": "ravi"}, 403, "excluded"),
        ({"roles": "clerk"}, 403, "not_eligible"),
        ({"roles": ""}, 403, "not_eligible"),
        ({"subjectHash": ""}, 422, "subject_missing"),
        ({"subjectHash": "0" * 64}, 409, "subject_changed"),
        ({"outcome": "explode"}, 422, "invalid"),
        ({"form": {"reason": 5}}, 422, "invalid"),
        ({"by": "maria"}, 422, "invalid"),
        ({"decided_at": "2020-01-01T00:00:00Z"}, 422, "invalid"),
    ],
)
async def test_a_vote_that_may_not_be_changes_nothing(
    product: Product, changes: dict[str, Any], status: int, code: str
) -> None:
    """Four eyes, roles, freshness, form: each has its code, and no record."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    before = await product.versions(saga_id)
    answer = await decide(product, task, **changes)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert await product.versions(saga_id) == before


async def test_a_vote_whose_process_died_before_it_answered_counts_when_it_is_asked_again(product: Product) -> None:
    """The same key has the same answer, also where the first attempt was committed and nobody heard of it."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    maria = Actor("maria", ("manager",), AUTHENTICATION, capacities=frozenset({"approver"}))
    first = await product.engine.vote(
        task["id"], {"outcome": "approve"}, task["subjectHash"], maria, message_id="vote-1"
    )
    answer = await decide(product, task, key="vote-1")
    assert (answer.status_code, answer.json()["decided"]) == (200, True), answer.text
    assert answer.json()["record"] == first.record
    other = await decide(product, task, key="vote-2")
    assert (other.status_code, other.json()["code"]) == (409, "already_decided")
    assert (await product.versions(saga_id)).count("task.voted") == 1


async def test_a_cancel_whose_process_died_before_it_answered_counts_when_it_is_asked_again(product: Product) -> None:
    """As with votes; another request to cancel is told that the saga turns back already, or has ended."""
    saga_id = await product.start()
    await product.engine.cancel(
        saga_id, Actor("ada", (), AUTHENTICATION, capacities=frozenset({"operator"})), "no", message_id="cancel-1"
    )
    answer = await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "no"}, key="cancel-1")
    assert answer.status_code == 200, answer.text
    other = await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "no"}, key="cancel-2")
    assert other.status_code == 409


async def test_without_a_hash_nothing_is_decided(product: Product) -> None:
    """Nobody decides on what was not shown."""
    task = await product.task_of(await product.start())
    answer = await product.post(
        f"/v1/tasks/{task['id']}/decide", {"outcome": "approve"}, actor="maria", roles="manager"
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "subject_missing")


async def test_a_late_vote_is_410(product: Product) -> None:
    """Expired, whether or not the timer has fired."""
    saga_id = await product.start("brief")
    tasks = (await product.get("/v1/tasks", saga=saga_id, state="all")).json()["items"]
    answer = await decide(product, tasks[0])
    assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    await product.until(saga_id, "compensated")


async def test_a_decided_task_says_who_decided(product: Product) -> None:
    """The second person hears it, with name and outcome."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    await decide(product, task)
    answer = await decide(product, task, "reject", actor="bert")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_decided")
    assert answer.json()["facts"]["by"] == "maria"
    assert answer.json()["sagaId"] == saga_id


async def test_a_withdrawn_task_is_410(product: Product) -> None:
    """The saga was cancelled meanwhile: nothing is asked any more."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "x"})
    answer = await decide(product, task)
    assert (answer.status_code, answer.json()["code"]) == (410, "withdrawn")


async def test_fifty_against_fifty_give_one_decision(product: Product) -> None:
    """All at once: one wins, 99 hear who was faster, and there is one record of the decision."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    votes = [
        decide(product, task, "approve" if number % 2 else "reject", actor=f"person-{number}") for number in range(100)
    ]
    answers = await asyncio.gather(*votes)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 99}
    assert (await product.versions(saga_id)).count("task.decided") == 1


async def test_a_hundred_times_the_same_click_is_one_vote(product: Product) -> None:
    """One key: identical answers, one record; those that come while the first runs are told to wait."""
    saga_id = await product.start()
    task = await product.task_of(saga_id)
    answers = await asyncio.gather(*(decide(product, task, key=f"click-{saga_id}") for _ in range(100)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    done = [answer for answer in answers if answer.status_code == 200]
    assert len({answer.content for answer in done}) == 1
    assert (await decide(product, task, key=f"click-{saga_id}")).content == done[0].content
    assert (await product.versions(saga_id)).count("task.voted") == 1


async def test_lists_show_what_one_may_decide(product: Product) -> None:
    """`mine`: by role, and not where four eyes exclude."""
    saga_id = await product.start(requester="maria")
    task = await product.task_of(saga_id)

    async def mine(actor: str, roles: str) -> list[str]:
        headers = {"X-Actor": actor, "X-Actor-Roles": roles}
        answer = await product.client.get("/v1/tasks", params={"mine": "true", "limit": "500"}, headers=headers)
        return [item["id"] for item in answer.json()["items"]]

    assert task["id"] in await mine("bert", "manager")
    assert task["id"] not in await mine("maria", "manager")
    assert task["id"] not in await mine("bert", "clerk")


@pytest.mark.parametrize("task_id", ["nothing", "nothing:x", "a:b~1c", "%00", "a%2Fb"])
async def test_a_task_that_is_not_there_is_404(product: Product, task_id: str) -> None:
    """Whatever the id looks like."""
    expected = 400 if task_id == "%00" else 404
    assert (await product.get(f"/v1/tasks/{task_id}")).status_code == expected
    answer = await product.post(f"/v1/tasks/{task_id}/decide", {"outcome": "approve", "subjectHash": "x"})
    assert answer.status_code == expected


async def test_a_task_of_one_saga_cannot_be_decided_through_another(product: Product) -> None:
    """The id in the path is the only one; the hash of one subject does not open another."""
    first, second = await product.start(amount="10"), await product.start(amount="99")
    task, other = await product.task_of(first), await product.task_of(second)
    answer = await product.post(
        f"/v1/tasks/{task['id']}/decide",
        {"outcome": "approve", "subjectHash": other["subjectHash"]},
        actor="maria",
        roles="manager",
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "subject_changed")
