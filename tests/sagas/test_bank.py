"""The banking backend: each key moves money once, refusals are remembered, and balances can be proved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from orchestrator.participants import load_queries
from orchestrator.participants.work import Pool
from sagas.transfers.bank import SCHEMA
from tests.databases import Database
from tests.sagas.banking import open_bank


@pytest_asyncio.fixture
async def client(database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the bank."""
    async with (
        open_bank(database) as way,
        httpx2.AsyncClient(transport=way, base_url="http://bank") as made,
    ):
        yield made


async def transfer(client: httpx2.AsyncClient, key: str | None, amount: object = "600", **body: Any) -> httpx2.Response:
    order = {"fromAccount": "ravi", "toAccount": "kiran", "amount": amount, **body}
    headers = {"Idempotency-Key": key} if key is not None else {}
    return await client.post("/api/transfer", json=order, headers=headers)


async def balance(client: httpx2.AsyncClient, account: str) -> Decimal:
    return Decimal((await client.get(f"/api/accounts/{account}")).json()["balance"])


async def proved(pool: Pool) -> bool:
    async with SCHEMA.transaction(pool) as connection:
        return await connection.fetch(load_queries("sagas.transfers", "bank.sql")["prove"]) == []


async def test_money_moves_once_per_key(client: httpx2.AsyncClient, pool: Pool) -> None:
    first = await transfer(client, '"k-1"')
    again = await transfer(client, "k-1")
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert await balance(client, "ravi") == Decimal(249400)
    assert await balance(client, "kiran") == Decimal(1100)
    assert await proved(pool)


async def test_the_same_key_at_the_same_time_moves_money_once(client: httpx2.AsyncClient, pool: Pool) -> None:
    answers = await asyncio.gather(*(transfer(client, "k-1") for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["reference"] for answer in answers}) == 1
    assert await balance(client, "ravi") == Decimal(249400)
    assert await proved(pool)


async def test_many_transfers_at_once_keep_the_books(client: httpx2.AsyncClient, pool: Pool) -> None:
    """Both ways between two accounts: nobody deadlocks, nobody goes below zero."""
    ways = [("ravi", "kiran"), ("kiran", "ravi")]
    answers = await asyncio.gather(
        *(
            transfer(client, f"k-{number}", "150", fromAccount=ways[number % 2][0], toAccount=ways[number % 2][1])
            for number in range(30)
        )
    )
    assert {answer.status_code for answer in answers} <= {200, 422}
    assert await balance(client, "ravi") + await balance(client, "kiran") == Decimal(250500)
    assert await proved(pool)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"amount": "250000.01"}, "insufficient_funds"),
        ({"toAccount": "nobody"}, "unknown_account"),
        ({"toAccount": "ravi"}, "same_account"),
        ({"toAccount": "tom"}, "currency_differs"),
        ({"currency": "USD"}, "currency_differs"),
    ],
)
async def test_a_business_no_is_an_answer_and_is_remembered(
    client: httpx2.AsyncClient, pool: Pool, body: dict[str, str], code: str
) -> None:
    refused = await transfer(client, "k-1", **body)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert refused.headers["content-type"] == "application/problem+json"
    again = await transfer(client, "k-1", **body)
    assert (again.status_code, again.json()) == (422, refused.json())
    found = await client.get("/api/transfers", params={"key": "k-1"})
    assert (found.json()["outcome"], found.json()["code"]) == ("refused", code)
    assert await balance(client, "ravi") == Decimal(250000)
    assert await proved(pool)


async def test_a_key_is_for_one_request(client: httpx2.AsyncClient) -> None:
    await transfer(client, "k-1")
    other = await transfer(client, "k-1", "700")
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    assert await balance(client, "ravi") == Decimal(249400)


async def test_a_key_can_be_asked_what_became_of_it(client: httpx2.AsyncClient) -> None:
    unknown = await client.get("/api/transfers", params={"key": "k-1"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_key")
    done = await transfer(client, "k-1")
    found = await client.get("/api/transfers", params={"key": "k-1"})
    assert found.json()["outcome"] == "done"
    assert found.json()["reference"] == done.json()["reference"]


@pytest.mark.parametrize("amount", ["0", "-5", "1.005", "NaN", "1e400", "", None, [], "1" * 20])
async def test_amounts_that_are_none_are_refused(client: httpx2.AsyncClient, amount: object) -> None:
    answer = await transfer(client, "k-1", amount)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


async def test_without_a_key_nothing_moves(client: httpx2.AsyncClient) -> None:
    assert (await transfer(client, None)).json()["code"] == "key_missing"


async def test_people_are_found_by_name(client: httpx2.AsyncClient) -> None:
    found = (await client.get("/api/accounts", params={"owner": "kIRAN"})).json()
    assert [row["account"] for row in found] == ["kiran"]
    assert (await client.get("/api/accounts", params={"owner": "Nobody"})).json() == []
    assert (await client.get("/api/accounts/nobody")).status_code == 404
