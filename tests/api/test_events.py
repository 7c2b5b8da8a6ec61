"""Events over HTTP, and dead letters: what is taken reaches sagas, what is not says why, the dead can live again."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import pytest

from orchestrator.api.events import read_event
from orchestrator.api.publishing import Publisher
from orchestrator.api.views import CloudEvent
from orchestrator.broker.contract import OutgoingMessage
from tests.api.conftest import Product

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def payload(**changes: Any) -> dict[str, Any]:
    """A start event's data."""
    return {"payout_id": str(uuid.uuid4()), "requester": "ravi", "amount": "10", **changes}


def attributes(**changes: str | None) -> dict[str, str]:
    """The required attributes, as headers."""
    found: dict[str, str | None] = {
        "ce-specversion": "1.0",
        "ce-id": str(uuid.uuid4()),
        "ce-source": "/shop",
        "ce-type": "apitest.PayoutRequested",
        "content-type": "application/json",
        "x-actor": "service:shop",
    }
    found |= {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in found.items() if value is not None}


async def send(product: Product, data: Any, headers: dict[str, str]) -> Any:
    """Posts an event."""
    return await product.client.post("/v1/events", content=json.dumps(data), headers=headers)


async def saga_of(product: Product, key: str) -> dict[str, Any]:
    """The saga that an event has started, once it is there."""
    async with asyncio.timeout(60):
        while True:
            answer = await product.get(f"/v1/sagas/{key}")
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
            await asyncio.sleep(0.02)


async def test_a_binary_event_starts_a_saga_in_the_senders_trace(product: Product) -> None:
    """202 when the broker has it; the saga belongs to the trace of the request."""
    data = payload()
    answer = await send(product, data, attributes(traceparent=TRACEPARENT))
    assert answer.status_code == 202
    assert answer.json()["topic"] == "apitest.events"
    assert answer.json()["key"] == data["payout_id"]
    saga = await saga_of(product, data["payout_id"])
    assert saga["saga"]["traceId"] == TRACEPARENT[3:35]


async def test_a_structured_event_is_the_same(product: Product) -> None:
    """Attributes inside the JSON."""
    data = payload()
    event = {"specversion": "1.0", "id": "s-1", "source": "/shop", "type": "apitest.PayoutRequested", "data": data}
    answer = await send(product, event, {"content-type": "application/cloudevents+json", "x-actor": "service:shop"})
    assert answer.status_code == 202, answer.text
    await saga_of(product, data["payout_id"])


async def test_a_waiting_saga_gets_its_event(product: Product) -> None:
    """By type and business key."""
    data = payload(mood="wait")
    await send(product, data, attributes())
    saga_id, key = (await saga_of(product, data["payout_id"]))["saga"]["sagaId"], data["payout_id"]
    answer = await send(product, {"payout_id": key}, attributes(ce_type="apitest.PayoutNoted"))
    assert answer.status_code == 202
    saga = await product.engine.settled(saga_id, seconds_max=10, tenant="main")
    assert saga.waiting_for == "task approve"


@pytest.mark.parametrize(
    ("changes", "data", "status", "code"),
    [
        ({"ce_id": None}, payload(), 400, "not_an_event"),
        ({"ce_specversion": "0.3"}, payload(), 400, "not_an_event"),
        ({"ce_type": "apitest.Nothing"}, payload(), 422, "unknown_type"),
        ({"ce_type": "apitest.PayoutPaid"}, {"payout_id": "x"}, 422, "unknown_type"),
        ({"ce_type": "apitest.Reserve"}, payload(), 422, "unknown_type"),
        ({"ce_type": "apitest.Reserved"}, {"token": "x"}, 422, "unknown_type"),
        ({}, {"requester": "ravi"}, 422, "invalid"),
        ({}, payload(amount="NaN"), 422, "invalid"),
        ({}, [], 400, "unreadable"),
        ({"content_type": "text/plain"}, payload(), 415, "media_type"),
        ({"content_type": "application/cloudevents-batch+json"}, payload(), 415, "media_type"),
        ({"ce_Bad_Name": "x"}, payload(), 400, "not_an_event"),
        ({"ce_subject": "x" * 501}, payload(), 400, "not_an_event"),
        ({"ce_subject": "%0d%0aevil"}, payload(), 400, "not_an_event"),
    ],
)
async def test_what_is_no_event_is_refused_with_its_reason(
    product: Product, changes: dict[str, str | None], data: Any, status: int, code: str
) -> None:
    """Before anything reaches the broker."""
    answer = await send(product, data, attributes(**changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_a_client_cannot_choose_tenant_or_protocol(product: Product) -> None:
    """Attributes that grant something are dropped: the saga is of the actor's tenant."""
    data = payload()
    headers = attributes(ce_tenant="other", ce_correlationid="c-1", ce_outcome="ok", ce_authid="root")
    assert (await send(product, data, headers)).status_code == 202
    assert (await saga_of(product, data["payout_id"]))["saga"]["tenant"] == "main"


async def test_no_layer_trusts_another_with_the_tenant(product: Product) -> None:
    """What grants something is dropped when the event is read, and the tenant is set again when it is published."""
    sent = {"id": "1", "source": "/s", "specversion": "1.0", "type": "t", "tenant": "other", "outcome": "ok"}
    event = read_event(sent | {"correlationid": "c-1"}, {})
    assert event.extensions == {"correlationid": "c-1"}
    seen: list[OutgoingMessage] = []

    class Recorder:
        async def start(self) -> None: ...

        async def send(self, messages: list[OutgoingMessage]) -> list[None]:
            seen.extend(messages)
            return [None]

    class Broker:
        def producer(self, name: str) -> Recorder:
            return Recorder()

    publisher: Any = Publisher(Broker(), product.runtime.catalog)  # type: ignore[arg-type]
    forged = CloudEvent("1", "/s", "apitest.PayoutRequested", payload(), extensions={"tenant": "other"})
    await publisher.publish(forged, "main", TRACEPARENT)
    headers = dict(seen[0].headers)
    assert (headers["ce_tenant"], headers["traceparent"].decode()) == (b"main", TRACEPARENT)


async def test_contracts_and_definitions_are_listed(product: Product) -> None:
    """By wire name or class name; with an example that fits."""
    (one,) = [c for c in (await product.get("/v1/contracts")).json()["items"] if c["type"] == "apitest.PayoutRequested"]
    assert one["starts"] == ["payout"]
    contract = (await product.get("/v1/contracts/PayoutRequested")).json()
    assert contract["key"] == ["payout_id"]
    other = (await product.get("/v1/contracts/apitest.PayoutRequested")).json()
    assert other["example"]["payout_id"] != contract["example"]["payout_id"]  # a second example is another event
    answer = await product.post("/v1/sagas/payout", contract["example"])
    assert answer.status_code == 201, answer.text
    assert (await product.get("/v1/contracts/Nothing")).status_code == 404
    (definition,) = (await product.get("/v1/definitions")).json()["items"]
    assert (definition["name"], definition["version"], definition["newest"]) == ("payout", 1, True)


async def poison(product: Product, value: bytes) -> dict[str, Any]:
    """Puts a message on the topic that becomes a dead letter; gives the letter."""
    before = (await product.get("/v1/letters", limit=1)).json()["items"]
    producer = product.runtime.broker.producer("test")
    await producer.start()
    sent = tuple(
        (name.replace("-", "_"), text.encode()) for name, text in attributes().items() if name.startswith("ce")
    )
    sent = (*sent, ("content-type", b"application/json"))
    assert await producer.send([OutgoingMessage("apitest.events", b"k", value, sent)]) == [None]
    await producer.stop()
    async with asyncio.timeout(60):
        while True:
            letters = (await product.get("/v1/letters", limit=1)).json()["items"]
            if letters and letters != before:
                found: dict[str, Any] = letters[0]
                return found
            await asyncio.sleep(0.02)


async def test_a_dead_letter_shows_what_came_and_why(product: Product) -> None:
    """Headers and bytes as they were; binary as hex."""
    letter = await poison(product, b"{nonsense")
    assert letter["reason"] in ("invalid", "unreadable")
    shown = (await product.get(f"/v1/letters/{letter['id']}")).json()
    assert shown["text"] == "{nonsense"
    assert ["ce_type", "apitest.PayoutRequested"] in shown["headers"]
    binary = await poison(product, b"\xff\x00")
    shown = (await product.get(f"/v1/letters/{binary['id']}")).json()
    assert (shown["text"], shown["valueHex"]) == (None, "ff00")


async def test_a_letter_that_is_still_wrong_is_dead_again(product: Product) -> None:
    """Driving it again runs every check anew; a reason is required."""
    letter = await poison(product, b'{"requester": "ravi"}')
    path = f"/v1/letters/{letter['id']}/redrive"
    assert (await product.post(path, {})).status_code == 422
    answer = await product.post(path, {"reason": "after the fix"}, actor="op")
    assert (answer.status_code, answer.json()["fate"]) == (202, "dead")
    again = await product.post(path, {"reason": "after the fix"}, actor="op")
    assert (again.status_code, again.json()["code"]) == (409, "redriven_already")
    assert (await product.get("/v1/letters/999999")).status_code == 404
