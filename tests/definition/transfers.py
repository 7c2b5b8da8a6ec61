"""The transfer saga as test data: a hold, an approval, a pivot."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from pydantic import BaseModel

from orchestrator import (
    Command,
    Decision,
    Done,
    Event,
    Failure,
    Key,
    Person,
    Reply,
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


class TransferRequested(Event):
    """Somebody wants to send money."""

    transfer_id: Key[str]
    session_id: str
    user_id: str
    from_account: str
    to_account: str
    amount: Decimal


class TransferWithdrawn(Event):
    """The customer changed their mind."""

    transfer_id: Key[str]


class TransferCompleted(Event):
    """The money has arrived."""

    transfer_id: Key[str]
    decided_by: str


class TransferFailed(Event):
    """The money stays where it was."""

    transfer_id: Key[str]
    reason: str


class FundsHeld(Reply):
    """The amount is set aside."""

    hold_id: str


class TransferExecuted(Reply):
    """The amount has moved."""

    reference: str


class HoldFunds(Command[FundsHeld], to="accounts"):
    """Set the amount aside."""

    account: str
    amount: Decimal


class ReleaseFunds(Command[Done], to="accounts"):
    """Give the amount free again."""

    hold_id: str


class ExecuteTransfer(Command[TransferExecuted], to="accounts"):
    """Move the amount."""

    hold_id: str
    to_account: str


class TransferToApprove(BaseModel):
    """What the manager sees."""

    recipient: str
    amount: Decimal
    hold_id: str


class ApprovalPolicy(BaseModel):
    """The rule in force when this transfer started: recorded, so that an auditor sees it."""

    threshold: Decimal


def approval_policy() -> ApprovalPolicy:
    return ApprovalPolicy(threshold=Decimal(5000))


def needs_approval(request: TransferRequested, policy: ApprovalPolicy) -> bool:
    return request.amount >= policy.threshold


def requester(request: TransferRequested) -> Person:
    return Person(request.user_id)


@step(retry=Retry(attempts=5), within=timedelta(seconds=30))
def hold_funds(request: TransferRequested) -> HoldFunds:
    return HoldFunds(account=request.from_account, amount=request.amount)


@hold_funds.undo
def release_funds(held: FundsHeld) -> ReleaseFunds:
    return ReleaseFunds(hold_id=held.hold_id)


@task(to=Role("manager"), within=timedelta(hours=24), exclude=[requester])
def manager_approval(request: TransferRequested, held: FundsHeld) -> TransferToApprove:
    """Approve the transfer if the recipient is known to the customer."""
    return TransferToApprove(recipient=request.to_account, amount=request.amount, hold_id=held.hold_id)


@step
def execute_transfer(request: TransferRequested, held: FundsHeld) -> ExecuteTransfer:
    return ExecuteTransfer(hold_id=held.hold_id, to_account=request.to_account)


def transfer_completed(request: TransferRequested, approval: Decision | None) -> TransferCompleted:
    return TransferCompleted(transfer_id=request.transfer_id, decided_by=approval.by.id if approval else "auto")


def transfer_failed(request: TransferRequested, failure: Failure) -> TransferFailed:
    return TransferFailed(transfer_id=request.transfer_id, reason=failure.reason)


transfer = Saga(
    "transfer",
    version=1,
    starts_on=TransferRequested,
    flow=[
        compute(approval_policy),
        scope(
            hold_funds,
            when(needs_approval, manager_approval.on_reject(fail("rejected")).on_timeout(fail("expired"))),
        ).on_event(TransferWithdrawn, fail("withdrawn by the customer")),
        pivot(execute_transfer),
        publish(transfer_completed),
    ],
    on_failed=publish(transfer_failed),
)
