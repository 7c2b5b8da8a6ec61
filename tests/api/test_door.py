"""Where too much is under way, starts are told to come again, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from orchestrator.api.views import Actor
from orchestrator.cli.client import Api
from orchestrator.cli.output import CliError, ExitCode
from tests.api.conftest import Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextmanager
def too_much(product: Product) -> Iterator[None]:
    """While inside, the product has far too much to do."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product.runtime.admission, "_acts_waiting", lambda: 10**6)
        yield


@pytest.fixture
def full(product: Product) -> Iterator[Product]:
    """Such a product."""
    with too_much(product):
        yield product


def payout() -> dict[str, Any]:
    return {"payout_id": str(uuid.uuid4()), "requester": "ravi", "amount": "10"}


async def emit(product: Product, type_: str, body: dict[str, Any]) -> httpx2.Response:
    headers = {"ce-specversion": "1.0", "ce-id": str(uuid.uuid4()), "ce-source": "/shop", "ce-type": type_}
    headers |= {"content-type": "application/json", "x-actor": "service:shop"}
    return await product.client.post("/v1/events", content=json.dumps(body), headers=headers)


def is_too_many(answer: httpx2.Response) -> bool:
    """The whole form: status, header, document."""
    if answer.status_code != 429:
        return False
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert (body["code"], body["type"], body["status"]) == ("too_many", "/problems/too_many", 429)
    facts = body["facts"]
    assert (facts["signal"], facts["limit"], facts["level"] >= 10**6) == ("acts", 1_000, True)
    assert "same request again" in body["detail"]
    return True


async def test_a_start_is_refused_and_its_key_stays_free(product: Product) -> None:
    """The very same request, sent again when there is less, starts the saga: 429 is not its kept answer."""
    body, key = payout(), str(uuid.uuid4())
    with too_much(product):
        assert is_too_many(await product.post("/v1/sagas/payout", body, key=key))
        assert (await product.get(f"/v1/sagas/{body['payout_id']}")).status_code == 404
    again = await product.post("/v1/sagas/payout", body, key=key)
    assert again.status_code == 201, again.text
    assert "Idempotency-Replayed" not in again.headers


async def test_an_event_that_starts_is_refused_one_that_is_waited_for_is_not(full: Product) -> None:
    """What running sagas wait for makes the load less."""
    assert is_too_many(await emit(full, "apitest.PayoutRequested", payout()))
    assert (await emit(full, "apitest.PayoutNoted", {"payout_id": str(uuid.uuid4())})).status_code == 202


async def test_people_decide_and_cancel_all_the_same(product: Product) -> None:
    """A vote and an operator's act never come to this door."""
    first, second = await product.start(), await product.start()
    task = await product.task_of(first)
    vote = {"outcome": "approve", "reason": "known", "subjectHash": task["subjectHash"]}
    with too_much(product):
        voted = await product.post(f"/v1/tasks/{task['id']}/decide", vote, actor="maria", roles="manager")
        assert (voted.status_code, voted.json()["decided"]) == (200, True)
        cancelled = await product.post(f"/v1/sagas/{second}/cancel", {"reason": "changed my mind"}, roles="operator")
        assert cancelled.status_code == 200
    await product.until(first, "completed")
    await product.until(second, "compensated")


async def test_a_promised_start_is_owed(full: Product) -> None:
    """Its message is committed already: a route that finds it without its saga starts it."""
    started = await full.engine.start(
        "payout", payout(), Actor("ravi", capacities=frozenset({"service"})), promised=True
    )
    assert started.created


async def test_the_command_line_says_when_to_come_again(full: Product) -> None:
    """Exit code 7, as for a service that cannot be reached now, and what to do."""
    with pytest.raises(CliError) as caught:
        await asyncio.to_thread(
            Api(full.url, "ada").post, "/v1/sagas/payout", payout(), {"Idempotency-Key": str(uuid.uuid4())}
        )
    assert caught.value.code == ExitCode.UNREACHABLE
    assert caught.value.do.startswith("wait ")
    assert "do the same again" in caught.value.do
    assert caught.value.facts["retryAfter"] >= 1


async def test_a_key_that_no_index_could_hold_is_refused_at_the_door(product: Product) -> None:
    """Not after it was promised: as a dead letter it would be found by somebody else, much later."""
    body = payout() | {"payout_id": "".join(str(uuid.uuid4()) for _ in range(1_000))}
    for answer in (await product.post("/v1/sagas/payout", body), await emit(product, "apitest.PayoutRequested", body)):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert "more than 500 characters" in answer.json()["detail"]
