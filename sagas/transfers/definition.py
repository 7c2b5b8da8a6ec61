"""Money transfers: validate → hold → approve, from a threshold on → execute at the bank.

Until the bank is asked to move the money, a rejected, expired or withdrawn transfer only gives its hold free. The
bank's own no (insufficient funds, for example) is a business answer, and ends the same way.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from pydantic import BaseModel

from events.transfers import (
    ExecuteTransfer,
    FundsHeld,
    HoldFunds,
    ReleaseFunds,
    TransferCompleted,
    TransferExecuted,
    TransferFailed,
    TransferRequested,
    TransferToApprove,
    TransferValidated,
    TransferWithdrawn,
    ValidateTransfer,
)
from orchestrator import (
    CustomerView,
    Decision,
    Failure,
    Person,
    Retry,
    Role,
    Saga,
    compute,
    fail,
    pivot,
    publish,
    scope,
    step,
    task,
    when,
)
from sagas.transfers.settings import transfer_settings

AUTO = "auto"
REJECTED, EXPIRED, WITHDRAWN = "rejected by the approver", "nobody approved in time", "withdrawn by the customer"


class ApprovalPolicy(BaseModel):
    """The rules in force when this transfer started: recorded, so that an auditor sees them."""

    threshold: Decimal
    hours: float


def approval_policy() -> ApprovalPolicy:
    settings = transfer_settings()
    return ApprovalPolicy(threshold=settings.transfer_threshold, hours=settings.approval_hours)


def needs_approval(request: TransferRequested, policy: ApprovalPolicy) -> bool:
    return request.amount >= policy.threshold


def approval_within(policy: ApprovalPolicy) -> timedelta:
    return timedelta(hours=policy.hours)


def requester(request: TransferRequested) -> Person:
    return Person(request.user_id)


@step(retry=Retry(attempts=5), within=timedelta(seconds=15), reads=True)
def validate_transfer(request: TransferRequested) -> ValidateTransfer:
    return ValidateTransfer(
        from_account=request.from_account,
        recipient=request.recipient,
        amount=request.amount,
        currency=request.currency,
    )


@step(retry=Retry(attempts=5), within=timedelta(seconds=30))
def hold_funds(request: TransferRequested, validated: TransferValidated) -> HoldFunds:
    return HoldFunds(
        transfer_id=request.transfer_id,
        account=request.from_account,
        amount=request.amount,
        available=validated.available,
    )


@hold_funds.undo(retry=Retry(attempts=20))
def release_funds(held: FundsHeld) -> ReleaseFunds:
    return ReleaseFunds(hold_id=held.hold_id)


@task(to=Role("manager"), within=approval_within, exclude=[requester])
def manager_approval(
    request: TransferRequested, validated: TransferValidated, policy: ApprovalPolicy
) -> TransferToApprove:
    """Approve the transfer if the recipient is known to the customer and the amount is meant."""
    return TransferToApprove(
        transfer_id=request.transfer_id,
        session_id=request.session_id,
        requested_by=request.user_id,
        from_account=request.from_account,
        to_account=validated.to_account,
        recipient=request.recipient,
        amount=request.amount,
        currency=request.currency,
        threshold=policy.threshold,
    )


@step(retry=Retry(attempts=10), within=timedelta(seconds=30))
def execute_transfer(request: TransferRequested, validated: TransferValidated, held: FundsHeld) -> ExecuteTransfer:
    return ExecuteTransfer(
        transfer_id=request.transfer_id,
        hold_id=held.hold_id,
        from_account=request.from_account,
        to_account=validated.to_account,
        amount=request.amount,
        currency=request.currency,
    )


def transfer_completed(
    request: TransferRequested, executed: TransferExecuted, approval: Decision | None
) -> TransferCompleted:
    return TransferCompleted(
        transfer_id=request.transfer_id,
        session_id=request.session_id,
        reference=executed.reference,
        decided_by=approval.by.id if approval else AUTO,
    )


def transfer_failed(request: TransferRequested, failure: Failure) -> TransferFailed:
    return TransferFailed(transfer_id=request.transfer_id, session_id=request.session_id, reason=failure.reason)


transfer = Saga(
    "transfer",
    version=1,
    starts_on=TransferRequested,
    flow=[
        compute(approval_policy),
        scope(
            validate_transfer,
            hold_funds,
            when(needs_approval, manager_approval.on_reject(fail(REJECTED)).on_timeout(fail(EXPIRED))),
        ).on_event(TransferWithdrawn, fail(WITHDRAWN)),
        pivot(execute_transfer),
        publish(transfer_completed),
    ],
    on_failed=publish(transfer_failed),
)

customer_view = CustomerView(
    "transfer",
    title="Your transfer",
    customer="user_id",
    fields={"amount": "Amount", "currency": "Currency", "recipient": "To"},
    steps={
        "hold_funds": "Money set aside",
        "manager_approval": "Checked by a colleague",
        "execute_transfer": "Sent",
    },
    endings={"completed": "Sent", "returned": "Not sent; nothing was taken from your account"},
)
