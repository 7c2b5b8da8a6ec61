"""Sagas over HTTP: starts that are safe to repeat, looking, and the acts of operators."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from typing import Any

import pytest

from orchestrator.api.views import Actor, RefusedError
from orchestrator.runtime.submit import BusyError
from orchestrator.runtime.work import Outcome
from orchestrator.store import answers as answers_module
from tests.api.conftest import Product

pytestmark = pytest.mark.asyncio(loop_scope="module")


def request(**changes: Any) -> dict[str, Any]:
    """A start message with a new business key."""
    return {"payout_id": str(uuid.uuid4()), "requester": "ravi", "amount": "10", **changes}


async def test_a_start_gives_the_saga_and_where_to_follow_it(product: Product) -> None:
    """201 with id and tracking address; the address answers."""
    body = request()
    answer = await product.post("/v1/sagas/payout", body)
    started = answer.json()
    assert (answer.status_code, started["created"], started["businessKey"]) == (201, True, body["payout_id"])
    assert answer.headers["location"] == started["trackingUrl"]
    assert started["trackingUrl"].startswith(product.url)
    shown = await product.get(started["trackingUrl"])
    assert shown.json()["saga"]["sagaId"] == started["sagaId"]


async def test_the_same_key_gives_the_same_answer(product: Product) -> None:
    """Byte for byte, marked as replayed, and one saga."""
    body = request()
    first = await product.post("/v1/sagas/payout", body, key="k-1")
    again = await product.post("/v1/sagas/payout", body, key="k-1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]


async def test_the_same_key_with_another_request_is_422(product: Product) -> None:
    """A key stands for one request."""
    await product.post("/v1/sagas/payout", request(), key="k-2")
    answer = await product.post("/v1/sagas/payout", request(), key="k-2")
    assert (answer.status_code, answer.json()["code"]) == (422, "key_reused")


async def test_a_key_belongs_to_one_person(product: Product) -> None:
    """Somebody else's key is another key: nobody gets an answer that was not theirs."""
    body = request()
    await product.post("/v1/sagas/payout", body, key="k-3", actor="ada")
    answer = await product.post("/v1/sagas/payout", body, key="k-3", actor="eve")
    assert (answer.status_code, answer.json()["created"]) == (200, False)


async def test_a_start_without_key_is_400(product: Product) -> None:
    """Without one a retry would not be safe."""
    answer = await product.client.post("/v1/sagas/payout", json=request(), headers={"X-Actor": "ada"})
    assert (answer.status_code, answer.json()["code"]) == (400, "key_missing")


@pytest.mark.parametrize("key", ["", "a b", "x" * 300, 'a"b', "ü"])
async def test_a_key_that_is_none_is_400(product: Product, key: str) -> None:
    """Quoted or bare, printable, and not endless."""
    headers = {b"X-Actor": b"ada", b"Idempotency-Key": key.encode()}
    answer = await product.client.post("/v1/sagas/payout", json=request(), headers=headers)
    assert answer.status_code == 400


async def test_a_request_that_still_runs_is_409(product: Product) -> None:
    """And says when to come again; the running one is not disturbed."""
    body = request()
    raw = json.dumps(body).encode()
    fingerprint = hashlib.sha256(b"\n" + raw).digest()
    scope = "main\nada\nPOST\n/v1/sagas/payout"
    claim = await product.engine.answers.claim(scope, "k-4", fingerprint)
    headers = {"X-Actor": "ada", "Idempotency-Key": "k-4", "Content-Type": "application/json"}
    answer = await product.client.post("/v1/sagas/payout", content=raw, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "key_running")
    assert 1 <= int(answer.headers["retry-after"]) <= 15
    assert (await product.get(f"/v1/sagas/{body['payout_id']}")).status_code == 404
    await product.engine.answers.release(scope, "k-4", claim)
    assert (await product.client.post("/v1/sagas/payout", content=raw, headers=headers)).status_code == 201


async def test_of_many_at_once_one_starts_the_saga(product: Product) -> None:
    """The others hear that it runs, or get its answer."""
    body = request()
    answers = await asyncio.gather(*(product.post("/v1/sagas/payout", body, key="k-5") for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert 201 in {answer.status_code for answer in answers}


async def test_what_went_wrong_for_the_moment_is_not_kept(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 says: again, with the same key. So the key must be free, and the retry must count."""

    async def busy(*_: object) -> None:
        raise BusyError("too many acts wait")

    body = request()
    with monkeypatch.context() as patch:
        patch.setattr(product.runtime, "submit", busy)
        answer = await product.post("/v1/sagas/payout", body, key="k-8")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await product.post("/v1/sagas/payout", body, key="k-8")).status_code == 201


async def test_an_act_that_failed_is_no_success(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the kernel raised stays in the log; the caller hears that it did not count."""
    saga_id = await product.start()

    async def poisoned(*_: object) -> Outcome:
        return Outcome("failed", saga_id, reason="Traceback: secret")

    monkeypatch.setattr(product.runtime, "submit", poisoned)
    answer = await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "x"})
    assert (answer.status_code, answer.json()["sagaId"]) == (500, saga_id)
    assert "secret" not in answer.text


async def test_after_a_crash_the_same_key_gets_the_answer_of_the_start(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process died between starting the saga and storing the answer: the retry still hears 201."""
    monkeypatch.setattr(answers_module, "CLAIM_SECONDS", 0.05)

    async def died(*_: object) -> None:
        raise ConnectionAbortedError("the process died here")

    body = request()
    with monkeypatch.context() as patch:
        patch.setattr(product.engine.answers, "finish", died)
        patch.setattr(product.engine.answers, "release", died)
        assert (await product.post("/v1/sagas/payout", body, key="k-6")).status_code == 503
    await asyncio.sleep(0.1)
    answer = await product.post("/v1/sagas/payout", body, key="k-6")
    assert (answer.status_code, answer.json()["created"]) == (201, True)


async def test_the_same_start_again_finds_the_saga(product: Product) -> None:
    """200 with the same id: the business key is what makes it the same."""
    body = request()
    first = await product.post("/v1/sagas/payout", body)
    again = await product.post("/v1/sagas/payout", body)
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["sagaId"] == first.json()["sagaId"]


async def test_another_start_for_the_same_business_key_is_409(product: Product) -> None:
    """Somebody's key is taken; the answer names the saga."""
    body = request()
    first = await product.post("/v1/sagas/payout", body)
    answer = await product.post("/v1/sagas/payout", {**body, "amount": "11"})
    assert (answer.status_code, answer.json()["code"]) == (409, "same_id_other_body")
    assert answer.json()["sagaId"] == first.json()["sagaId"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/sagas/nothing", {}, 404, "unknown_saga"),
        ("/v1/sagas/payout", {"requester": "ravi"}, 422, "invalid"),
        ("/v1/sagas/payout", request(amount="NaN"), 422, "invalid"),
        ("/v1/sagas/payout", request(amount=12345678901234567.89), 422, "invalid"),
        ("/v1/sagas/payout", [], 400, "unreadable"),
    ],
)
async def test_a_start_that_cannot_be_says_why(product: Product, path: str, body: Any, status: int, code: str) -> None:
    """Unknown saga, missing field, amounts that are none."""
    answer = await product.post(path, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_refused_start_is_the_same_refusal_again(product: Product) -> None:
    """What the first request heard, the retry hears, also a no."""
    first = await product.post("/v1/sagas/payout", {"requester": "ravi"}, key="k-7")
    again = await product.post("/v1/sagas/payout", {"requester": "ravi"}, key="k-7")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (422, "true")
    assert again.headers["content-type"] == first.headers["content-type"] == "application/problem+json"


async def test_lists_filter_and_page(product: Product) -> None:
    """Every saga once, newest first, whatever the size of a page."""
    ids = [await product.start() for _ in range(5)]
    seen: list[str] = []
    cursor: str = ""
    while True:
        params: dict[str, Any] = {"cursor": cursor} if cursor else {}
        page = (await product.get("/v1/sagas", name="payout", waitingFor="task", limit=2, **params)).json()
        assert len(page["items"]) <= 2
        seen += [item["sagaId"] for item in page["items"]]
        cursor = page["next"]
        if not cursor:
            break
    assert len(seen) == len(set(seen))
    assert [saga for saga in seen if saga in ids] == list(reversed(ids))
    one = await product.get("/v1/sagas", name="no-such")
    assert one.json()["items"] == []


@pytest.mark.parametrize(
    ("params", "code"),
    [({"cursor": "x'y"}, "bad_cursor"), ({"limit": 0}, "bad_request"), ({"limit": 501}, "bad_request")],
)
async def test_parameters_that_are_none_are_400(product: Product, params: dict[str, Any], code: str) -> None:
    """A cursor of ours is opaque, a limit is bounded."""
    answer = await product.get("/v1/sagas", **params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_one_saga_by_id_or_business_key(product: Product) -> None:
    """Both names find it; an unknown one is 404."""
    saga_id = await product.start()
    by_id = (await product.get(f"/v1/sagas/{saga_id}")).json()
    by_key = (await product.get(f"/v1/sagas/{by_id['saga']['businessKey']}")).json()
    assert by_id["saga"]["sagaId"] == by_key["saga"]["sagaId"] == saga_id
    assert by_id["state"].startswith("waiting for approve, 0 of 1 votes")
    assert by_id["undoPlan"] == ["reserve"]
    assert len(by_id["saga"]["traceId"]) == 32
    assert (await product.get("/v1/sagas/nobody")).status_code == 404
    assert (await product.get("/v1/sagas/%27%20OR%201%3D1--")).status_code == 404


async def test_records_graph_and_undo_plan(product: Product) -> None:
    """What happened, what there is, and what a turn back would do."""
    saga_id = await product.start()
    records = (await product.get(f"/v1/sagas/{saga_id}/records")).json()["items"]
    assert [record["version"] for record in records] == list(range(1, len(records) + 1))
    assert records[0]["type"] == "saga.started"
    assert records[0]["actor"] == "person:ada"
    graph = (await product.get(f"/v1/sagas/{saga_id}/graph")).json()
    assert graph["status"]["approve"] == "open"
    assert graph["mermaid"].startswith("flowchart")
    assert graph["graph"]["name"] == "payout"
    plan = (await product.get(f"/v1/sagas/{saga_id}/undo-plan")).json()
    assert plan["items"] == [{"activity": "reserve", "command": "unreserve: apitest.Unreserve to apitest-desk"}]


async def test_a_cancel_turns_the_saga_back(product: Product) -> None:
    """With its reason in the records; a second one changes nothing."""
    saga_id = await product.start()
    answer = await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "no longer wanted"}, actor="op")
    assert (answer.status_code, answer.json()["phase"]) == (200, "compensating")
    detail = await product.until(saga_id, "compensated")
    assert detail["failure"]["reason"] == "cancelled by op: no longer wanted"
    again = await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "again"})
    assert (again.status_code, again.json()["code"]) == (409, "ended")


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": "x", "actor": "eve"}])
async def test_a_cancel_without_reason_is_422(product: Product, body: dict[str, str]) -> None:
    """And so is one with a field that is not ours: who acts is never read from a body."""
    saga_id = await product.start()
    before = await product.versions(saga_id)
    assert (await product.post(f"/v1/sagas/{saga_id}/cancel", body)).status_code == 422
    assert await product.versions(saga_id) == before


async def test_an_operator_gives_a_stuck_function_its_value(product: Product) -> None:
    """The place is named with its record; another record is a conflict; a value that does not fit is refused."""
    saga_id = await product.start("bug")
    (place,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    assert "no rules today" in place["reason"]
    act = {"place": place["place"], "version": place["version"], "reason": "rules of yesterday"}
    path = f"/v1/sagas/{saga_id}/value"
    moved = await product.post(path, {**act, "version": place["version"] + 1, "data": {"limit": "5"}}, actor="op")
    assert (moved.status_code, moved.json()["code"]) == (409, "version_moved")
    wrong = await product.post(path, {**act, "data": {"limit": "x"}}, actor="op")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid")
    first = await product.post(path, {**act, "data": {"limit": "5"}}, actor="op")
    assert (first.status_code, first.json()["stuck"]) == (200, 1)  # four eyes: it is only proposed
    (place,) = (await product.get(f"/v1/sagas/{saga_id}")).json()["stuckPlaces"]
    proposal = place["proposal"]
    assert (proposal["by"], proposal["act"], proposal["value"]["limit"]) == ("op", "value", "5")
    act["version"] = proposal["version"]
    alone = await product.post(path, {**act, "data": {"limit": "5"}}, actor="op")
    assert (alone.status_code, alone.json()["code"]) == (403, "second_person")
    good = await product.post(path, {**act, "data": {"limit": "5"}}, actor="op2")
    assert (good.status_code, good.json()["stuck"]) == (200, 0)
    assert (await product.task_of(saga_id))["shown"] == {"amount": "10"}
    late = await product.post(path, {**act, "data": {"limit": "5"}}, actor="op")
    assert (late.status_code, late.json()["code"]) == (409, "not_stuck")


async def test_an_operator_retries_and_the_bug_is_still_there(product: Product) -> None:
    """A retry is a record, and a new stuck place with a new version."""
    saga_id = await product.start("bug")
    (place,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    act = {"place": place["place"], "version": place["version"], "reason": "perhaps now"}
    assert (await product.post(f"/v1/sagas/{saga_id}/retry", act, actor="op")).status_code == 200
    (again,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    assert again["version"] > place["version"]


async def test_an_undo_that_is_refused_is_taken_over_and_recorded_by_hand(product: Product) -> None:
    """Take over (fenced), act outside, say so: each names what it saw, and the saga ends."""
    saga_id = await product.start("no-undo")
    await product.post(f"/v1/sagas/{saga_id}/cancel", {"reason": "wrong payee"})
    (place,) = (await product.until_stuck(saga_id))["stuckPlaces"]
    assert place["place"] == "~reserve"
    act = {"place": "~reserve", "version": place["version"], "reason": "I call the bank"}
    early = await product.post(f"/v1/sagas/{saga_id}/done", act, actor="op")
    assert early.status_code == 422
    assert (await product.post(f"/v1/sagas/{saga_id}/take-over", act, actor="op")).status_code == 200
    handed: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not handed or handed[0]["cause"] != "handed":
            handed = (await product.get(f"/v1/sagas/{saga_id}")).json()["handedPlaces"]
    done = {"place": "~reserve", "version": handed[0]["version"], "reason": "the bank has paid it back"}
    assert (await product.post(f"/v1/sagas/{saga_id}/done", done, actor="op")).status_code == 200
    (place,) = (await product.get(f"/v1/sagas/{saga_id}")).json()["handedPlaces"]
    seen = {**done, "version": place["proposal"]["version"]}
    assert (await product.post(f"/v1/sagas/{saga_id}/done", seen, actor="op2")).status_code == 200
    await product.until(saga_id, "compensated")
    assert "operator.completed_by_hand" in await product.versions(saga_id)


async def test_an_act_that_does_not_exist_is_404(product: Product) -> None:
    """The list of acts is closed."""
    saga_id = await product.start()
    body = {"place": "+x", "version": 1, "reason": "x"}
    assert (await product.post(f"/v1/sagas/{saga_id}/explode", body)).status_code == 404


async def test_readiness_names_what_stands_still(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready while every loop makes progress; 503 with the reason when one does not."""
    assert (await product.client.get("/healthz")).json() == {"ok": True}
    assert (await product.client.get("/readyz")).status_code == 200

    async def silent() -> bool:
        return False

    monkeypatch.setattr(product.engine._read, "answers", silent)
    answer = await product.client.get("/readyz")
    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (503, "database: does not answer")


async def test_a_start_is_authorised_where_it_is_written(product: Product) -> None:
    """A route that forgot to ask, or asked for less, starts nothing; one that stated its own action does."""
    body = {"payout_id": str(uuid.uuid4()), "requester": "ravi", "amount": "10", "mood": ""}
    viewer = Actor("vic", capacities=frozenset({"viewer"}))
    for somebody in (Actor("vic"), viewer):
        with pytest.raises(RefusedError) as refused:
            await product.engine.start("payout", body, somebody)
        assert refused.value.code == "not_allowed"
    assert await product.engine.find(body["payout_id"], tenant="main") is None
    assert (await product.engine.start("payout", body, viewer, action="own")).created
