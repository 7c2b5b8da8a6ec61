"""What waits for people waits through a stop: the same task and hash; what was missed happens once, at the start."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.api.engine import Actor
from sagas.disputes.definition import dispute
from sagas.disputes.participants import SQL as CASES
from sagas.disputes.participants import case_ai, case_desk
from sagas.disputes.settings import dispute_settings
from sagas.payments.definition import payment_approval
from sagas.payments.participants import SQL as CLEARING
from sagas.payments.participants import clearing
from tests.databases import Database
from tests.sagas.product import Product, running_product

PACKAGES = "sagas.payments,sagas.disputes"
SAGAS, WORKERS = [payment_approval, dispute], [clearing, case_ai, case_desk]
AWAY_SECONDS = 2.5  # longer than what expires meanwhile


async def begin(bank: Product) -> tuple[dict[str, object], str]:
    """A payment that can wait, one that cannot, and a case that nobody takes on. Gives the first one's task."""
    payment = {
        "payment_id": "PAY-1",
        "requested_by": "tom",
        "debtor_account": "acme-operating",
        "beneficiary": "Nordic Steel",
        "beneficiary_account": "nordic-steel",
        "amount": "1000",
    }
    await bank.say("bank.payments.approval_required", payment)
    await bank.say("bank.payments.approval_required", payment | {"payment_id": "PAY-2", "approve_within_seconds": 2})
    case = {
        "doc_id": "DSP1",
        "customer_id": "CUST1",
        "rm_email": "rosa@bank.example",
        "case_summary": "The merchant took the card payment twice.",
        "dispute_amount": "10.00",
        "priority": "Urgent",
    }
    raised = await bank.post("/disputes", "CUST1", "approver", body=case)
    assert raised.status_code == 201, raised.text
    # Whether it expires before the stop or after it makes no difference; but it must be there.
    await bank.until(lambda: bank.get("/v1/sagas/PAY-2", "test"), lambda _: True)
    waiting = await bank.task("PAY-1", "first_approval")
    await bank.until(lambda: bank.get("/disputes/DSP1", "CUST1"), lambda shown: "received" not in shown["status"])
    return waiting, str(raised.json()["workflowId"])


async def test_tasks_and_timers_survive_a_stop_and_what_was_missed_happens_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downtime decides nothing: the open task is the same one, the payment that could not wait has expired by a timer,
    and the case goes through both its times, one after the other, to the Ombudsman."""
    monkeypatch.setenv("ORCHESTRATOR_DISPUTE_TIMES", '{"Urgent": {"acknowledge": 0.0006, "branch": 0.0003}}')
    dispute_settings.cache_clear()
    try:
        async with running_product(database, PACKAGES, SAGAS, WORKERS) as bank:
            before, case = await begin(bank)
        await asyncio.sleep(AWAY_SECONDS)
        async with running_product(database, PACKAGES, SAGAS, WORKERS) as bank:
            after = await bank.task("PAY-1", "first_approval")
            assert (after["id"], after["subjectHash"], after["due"]) == tuple(
                before[name] for name in ("id", "subjectHash", "due")
            )
            assert (await bank.decide(after, "approve", "ana", "payments-approver")).status_code == 200
            second = await bank.task("PAY-1", "second_approval")
            assert (await bank.decide(second, "approve", "ben", "payments-senior")).status_code == 200
            assert await bank.over("PAY-1") == "completed"
            assert await bank.over("PAY-2") == "compensated"
            assert await bank.over("DSP1") == "completed"
            records = [record.type for record in await bank.engine.records(case, Actor("test"))]
            assert (records.count("event.expired"), records.count("task.opened"), records.count("task.expired")) == (
                1,
                1,
                1,
            )
            assert await bank.rows(clearing, CLEARING["prove"]) == []
            assert await bank.rows(case_desk, CASES["prove"]) == []
            [status] = await bank.rows(case_desk, "SELECT status FROM cases")
            assert status == {"status": "Referred to Ombudsman"}
    finally:
        dispute_settings.cache_clear()
