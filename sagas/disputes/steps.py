"""The steps of a dispute: what participants are asked, and what the world is told.

Asking the model is a question without effect: a few patient attempts, and then the flow goes on without it. Everything
that is written down is asked for until it is done.
"""

from __future__ import annotations

from datetime import timedelta

from events.disputes import (
    AssignManager,
    CaseClassified,
    CaseRecorded,
    CheckCompliance,
    ClassifyCase,
    CloseCase,
    DisputeClosed,
    DisputeRaised,
    DisputeReferred,
    FindingForm,
    LetterKind,
    NotifyCustomer,
    NotifyRegulator,
    PayRefund,
    ReferCase,
    RegulatorNotified,
    RulingForm,
)
from orchestrator import Decision, Retry, step
from sagas.disputes.outcome import Referral, Settlement, refund_of

MODEL = Retry(attempts=4, first=timedelta(seconds=1), factor=3)
FIRM = Retry(attempts=20)
MODEL_WITHIN = timedelta(seconds=45)


@step(retry=MODEL, within=MODEL_WITHIN, reads=True)
def classify_case(request: DisputeRaised) -> ClassifyCase:
    return ClassifyCase(
        case_summary=request.case_summary, dispute_amount=request.dispute_amount, priority=request.priority
    )


@step(retry=FIRM, reads=True)
def classify_by_rules(request: DisputeRaised) -> ClassifyCase:
    return ClassifyCase(
        case_summary=request.case_summary,
        dispute_amount=request.dispute_amount,
        priority=request.priority,
        by_rules=True,
    )


@step(retry=FIRM)
def assign_manager(request: DisputeRaised, classified: CaseClassified) -> AssignManager:
    return AssignManager(
        doc_id=request.doc_id,
        customer_id=request.customer_id,
        rm_email=request.rm_email,
        dispute_amount=request.dispute_amount,
        currency=request.currency,
        priority=request.priority,
        category=classified.category,
        severity=classified.severity,
    )


@step(retry=MODEL, within=MODEL_WITHIN, reads=True)
def check_finding(
    request: DisputeRaised, classified: CaseClassified, finding: Decision[FindingForm]
) -> CheckCompliance:
    return _check(request, classified, finding)


@step(retry=MODEL, within=MODEL_WITHIN, reads=True)
def check_ruling(request: DisputeRaised, classified: CaseClassified, ruling: Decision[RulingForm]) -> CheckCompliance:
    return _check(request, classified, ruling)


def _check(
    request: DisputeRaised, classified: CaseClassified, decided: Decision[FindingForm] | Decision[RulingForm]
) -> CheckCompliance:
    answer = decided.answer
    return CheckCompliance(
        case_summary=request.case_summary,
        category=classified.category,
        severity=classified.severity,
        dispute_amount=request.dispute_amount,
        finding=str(answer.outcome.value),
        refund=refund_of(request.dispute_amount, answer),
        rationale=answer.rationale,
    )


@step(retry=FIRM)
def pay_refund(request: DisputeRaised, settled: Settlement) -> PayRefund:
    return PayRefund(doc_id=request.doc_id, amount=settled.refund, currency=request.currency)


@step(retry=FIRM)
def close_case(request: DisputeRaised, settled: Settlement) -> CloseCase:
    return CloseCase(
        doc_id=request.doc_id,
        resolution=settled.resolution,
        rationale=settled.rationale,
        refund=settled.refund,
        decided_by=settled.decided_by,
    )


@step(retry=FIRM)
def tell_of_the_end(request: DisputeRaised, settled: Settlement) -> NotifyCustomer:
    return NotifyCustomer(
        doc_id=request.doc_id,
        customer_id=request.customer_id,
        kind=LetterKind.CLOSED,
        resolution=settled.resolution,
        refund=settled.refund,
        currency=request.currency,
    )


@step(retry=FIRM)
def refer_case(request: DisputeRaised, referred: Referral) -> ReferCase:
    return ReferCase(doc_id=request.doc_id, reason=referred.reason)


@step(retry=FIRM)
def notify_regulator(request: DisputeRaised, classified: CaseClassified, referred: Referral) -> NotifyRegulator:
    return NotifyRegulator(
        doc_id=request.doc_id,
        category=classified.category,
        severity=classified.severity,
        dispute_amount=request.dispute_amount,
        currency=request.currency,
        reason=referred.reason,
    )


@step(retry=FIRM)
def tell_of_the_referral(request: DisputeRaised) -> NotifyCustomer:
    return NotifyCustomer(doc_id=request.doc_id, customer_id=request.customer_id, kind=LetterKind.REFERRED)


def dispute_closed(request: DisputeRaised, settled: Settlement, recorded: CaseRecorded) -> DisputeClosed:
    return DisputeClosed(
        doc_id=request.doc_id,
        resolution=settled.resolution,
        refund=settled.refund,
        currency=request.currency,
        decided_by=settled.decided_by,
        closed_at=recorded.recorded_at,
    )


def dispute_referred(request: DisputeRaised, referred: Referral, notified: RegulatorNotified) -> DisputeReferred:
    return DisputeReferred(doc_id=request.doc_id, reason=referred.reason, notification_id=notified.notification_id)
