"""Sealed values that come back from outside: swapped, moved, copied. Nobody learns anything by that (I5, X16)."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest

from orchestrator.broker.contract import OutgoingMessage
from orchestrator.messages.personal import TOKEN
from tests.vault.conftest import Care

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "Cordelia Vane"


def request(case: str, customer: str, **more: str) -> dict[str, Any]:
    """A request about somebody."""
    plain = {"case": case, "customer_id": customer, "name": "Eve Frost", "address": "1 Glass Street", "story": "none"}
    return plain | more


async def sealed_name(product: Care) -> str:
    """The sealed form of somebody's name, as whoever reads the database finds it."""
    await product.publish("caretest.CareRequested", request("v-1", "CUST-VANE", name=SECRET))
    detail = await product.until("v-1", "approve")
    records = await product.runtime.queries.records("main", detail["saga"]["sagaId"])
    token: str = records[0].data["data"]["name"]
    assert TOKEN.fullmatch(token) is not None
    return token


async def upstream(product: Care, data: dict[str, Any]) -> str:
    """Puts an event on its topic as somebody who may write there; gives its id."""
    id_ = str(uuid.uuid4())
    names = {"ce_specversion": "1.0", "ce_id": id_, "ce_source": "/up", "ce_type": "caretest.CareRequested"}
    headers = tuple((name, text.encode()) for name, text in {**names, "content-type": "application/json"}.items())
    producer = product.runtime.broker.producer("upstream")
    await producer.start()
    message = OutgoingMessage("caretest.events", str(data["case"]).encode(), orjson.dumps(data), headers)
    assert await producer.send([message]) == [None]
    return id_


async def letter_of(product: Care, id_: str) -> dict[str, Any]:
    """The dead letter of a message, once it is there."""
    for _ in range(500):
        for item in (await product.get("/v1/letters")).json()["items"]:
            if item["messageId"] == id_:
                return dict(item)
        await product.settled()
    raise AssertionError(f"no letter of {id_}")


async def test_a_sealed_value_of_another_saga_is_nobody_elses(product: Care) -> None:
    """Put into an event of one's own, altered, or typed as a text, it is refused, or shown as the letters it is."""
    token = await sealed_name(product)
    foreign = await letter_of(product, await upstream(product, request("e-1", "CUST-EVE", name=token)))
    assert foreign["reason"] == "unauthorised_source"
    flipped = token[:-3] + ("AA." if token[-3:-1] != "AA" else "BB.")
    altered = await letter_of(product, await upstream(product, request("e-2", "CUST-EVE", name=flipped)))
    assert (altered["reason"], "does not open" in altered["detail"]) == ("invalid", True)
    await upstream(product, request("e-3", "CUST-EVE", story=f"see {token} there", mood=f"{token}"[:-1]))
    detail = await product.until("e-3", "approve")
    for path in (f"/v1/sagas/{detail['saga']['sagaId']}/records", "/v1/sagas/e-3"):
        text = (await product.get(path)).text
        assert SECRET not in text, path
        assert "personal:v-:" in text, path
    assert SECRET in (await product.get("/v1/sagas/v-1/records")).text, "who may see it still does"
    await nothing_sealed_comes_in(product, token, detail["saga"]["sagaId"])


async def nothing_sealed_comes_in(product: Care, token: str, saga: str) -> None:
    """Over HTTP it is refused wherever it stands, however it is written: an echo of it would be opened."""
    (item,) = (await product.get("/v1/tasks", saga=saga)).json()["items"]
    comments = f"/v1/tasks/{item['id']}/comments"
    said = await product.post(comments, {"text": f"what is {token} then?"}, actor="nora")
    assert said.status_code == 400, said.text
    written = orjson.dumps({"text": token}).replace(b"personal:", b"\\u0070ersonal\\u003a")
    headers = {
        "X-Actor": "nora",
        "X-Actor-Roles": "nurse",
        "Idempotency-Key": "k-1",
        "Content-Type": "application/json",
    }
    assert (await product.client.post(comments, content=written, headers=headers)).status_code == 400
    for answer in (
        await product.get("/office/sagas", q=token),
        await product.get(f"/v1/sagas/{token}"),
        await product.client.get("/v1/sagas/v-1", headers={"X-Actor": f"nora {token}"}),
    ):
        assert answer.status_code == 400
        assert SECRET not in answer.text
