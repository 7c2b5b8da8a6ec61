"""Payments under dual control: hold → first approval → second approval → release, or expire.

Maker and checker are never one person: whoever entered the payment and whoever gets it decide nothing about it, and the
second approval is given by somebody who did not give the first. An approver's authority ends at an amount; a senior's
does not. From the committee's amount on, the second approval
takes two members of the treasury committee. Until the money moves, a payment that is rejected, expired or withdrawn
only gives its hold free.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum

from pydantic import BaseModel

from events.payments import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequired,
    ApprovalWithdrawn,
    CancelHold,
    Denial,
    HoldPayment,
    PaymentHeld,
    PaymentReleased,
    PaymentToApprove,
    ReleasePayment,
)
from orchestrator import (
    Decision,
    Escalate,
    Failure,
    Limit,
    Money,
    Person,
    Retry,
    Role,
    Saga,
    Verdict,
    choose,
    compute,
    enter,
    fail,
    pivot,
    publish,
    scope,
    step,
    task,
)
from sagas.payments.settings import payment_settings

APPROVERS, SENIORS = Role("payments-approver"), Role("payments-senior")
COMMITTEE, SUPERVISORS = Role("treasury-committee"), Role("payments-supervisor")
COMMITTEE_VOTES = 2
# Who may agree to how much. A currency that is not named here is nobody's but the seniors' and the supervisors'.
LIMITS = [
    Limit(APPROVERS, Money("500000", "EUR")),
    Limit(APPROVERS, Money("500000", "USD")),
    Limit(SENIORS),
    Limit(SUPERVISORS),
]

REJECTED, EXPIRED, WITHDRAWN = "rejected by an approver", "not approved in time", "withdrawn by the requester"
_DENIALS = {REJECTED: Denial.REJECTED, EXPIRED: Denial.EXPIRED, WITHDRAWN: Denial.WITHDRAWN}


class PaymentState(Enum):
    """The life of a payment, as the payment systems and its requester know it."""

    PENDING = "pending"
    FIRST_APPROVED = "first_approved"
    RELEASED = "released"
    DENIED = "denied"


class Size(Enum):
    """How much a payment is, to those who decide."""

    LARGE = "large"
    VERY_LARGE = "very_large"


class PaymentPolicy(BaseModel):
    """The rules in force when this payment came: recorded, so that an auditor sees them."""

    hours: float
    size: Size
    committee_from: Decimal


def payment_policy(request: ApprovalRequired) -> PaymentPolicy:
    settings = payment_settings()
    own = request.approve_within_seconds
    return PaymentPolicy(
        hours=settings.approval_hours if own is None else min(settings.approval_hours, own / 3600),
        size=_size(request, settings.committee_from),
        committee_from=settings.committee_from,
    )


def _size(request: ApprovalRequired, committee_from: Decimal) -> Size:
    """Nothing is converted: an amount of a currency without limits is the committee's, however small it looks."""
    known = any(limit.up_to is not None and limit.up_to.currency == request.currency for limit in LIMITS)
    return Size.LARGE if known and request.amount < committee_from else Size.VERY_LARGE


def size(policy: PaymentPolicy) -> Size:
    return policy.size


def approval_within(policy: PaymentPolicy) -> timedelta:
    return timedelta(hours=policy.hours)


def parties(request: ApprovalRequired) -> list[Person]:
    """Whoever entered the payment and whoever gets it: neither decides about it."""
    beneficiary = [Person(request.beneficiary_id)] if request.beneficiary_id else []
    return [Person(request.requested_by), *beneficiary]


@step(retry=Retry(attempts=5), within=timedelta(seconds=30))
def hold_payment(request: ApprovalRequired) -> HoldPayment:
    return HoldPayment(
        payment_id=request.payment_id,
        debtor_account=request.debtor_account,
        beneficiary_account=request.beneficiary_account,
        amount=request.amount,
        currency=request.currency,
    )


@hold_payment.undo(retry=Retry(attempts=20))
def cancel_hold(held: PaymentHeld) -> CancelHold:
    return CancelHold(hold_id=held.hold_id)


def amount_of(shown: PaymentToApprove) -> Money:
    return Money(shown.amount, shown.currency)


def shown(request: ApprovalRequired, first: Decision | None = None) -> PaymentToApprove:
    """What an approver sees; the second one sees who was the first."""
    return PaymentToApprove(
        payment_id=request.payment_id,
        requested_by=request.requested_by,
        debtor_account=request.debtor_account,
        beneficiary=request.beneficiary,
        beneficiary_account=request.beneficiary_account,
        amount=request.amount,
        currency=request.currency,
        purpose=request.purpose,
        approved_by=(first.by.id,) if first else (),
    )


@task(
    to=[APPROVERS, SENIORS],
    within=approval_within,
    exclude=[parties],
    escalate=[Escalate(after=timedelta(hours=4), to=SUPERVISORS)],
    amount=amount_of,
    limits=LIMITS,
)
def first_approval(request: ApprovalRequired) -> PaymentToApprove:
    """Approve the payment if the invoice is there, and account and amount agree with it."""
    return shown(request)


@task(
    to=SENIORS,
    within=approval_within,
    exclude=[parties, first_approval],
    escalate=[Escalate(after=timedelta(hours=4), to=SUPERVISORS)],
)
def second_approval(request: ApprovalRequired, first_approval: Decision) -> PaymentToApprove:
    """Approve the payment if you would have entered it yourself; the first approver's word is not enough."""
    return shown(request, first_approval)


@task(
    to=COMMITTEE,
    within=approval_within,
    votes=COMMITTEE_VOTES,
    exclude=[parties, first_approval],
)
def committee_approval(request: ApprovalRequired, first_approval: Decision) -> PaymentToApprove:
    """Two members of the treasury committee must agree. One no is enough to stop the payment."""
    return shown(request, first_approval)


@step(retry=Retry(attempts=10), within=timedelta(seconds=30))
def release_payment(request: ApprovalRequired, held: PaymentHeld) -> ReleasePayment:
    return ReleasePayment(hold_id=held.hold_id, purpose=request.purpose)


def approval_granted(
    request: ApprovalRequired, released: PaymentReleased, decisions: list[Decision]
) -> ApprovalGranted:
    return ApprovalGranted(
        payment_id=request.payment_id,
        reference=released.reference,
        amount=request.amount,
        currency=request.currency,
        requested_by=request.requested_by,
        approved_by=tuple(vote.by.id for decision in decisions for vote in decision.votes),
    )


def approval_rejected(request: ApprovalRequired, failure: Failure, decisions: list[Decision]) -> ApprovalRejected:
    no = next((decision for decision in decisions if decision.outcome is Verdict.REJECT), None)
    words = no.answer.reason if no is not None and failure.reason == REJECTED else ""
    return ApprovalRejected(
        payment_id=request.payment_id,
        denial=_DENIALS.get(failure.reason, Denial.FAILED),
        reason=f"{failure.reason}: {words}" if words else failure.reason,
        rejected_by=no.by.id if no is not None else "",
    )


payment_approval = Saga(
    "payment-approval",
    version=1,
    starts_on=ApprovalRequired,
    states={
        PaymentState.PENDING: [PaymentState.FIRST_APPROVED, PaymentState.DENIED],
        PaymentState.FIRST_APPROVED: [PaymentState.RELEASED, PaymentState.DENIED],
        PaymentState.RELEASED: [],
        PaymentState.DENIED: [],
    },
    flow=[
        compute(payment_policy),
        scope(
            hold_payment,
            first_approval.on_reject(fail(REJECTED)).on_timeout(fail(EXPIRED)),
            enter(PaymentState.FIRST_APPROVED),
            choose(size)
            .on(Size.LARGE, second_approval.on_reject(fail(REJECTED)).on_timeout(fail(EXPIRED)))
            .on(Size.VERY_LARGE, committee_approval.on_reject(fail(REJECTED)).on_timeout(fail(EXPIRED))),
        ).on_event(ApprovalWithdrawn, fail(WITHDRAWN)),
        pivot(release_payment),
        enter(PaymentState.RELEASED),
        publish(approval_granted),
    ],
    on_failed=[enter(PaymentState.DENIED), publish(approval_rejected)],
)
