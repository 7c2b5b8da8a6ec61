"""The participant case_desk: the case table, refunds, letters and notifications, each exactly once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from events.disputes import (
    AssignManager,
    CaseRecorded,
    Category,
    CloseCase,
    LetterKind,
    ManagerAssigned,
    NotifyCustomer,
    NotifyRegulator,
    PayRefund,
    Priority,
    ReferCase,
    RegulatorNotified,
    Severity,
)
from orchestrator.participants.testing import Trial, trial
from orchestrator.participants.work import Pool
from sagas.disputes.participants import SQL, case_desk
from tests.databases import Database

CLOSE = CloseCase(
    doc_id="DSP1", resolution="Partial Refund", rationale="because", refund=Decimal("10.50"), decided_by="rosa"
)
REFUND = PayRefund(doc_id="DSP1", amount=Decimal("10.50"), currency="GBP")
REFER = ReferCase(doc_id="DSP1", reason="nobody acted in time")
NOTIFY = NotifyRegulator(
    doc_id="DSP1",
    category=Category.CARD,
    severity=Severity.HIGH,
    dispute_amount=Decimal(4250),
    currency="GBP",
    reason="nobody acted in time",
)
TELL = NotifyCustomer(
    doc_id="DSP1",
    customer_id="CUST1",
    kind=LetterKind.CLOSED,
    resolution="Partial Refund",
    refund=Decimal("10.50"),
    currency="GBP",
)


@pytest_asyncio.fixture
async def desk(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """The participant case_desk."""
    async with trial(case_desk, pool, database.migrate_url) as tried:
        yield tried


def assign(email: str = "rosa@bank.example", doc_id: str = "DSP1") -> AssignManager:
    return AssignManager(
        doc_id=doc_id,
        customer_id="CUST1",
        rm_email=email,
        dispute_amount=Decimal(4250),
        currency="GBP",
        priority=Priority.HIGH,
        category=Category.CARD,
        severity=Severity.HIGH,
    )


@pytest.mark.parametrize(
    ("email", "expected"),
    [
        ("rosa@bank.example", ManagerAssigned(manager="rosa", branch="Riverside", branch_manager="bruno")),
        ("Raj@Bank.Example", ManagerAssigned(manager="raj", branch="Old Town", branch_manager="bea")),
        (
            "rita@bank.example",  # away: her branch's manager on duty
            ManagerAssigned(manager="rosa", branch="Old Town", branch_manager="bea", stand_in=True),
        ),
        (
            "left@bank.example",  # unknown: the branch on duty
            ManagerAssigned(manager="dita", branch="Riverside", branch_manager="bruno", stand_in=True),
        ),
    ],
)
async def test_a_case_is_assigned_from_the_metadata_and_never_to_nobody(
    desk: Trial, email: str, expected: ManagerAssigned
) -> None:
    """A manager who is unknown or away is stood in for; no case waits for somebody who is not there."""
    assert (await desk.ask(assign(email))).reply == expected
    [row] = await desk.rows("SELECT status, manager, closed_at FROM cases")
    assert row == {"status": "Open", "manager": expected.manager, "closed_at": None}


async def test_a_case_is_closed_with_resolution_date_and_refund(desk: Trial) -> None:
    """Status, resolution and date are those of the command and of the database's clock; nothing is done twice."""
    await desk.ask(assign())
    paid, closed = await desk.ask(REFUND), await desk.ask(CLOSE)
    told = await desk.ask(TELL)
    for answered in (paid, closed, told):
        assert answered.outcome == "ok"
        assert await desk.again(answered) == answered
    [row] = await desk.rows("SELECT * FROM cases")
    assert isinstance(closed.reply, CaseRecorded)
    assert (row["status"], row["resolution"], row["refund"]) == ("Closed", "Partial Refund", Decimal("10.50"))
    assert (row["decided_by"], row["closed_at"]) == ("rosa", closed.reply.recorded_at)
    [letter] = await desk.rows("SELECT * FROM letters")
    assert "10.50 GBP" in letter["body"]
    assert "Ombudsman" in letter["body"]
    assert await desk.rows(SQL["prove"]) == []


async def test_a_referred_case_is_told_to_the_regulator_without_naming_the_customer(desk: Trial) -> None:
    """One notification with a number of its own, and one letter to each."""
    await desk.ask(assign())
    await desk.ask(REFER)
    notified = await desk.ask(NOTIFY)
    assert await desk.again(notified) == notified
    assert (await desk.ask(TELL.model_copy(update={"kind": LetterKind.REFERRED}))).outcome == "ok"
    [row] = await desk.rows("SELECT status, closed_at IS NOT NULL AS dated FROM cases")
    assert row == {"status": "Referred to Ombudsman", "dated": True}
    [notification] = await desk.rows("SELECT * FROM notifications")
    assert isinstance(notified.reply, RegulatorNotified)
    assert notification["notification_id"] == notified.reply.notification_id
    letters = {row["recipient"]: row for row in await desk.rows("SELECT * FROM letters")}
    assert set(letters) == {"regulator", "customer"}
    assert notified.reply.notification_id in letters["regulator"]["body"]
    assert "CUST1" not in letters["regulator"]["body"]
    assert await desk.rows(SQL["prove"]) == []


async def test_a_case_ends_once(desk: Trial) -> None:
    """Closed is not referred, and a second saga of the same case pays nothing more."""
    await desk.ask(assign())
    await desk.ask(CLOSE)
    assert (await desk.ask(REFER)).code == "not_open"
    assert (await desk.ask(CLOSE, saga="saga-2")).code == "not_open"
    assert (await desk.ask(REFUND)).outcome == "ok"
    assert (await desk.ask(REFUND, saga="saga-2")).outcome == "error"
    assert len(await desk.rows("SELECT * FROM refunds")) == 1


async def test_tenants_share_no_case(desk: Trial) -> None:
    """The same document id in two houses is two cases."""
    await desk.ask(assign(), tenant="north")
    await desk.ask(assign(), tenant="south", saga="saga-2")
    await desk.ask(CLOSE, tenant="north")
    found = {row["tenant"]: row["status"] for row in await desk.rows("SELECT tenant, status FROM cases")}
    assert found == {"north": "Closed", "south": "Open"}


async def test_the_proof_finds_a_refund_that_was_not_paid_and_a_notification_that_is_missing(desk: Trial) -> None:
    """A proof that cannot fail proves nothing."""
    await desk.ask(assign())
    await desk.ask(CLOSE)
    await desk.ask(assign(doc_id="DSP2"), saga="saga-2")
    await desk.ask(REFER.model_copy(update={"doc_id": "DSP2"}), saga="saga-2")
    wrong = {(row["doc_id"], row["what"]) for row in await desk.rows(SQL["prove"])}
    assert wrong == {("DSP1", "refund"), ("DSP1", "letter"), ("DSP2", "notification"), ("DSP2", "letter")}
