"""One altered row of `vault_keys`, in a running product: the sagas of that person stand, everybody else's go on."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from tests.vault.conftest import Care
from tests.vault.test_swaps import request

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAITS = {"address": "1 Glass Street", "story": "none"}


async def alter(product: Care, customer: str) -> tuple[str, bytes]:
    """Somebody who owns the database alters the row of a person's key; gives its id and what stood there."""
    (key_id,) = await product.runtime.vault.keys.known_ids("main", [customer])  # type: ignore[union-attr]
    connection = await asyncpg.connect(product.database.admin_url)
    try:
        before = bytes(await connection.fetchval("SELECT wrapped FROM vault_keys WHERE key_id = $1", key_id))
        await put(product, key_id, before[:-1] + bytes([before[-1] ^ 1]))
    finally:
        await connection.close()
    return key_id, before


async def put(product: Care, key_id: str, wrapped: bytes) -> None:
    """The row of a key, as its owner writes it; a minute passes for the product, and it has no state in memory."""
    connection = await asyncpg.connect(product.database.admin_url)
    try:
        await connection.execute("UPDATE vault_keys SET wrapped = $2 WHERE key_id = $1", key_id, wrapped)
    finally:
        await connection.close()
    vault = product.runtime.vault
    assert vault is not None
    vault.keys.forget([key_id])


async def letters(product: Care, reason: str) -> list[dict[str, Any]]:
    """Dead letters with this reason."""
    await product.settled()
    items = (await product.get("/v1/letters")).json()["items"]
    return [item for item in items if item["reason"] == reason and not item.get("redrivenAt")]


@pytest.mark.parametrize("in_memory", [True, False], ids=["its state in memory", "its state to be read"])
async def test_sagas_of_a_key_that_does_not_open_stand_and_others_go_on(product: Care, in_memory: bool) -> None:
    """What comes for them is kept with a reason that names the key and what to do; driven again, they go on."""
    case, other, late = ("i-1", "i-2", "i-3") if in_memory else ("j-1", "j-2", "j-3")
    ida, jon = f"CUST-IDA-{case}", f"CUST-JON-{case}"
    await product.publish("caretest.CareRequested", request(case, ida, name="Ida Storm", mood="wait"))
    await product.publish("caretest.CareRequested", request(other, jon, name="Jon Weir", mood="wait"))
    for key in (case, other):
        await product.until(key, "care_confirmed")
    key_id, before = await alter(product, ida)
    if not in_memory:
        product.runtime.coordinator.cache.clear()
    await product.publish("caretest.CareRequested", request(late, jon, name="Jon Weir"))
    for key in (case, other):
        await product.publish("caretest.CareConfirmed", {"case": key, "said_by": "Uncle Theo"})
    await product.approve(late)
    await product.approve(other)
    (letter,) = await letters(product, "key_broken")
    assert key_id in letter["detail"]
    assert "put the row back from a backup" in letter["detail"]
    answer = await product.client.post(
        "/v1/events",
        json={"specversion": "1.0", "id": f"n-{case}", "source": "/t", "type": "caretest.CareRequested"}
        | {"data": request(f"n-{case}", ida)},
        headers={"X-Actor": "ada", "Content-Type": "application/cloudevents+json"},
    )
    assert (answer.status_code, key_id in answer.json()["detail"]) == (503, True)
    text = str(await product.dump())
    assert "Uncle Theo" not in text, "what is kept for her is sealed under another key"
    assert product.runtime.health().ready

    await put(product, key_id, before)
    done = await product.post(f"/v1/letters/{letter['id']}/redrive", {"reason": "the row is back"}, actor="olga")
    assert done.status_code == 202, done.text
    await product.approve(case)
