"""One complaint, as the specifications of disputes tell of it: what is said, and the ways in which it ends."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from events.disputes import (
    CaseClassified,
    CaseFile,
    CaseRecorded,
    Category,
    CheckCompliance,
    CloseCase,
    ComplianceChecked,
    DisputeClosed,
    DisputeRaised,
    DisputeReferred,
    Finding,
    FindingForm,
    LetterKind,
    ManagerAssigned,
    NotifyCustomer,
    NotifyRegulator,
    PayRefund,
    Priority,
    ReferCase,
    RefundPaid,
    RegulatorNotified,
    ReviewForm,
    RmAcknowledged,
    Ruling,
    RulingForm,
    Severity,
)
from orchestrator import Done
from orchestrator.testing import (
    Spec,
    arrived,
    asked,
    decided,
    elapsed,
    ended,
    entered,
    given,
    published,
    replied,
)
from sagas.disputes.definition import DisputeState, dispute, manager_decision
from sagas.disputes.steps import (
    assign_manager,
    check_finding,
    classify_case,
    close_case,
    notify_regulator,
    pay_refund,
    refer_case,
    tell_of_the_end,
    tell_of_the_referral,
)

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CLASSIFIED = CaseClassified(
    category=Category.CARD, severity=Severity.HIGH, confidence=0.9, explanation="card", engine="rules-1"
)
ASSIGNED = ManagerAssigned(manager="rosa", branch="Riverside", branch_manager="bruno")
ACKNOWLEDGED = arrived(RmAcknowledged(doc_id="DSP00042", acknowledged_by="rosa"))
PASSED = ComplianceChecked(passed=True, engine="rules-1")
FAILED = ComplianceChecked(passed=False, feedback=("Name what you looked at.",), engine="rules-1")
RATIONALE = "The statement shows that the merchant took the payment twice."
CLASSIFY = replied(classify_case, CLASSIFIED)
ASSIGN = replied(assign_manager, ASSIGNED)


def request(**other: Any) -> DisputeRaised:
    fields: dict[str, Any] = {
        "doc_id": "DSP00042",
        "customer_id": "CUST00012",
        "rm_email": "rosa@bank.example",
        "case_summary": "The merchant took the card payment twice.",
        "dispute_amount": Decimal("4250.00"),
        "priority": Priority.HIGH,
    }
    return DisputeRaised(**(fields | other))


def shown(*earlier: str) -> CaseFile:
    return CaseFile(
        doc_id="DSP00042",
        customer_id="CUST00012",
        case_summary="The merchant took the card payment twice.",
        dispute_amount=Decimal(4250),
        currency="GBP",
        priority=Priority.HIGH,
        category=Category.CARD,
        severity=Severity.HIGH,
        classified_by="rules-1",
        read_with_care=False,
        manager="rosa",
        branch="Riverside",
        earlier=earlier,
    )


def finding(outcome: Finding = Finding.RESOLVED, percent: int = 50) -> FindingForm:
    return FindingForm(outcome=outcome, rationale=RATIONALE, refund_percent=percent)


def ruling(outcome: Ruling = Ruling.RESOLVED, percent: int = 50) -> RulingForm:
    return RulingForm(outcome=outcome, rationale=RATIONALE, refund_percent=percent)


def review(outcome: Ruling = Ruling.RESOLVED, percent: int = 50) -> ReviewForm:
    return ReviewForm(outcome=outcome, rationale=RATIONALE, refund_percent=percent)


def check(outcome: str = "Resolved", refund: str = "0") -> CheckCompliance:
    return CheckCompliance(
        case_summary="The merchant took the card payment twice.",
        category=Category.CARD,
        severity=Severity.HIGH,
        dispute_amount=Decimal(4250),
        finding=outcome,
        refund=Decimal(refund),
        rationale=RATIONALE,
    )


def assigned() -> Spec:
    """Classified and assigned; the acknowledgement is waited for."""
    return given(dispute, request(), CLASSIFY, ASSIGN)


def with_manager(*more: Any) -> Spec:
    """Taken on; the manager's finding is waited for."""
    return given(dispute, request(), CLASSIFY, ASSIGN, ACKNOWLEDGED, *more)


def with_branch(*more: Any) -> Spec:
    """Nobody took it on in a day; the branch manager's ruling is waited for."""
    return given(dispute, request(), CLASSIFY, ASSIGN, elapsed(hours=24), *more)


def in_review() -> Spec:
    """Two findings have failed the check; the senior reviewer's word is waited for."""
    once = (decided(manager_decision, finding(), by="rosa"), replied(check_finding, FAILED))
    return with_manager(*once, *once)


def closes(spec: Spec, resolution: str, by: str, refund: str = "0") -> None:
    """From the last `when` on: money back where there is some, case table, letter, event, end."""
    paid = Decimal(refund)
    close = CloseCase(doc_id="DSP00042", resolution=resolution, rationale=RATIONALE, refund=paid, decided_by=by)
    if paid:
        spec.then(asked(PayRefund(doc_id="DSP00042", amount=paid, currency="GBP")))
        spec.when(replied(pay_refund, RefundPaid(refund_id="F-1")))
    spec.then(asked(close))
    letter = NotifyCustomer(
        doc_id="DSP00042", customer_id="CUST00012", kind=LetterKind.CLOSED, resolution=resolution, refund=paid
    )
    spec.when(replied(close_case, CaseRecorded(recorded_at=AT))).then(entered(DisputeState.CLOSED), asked(letter))
    told = DisputeClosed(
        doc_id="DSP00042", resolution=resolution, refund=paid, currency="GBP", decided_by=by, closed_at=AT
    )
    spec.when(replied(tell_of_the_end, Done())).then(published(told), ended("completed"))


def refers(spec: Spec, reason: str) -> None:
    """From the last `when` on: case table, regulator, letter, event, end."""
    spec.then(asked(ReferCase(doc_id="DSP00042", reason=reason)))
    notify = NotifyRegulator(
        doc_id="DSP00042",
        category=Category.CARD,
        severity=Severity.HIGH,
        dispute_amount=Decimal(4250),
        currency="GBP",
        reason=reason,
    )
    spec.when(replied(refer_case, CaseRecorded(recorded_at=AT))).then(entered(DisputeState.REFERRED), asked(notify))
    letter = NotifyCustomer(doc_id="DSP00042", customer_id="CUST00012", kind=LetterKind.REFERRED)
    spec.when(replied(notify_regulator, RegulatorNotified(notification_id="REG-1"))).then(asked(letter))
    told = DisputeReferred(doc_id="DSP00042", reason=reason, notification_id="REG-1")
    spec.when(replied(tell_of_the_referral, Done())).then(published(told), ended("referred"))
