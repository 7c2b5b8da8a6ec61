"""Payments through the whole product: events in, people over HTTP, events out, and every account adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.api.engine import Actor
from sagas.payments.definition import payment_approval
from sagas.payments.participants import SQL, clearing
from tests.databases import Database
from tests.sagas.product import Product, running_product

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANYBODY = Actor("test")
APPROVER, SENIOR, COMMITTEE = "payments-approver", "payments-senior", "treasury-committee"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bank(module_database: Database) -> AsyncIterator[Product]:
    """The product with the payment saga alone."""
    async with running_product(module_database, "sagas.payments", [payment_approval], [clearing]) as made:
        yield made


async def require(bank: Product, payment_id: str, amount: str = "250000.00", **other: Any) -> None:
    """The payment system asks for an approval, as it always does: with an event."""
    data = {
        "payment_id": payment_id,
        "requested_by": "tom",
        "debtor_account": "acme-operating",
        "beneficiary": "Nordic Steel",
        "beneficiary_account": "nordic-steel",
        "beneficiary_id": "nora",
        "amount": amount,
        "purpose": "invoice 7",
    } | other
    await bank.say("bank.payments.approval_required", data)


async def published(bank: Product, payment_id: str) -> list[dict[str, Any]]:
    """The events that went out for a payment."""
    saga = await bank.engine.saga(payment_id, ANYBODY)
    records = await bank.engine.records(saga.saga_id, Actor("test"))
    return [record.data["event"] for record in records if record.type == "event.published"]


async def balance(bank: Product, account: str) -> Decimal:
    [row] = await bank.rows(clearing, "SELECT balance FROM accounts WHERE account = $1", account)
    return Decimal(row["balance"])


async def test_two_people_agree_and_the_money_moves(bank: Product) -> None:
    """Held from the start, moved at the end; the requester follows it, and the payment system hears who agreed."""
    before = await balance(bank, "nordic-steel")
    await require(bank, "PAY-A")
    task = await bank.task("PAY-A", "first_approval")
    assert task["shown"]["amount"] == "250000"
    waiting = (await bank.get("/payments/PAY-A", "tom", "approver")).json()
    assert (waiting["status"], waiting["message"]) == ("pending", "waits for the first approval")
    assert (await bank.decide(task, "approve", "ana", APPROVER)).status_code == 200
    second = await bank.task("PAY-A", "second_approval")
    assert second["shown"]["approved_by"] == ["ana"]
    assert await balance(bank, "nordic-steel") == before
    assert (await bank.decide(second, "approve", "ben", SENIOR)).status_code == 200
    assert await bank.over("PAY-A") == "completed"
    assert await balance(bank, "nordic-steel") == before + 250_000
    [told] = await published(bank, "PAY-A")
    assert told["type"] == "bank.payments.approval_granted"
    assert told["topic"] == "bank.payments.events"
    assert told["body"]["approved_by"] == ["ana", "ben"]
    shown = (await bank.get("/payments/PAY-A", "tom", "approver")).json()
    assert (shown["status"], shown["reference"]) == ("released", told["body"]["reference"])
    assert await bank.rows(clearing, SQL["prove"]) == []


async def test_maker_beneficiary_and_first_approver_are_refused_over_http(bank: Product) -> None:
    """403 with a reason in words, and nothing is recorded of it as a vote; a stale hash is 409."""
    await require(bank, "PAY-B")
    task = await bank.task("PAY-B", "first_approval")
    for person in ("tom", "nora"):
        refused = await bank.decide(task, "approve", person, APPROVER)
        assert (refused.status_code, refused.json()["code"]) == (403, "excluded"), refused.text
    assert (await bank.decide(task, "approve", "eve", COMMITTEE)).status_code in (403, 404)
    assert (await bank.decide(task, "approve", "ana", APPROVER)).status_code == 200
    second = await bank.task("PAY-B", "second_approval")
    refused = await bank.decide(second, "approve", "ana", APPROVER, SENIOR)
    assert (refused.status_code, refused.json()["code"]) == (403, "excluded")
    stale = await bank.decide(second | {"subjectHash": "0" * 64}, "approve", "ben", SENIOR)
    assert (stale.status_code, stale.json()["code"]) == (409, "subject_changed")
    rejected = await bank.decide(second, "reject", "ben", SENIOR, reason="no invoice")
    assert rejected.status_code == 200
    assert await bank.over("PAY-B") == "compensated"
    [told] = await published(bank, "PAY-B")
    assert told["type"] == "bank.payments.approval_rejected"
    assert (told["body"]["denial"], told["body"]["rejected_by"]) == ("rejected", "ben")
    held = await bank.rows(clearing, "SELECT * FROM open_holds WHERE payment_id = 'PAY-B'")
    assert held == []


async def test_a_very_large_payment_takes_the_committee(bank: Product) -> None:
    """An approver may not agree to so much; then two of the committee's members, one of them twice is one."""
    await require(bank, "PAY-C", "4000000.00")
    first = await bank.task("PAY-C", "first_approval")
    over = await bank.decide(first, "approve", "ana", APPROVER)
    assert (over.status_code, over.json()["code"]) == (403, "over_limit")
    assert "500000 EUR" in over.text
    assert (await bank.decide(first, "approve", "ana", APPROVER, SENIOR)).status_code == 200
    task = await bank.task("PAY-C", "committee_approval")
    one = await bank.decide(task, "approve", "cleo", COMMITTEE)
    assert (one.status_code, one.json()["decided"]) == (200, False)
    again = await bank.decide(task, "approve", "cleo", COMMITTEE)
    assert (again.status_code, again.json()["code"]) == (409, "voted_already")
    assert (await bank.decide(task, "approve", "carl", COMMITTEE)).json()["decided"] is True
    assert await bank.over("PAY-C") == "completed"
    [told] = await published(bank, "PAY-C")
    assert told["body"]["approved_by"] == ["ana", "cleo", "carl"]


async def test_an_approval_that_nobody_gives_expires_by_itself(bank: Product) -> None:
    """By a timer, on the database's clock; the hold is free again, and a late vote finds it expired."""
    await require(bank, "PAY-D", approve_within_seconds=1)
    task = await bank.task("PAY-D", "first_approval")
    assert await bank.over("PAY-D") == "compensated"
    late = await bank.decide(task, "approve", "ana", APPROVER)
    assert (late.status_code, late.json()["code"]) == (410, "expired")
    [told] = await published(bank, "PAY-D")
    assert told["body"]["denial"] == "expired"
    assert await bank.rows(clearing, SQL["prove"]) == []


async def test_a_requester_withdraws_and_nobody_else(bank: Product) -> None:
    """Others do not even see that it is there."""
    await require(bank, "PAY-E")
    await bank.task("PAY-E", "first_approval")
    assert (await bank.get("/payments/PAY-E", "mallory", "approver")).status_code == 404
    assert (await bank.post("/payments/PAY-E/withdraw", "mallory", "approver")).status_code == 404
    assert (await bank.post("/payments/PAY-E/withdraw", "ana", "approver", APPROVER)).status_code == 403
    done = await bank.post("/payments/PAY-E/withdraw", "tom", "approver", body={"reason": "paid twice"})
    assert (done.status_code, done.json()["status"]) == (200, "denied"), done.text
    assert "withdrawn" in done.json()["reason"]
    again = await bank.post("/payments/PAY-E/withdraw", "tom", "approver")
    assert again.status_code == 409
    assert (await bank.get("/payments/none", "tom", "approver")).status_code == 404


async def test_what_clearing_refuses_is_told_and_asks_nobody(bank: Product) -> None:
    """A business no."""
    await require(bank, "PAY-F", debtor_account="acme-payroll")
    assert await bank.over("PAY-F") == "compensated"
    [told] = await published(bank, "PAY-F")
    assert told["body"]["denial"] == "failed"
    assert "insufficient_funds" in told["body"]["reason"]
    assert (
        await bank.engine.tasks(saga_id=(await bank.engine.saga("PAY-F", ANYBODY)).saga_id, state=None, tenant="main")
        == ()
    )
