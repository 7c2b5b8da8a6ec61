"""Disputes through the whole product over HTTP: raised, tracked in plain words, taken on, decided, referred."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.api.views import Actor
from sagas.disputes.definition import dispute
from sagas.disputes.participants import SQL, case_ai, case_desk
from sagas.disputes.settings import dispute_settings
from tests.databases import Database
from tests.sagas.product import Product, running_product

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUSTOMER = "CUST00012"
GOOD = (
    "The account statement and the merchant's receipt show that the terminal timed out and both payments were booked; "
    "therefore this part of the amount is refunded."
)
BAD = "Closed."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bank(module_database: Database) -> AsyncIterator[Product]:
    """The product with the dispute saga alone; urgent cases have a second, other cases their day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORCHESTRATOR_DISPUTE_TIMES", '{"Urgent": {"acknowledge": 0.0003, "branch": 0.0003}}')
        dispute_settings.cache_clear()
        async with running_product(module_database, "sagas.disputes", [dispute], [case_ai, case_desk]) as made:
            yield made
    dispute_settings.cache_clear()


def body(doc_id: str, **other: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "customer_id": CUSTOMER,
        "rm_email": "rosa@bank.example",
        "case_summary": "The merchant took the card payment twice at the terminal.",
        "dispute_amount": "4250.00",
        "priority": "High",
    } | other


async def raised(bank: Product, doc_id: str, **other: Any) -> None:
    answer = await bank.post("/disputes", CUSTOMER, "approver", body=body(doc_id, **other))
    assert answer.status_code == 201, answer.text


async def tracked(bank: Product, doc_id: str, word: str) -> dict[str, Any]:
    """What the customer sees, once it says this."""
    found: dict[str, Any] = await bank.until(
        lambda: bank.get(f"/disputes/{doc_id}", CUSTOMER, "approver"), lambda answer: word in answer["status"]
    )
    return found


async def taken_on(bank: Product, doc_id: str, **other: Any) -> dict[str, Any]:
    """Raised, assigned to rosa and acknowledged by her; her task."""
    await raised(bank, doc_id, **other)
    await tracked(bank, doc_id, "has your complaint")
    answer = await bank.post(f"/disputes/{doc_id}/acknowledge", "rosa", "approver")
    assert (answer.status_code, answer.json()["acknowledged"]) == (200, True), answer.text
    return await bank.task(doc_id, "manager_decision")


async def test_a_dispute_is_answered_with_a_number_and_a_place_to_follow_it(bank: Product) -> None:
    """And raised twice it is one case; with another body it is refused."""
    first = await bank.post("/disputes", CUSTOMER, "approver", body=body("DSP-A"))
    assert first.status_code == 201
    assert set(first.json()) == {"workflowId", "trackingUrl"}
    assert first.json()["trackingUrl"].endswith("/disputes/DSP-A")
    again = await bank.post("/disputes", CUSTOMER, "approver", body=body("DSP-A"))
    assert (again.status_code, again.json()) == (200, first.json())
    other = await bank.post("/disputes", CUSTOMER, "approver", body=body("DSP-A", dispute_amount="1"))
    assert (other.status_code, other.json()["code"]) == (409, "same_id_other_body")
    followed = await bank.client.get(first.json()["trackingUrl"], headers={"X-Actor": CUSTOMER})
    assert followed.json()["doc_id"] == "DSP-A"


async def test_a_customer_sees_few_fields_in_plain_words_and_only_their_own_case(bank: Product) -> None:
    """Nothing of the model, the manager, the summary; somebody else's case is not there, in the same words."""
    await raised(bank, "DSP-B")
    shown = await tracked(bank, "DSP-B", "has your complaint")
    assert set(shown) == {"doc_id", "status", "since", "next", "next_by", "resolution", "refund", "currency"}
    assert shown["next_by"] is not None
    assert "rosa" not in str(shown)
    theirs = await bank.get("/disputes/DSP-B", "CUST00099", "approver")
    nowhere = await bank.get("/disputes/DSP-none", "CUST00099", "approver")
    assert theirs.status_code == nowhere.status_code == 404
    assert theirs.json()["detail"] == nowhere.json()["detail"]
    assert (await bank.client.get("/disputes/DSP-B")).status_code == 401
    foreign = await bank.post("/disputes", "CUST00099", "approver", body=body("DSP-X"))
    assert foreign.status_code == 403


@pytest.mark.parametrize(
    "wrong",
    [
        {"doc_id": "../etc"},
        {"rm_email": "nobody"},
        {"dispute_amount": "-1"},
        {"dispute_amount": "1.005"},
        {"priority": "Extreme"},
        {"case_summary": ""},
        {"case_summary": "x" * 8_001},
        {"status": "Closed"},
    ],
)
async def test_what_is_no_dispute_is_refused(bank: Product, wrong: dict[str, Any]) -> None:
    """Also with a field that nobody asked for."""
    answer = await bank.post("/disputes", CUSTOMER, "approver", body=body("DSP-W") | wrong)
    assert answer.status_code in (400, 422), answer.text


async def test_a_case_is_taken_on_checked_twice_and_closed(bank: Product) -> None:
    """A thin rationale comes back with feedback; the better one closes the case, pays, and writes a letter."""
    task = await taken_on(bank, "DSP-C")
    assert task["shown"]["category"] == "card"
    stranger = await bank.decide(task, "Resolved", "raj", rationale=GOOD)
    assert stranger.status_code in (403, 404)
    invalid = await bank.decide(task, "Resolved", "rosa", rationale="")
    assert (invalid.status_code, invalid.json()["code"]) == (422, "invalid"), invalid.text
    assert (await bank.decide(task, "Resolved", "rosa", rationale=BAD)).status_code == 200
    second = await bank.until(
        lambda: bank.get("/v1/tasks", "test", saga="DSP-C"),
        lambda page: page["items"] and page["items"][0]["id"] != task["id"],
    )
    [back] = second["items"]
    assert "compliance check failed" in back["shown"]["earlier"][0]
    done = await bank.decide(back, "Partial Refund", "rosa", rationale=GOOD, refund_percent=20)
    assert done.status_code == 200, done.text
    assert await bank.over("DSP-C") == "completed"
    shown = await tracked(bank, "DSP-C", "decided")
    assert (shown["resolution"], shown["refund"], shown["next_by"]) == ("Partial Refund", "850", None)
    [case] = await bank.rows(case_desk, "SELECT * FROM cases WHERE doc_id = 'DSP-C'")
    assert (case["status"], case["decided_by"], case["closed_at"] is not None) == ("Closed", "rosa", True)
    assert await bank.rows(case_desk, SQL["prove"]) == []


async def test_after_two_failed_checks_a_senior_reviewer_decides(bank: Product) -> None:
    """The manager is refused there."""
    task = await taken_on(bank, "DSP-D")
    await bank.decide(task, "Resolved", "rosa", rationale=BAD)
    page = await bank.until(
        lambda: bank.get("/v1/tasks", "test", saga="DSP-D"),
        lambda page: page["items"] and page["items"][0]["id"] != task["id"],
    )
    await bank.decide(page["items"][0], "Resolved", "rosa", rationale=BAD)
    review = await bank.task("DSP-D", "senior_review")
    assert len(review["shown"]["earlier"]) == 2
    refused = await bank.decide(review, "Resolved", "rosa", "senior-reviewer", rationale=GOOD)
    assert (refused.status_code, refused.json()["code"]) == (403, "excluded")
    assert (await bank.decide(review, "Resolved", "silas", "senior-reviewer", rationale=GOOD)).status_code == 200
    assert await bank.over("DSP-D") == "completed"
    [case] = await bank.rows(case_desk, "SELECT decided_by FROM cases WHERE doc_id = 'DSP-D'")
    assert case["decided_by"] == "silas"


async def test_only_the_assigned_manager_takes_a_case_on_and_twice_is_once(bank: Product) -> None:
    """By HTTP, or by an event of another system."""
    await raised(bank, "DSP-E", rm_email="raj@bank.example")
    await tracked(bank, "DSP-E", "has your complaint")
    assert (await bank.post("/disputes/DSP-E/acknowledge", "rosa", "approver")).status_code == 404
    assert (await bank.post("/disputes/DSP-E/acknowledge", "olga", "operator")).status_code == 403
    for _ in range(2):
        answer = await bank.post("/disputes/DSP-E/acknowledge", "raj", "approver")
        assert (answer.status_code, answer.json()["acknowledged"]) == (200, True)
    await raised(bank, "DSP-F")
    await bank.say("disputes.rm_acknowledged", {"doc_id": "DSP-F", "acknowledged_by": "rosa"})
    assert (await bank.task("DSP-F", "manager_decision"))["to"] == [{"person": "rosa"}]


async def test_a_case_that_nobody_takes_on_refers_itself_and_the_regulator_is_told(bank: Product) -> None:
    """By timers alone; the acknowledgement that comes too late is told so."""
    await raised(bank, "DSP-G", priority="Urgent")
    assert await bank.over("DSP-G") == "completed"
    shown = await tracked(bank, "DSP-G", "Ombudsman")
    assert shown["resolution"] == "Referred to Ombudsman"
    late = await bank.post("/disputes/DSP-G/acknowledge", "rosa", "approver")
    assert (late.status_code, late.json()["code"]) == (409, "ended")
    assert (await bank.get("/regulatory/notifications", CUSTOMER, "approver")).status_code == 403
    page = (await bank.get("/regulatory/notifications", "audrey", "auditor")).json()
    [told] = [item for item in page["items"] if item["doc_id"] == "DSP-G"]
    assert told["reason"] == "neither the relationship manager nor the branch manager acted in time"
    assert (told["dispute_amount"], told["delivered_at"]) == ("4250.00", None)
    assert CUSTOMER not in str(page)
    after = {"before": told["notified_at"], "before_id": told["notification_id"]}
    older = (await bank.get("/regulatory/notifications", "audrey", "auditor", **after)).json()
    assert told["notification_id"] not in [item["notification_id"] for item in older["items"]]
    assert await bank.rows(case_desk, SQL["prove"]) == []


async def test_a_complaint_cannot_be_cancelled_and_whoever_tries_is_told_so(bank: Product) -> None:
    """Refused, recorded with who asked and why, and the same when the request comes again."""
    await raised(bank, "DSP-H")
    await tracked(bank, "DSP-H", "has your complaint")
    saga = await bank.engine.find("DSP-H", tenant="main")
    assert saga is not None
    for _ in range(2):
        answer = await bank.post(
            f"/v1/sagas/{saga.saga_id}/cancel", "olga", "operator", body={"reason": "too much work"}, key="cancel-H"
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "cancel_refused"), answer.text
    asked = [
        record for record in await bank.engine.records(saga.saga_id, Actor("test")) if record.type == "cancel.refused"
    ]
    assert [(record.data["by"], record.data["reason"]) for record in asked] == [("olga", "too much work")]
