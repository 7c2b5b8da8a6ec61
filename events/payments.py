"""Contracts of payments that people approve: what the payment systems, the approvers and clearing say to each other.

Topics: `bank.payments.events` (keyed by payment id), and commands and replies of the participant clearing. The events'
wire names are those that the payment systems have always used; a payment waits for its approvals with its amount held.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator import Command, Done, Event, Key, Personal, Reply

CONTEXT = "bank.payments"

Amount = Annotated[Decimal, Field(gt=0, max_digits=15, decimal_places=2)]
Account = Annotated[str, Field(min_length=1, max_length=100)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Text = Annotated[str, Field(max_length=500)]


class Denial(Enum):
    """Why a payment was not released: somebody said no, time was over, it was withdrawn, or it could not be made."""

    REJECTED = "rejected"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    FAILED = "failed"


# --- events -----------------------------------------------------------------------------------------------------------


class ApprovalRequired(Event, name="bank.payments.approval_required"):
    """A payment may go out only when two people have agreed. `requested_by`: who entered it. `beneficiary_id`: the
    beneficiary as a person of this house, if it is one; that person decides nothing about it. `approve_within_seconds`:
    how long the payment can wait for each approval; never longer than the house allows."""

    payment_id: Key[str] = Field(examples=["PAY-1001"])
    requested_by: Personal[str] = Field(min_length=1, max_length=200)
    debtor_account: Account = Field(examples=["acme-operating"])
    beneficiary: Personal[str] = Field(min_length=1, max_length=200)
    beneficiary_account: Account = Field(examples=["nordic-steel"])
    beneficiary_id: Personal[str] = Field(default="", max_length=200)
    amount: Amount = Field(examples=["12500.00", "250000.00", "4000000.00"])
    currency: Currency = Field(default="EUR", examples=["EUR"])
    purpose: Text = ""
    approve_within_seconds: int | None = Field(default=None, ge=1, le=366 * 24 * 3600)


class ApprovalWithdrawn(Event, name="bank.payments.approval_withdrawn"):
    """Whoever asked for the payment has thought better of it. Counts until it is released."""

    payment_id: Key[str]
    withdrawn_by: Personal[str] = ""
    reason: Text = ""


class ApprovalGranted(Event, name="bank.payments.approval_granted"):
    """All who had to agree have agreed, and the payment is released. `approved_by`: in the order of their votes."""

    payment_id: Key[str]
    reference: str
    amount: Amount
    currency: Currency
    requested_by: Personal[str]
    approved_by: Personal[tuple[str, ...]]


class ApprovalRejected(Event, name="bank.payments.approval_rejected"):
    """The payment was not released, and its amount is free again. `rejected_by`: who said no, if somebody did."""

    payment_id: Key[str]
    denial: Denial
    reason: str
    rejected_by: Personal[str] = ""


# --- clearing ---------------------------------------------------------------------------------------------------------


class PaymentHeld(Reply, context=CONTEXT):
    """The amount is set aside. `hold_id`: clearing's number of it."""

    hold_id: str


class HoldPayment(Command[PaymentHeld], to="clearing", context=CONTEXT):
    """Set the amount aside while people decide. Refused: unknown_account, same_account, currency_differs,
    insufficient_funds."""

    payment_id: str
    debtor_account: Account
    beneficiary_account: Account
    amount: Amount
    currency: Currency


class CancelHold(Command[Done], to="clearing", context=CONTEXT):
    """Give the amount free again. Undo of HoldPayment."""

    hold_id: str


class PaymentReleased(Reply, context=CONTEXT):
    """The money has moved. `reference`: clearing's number of the payment."""

    reference: str


class ReleasePayment(Command[PaymentReleased], to="clearing", context=CONTEXT):
    """Move the amount that is held, once. Refused: unknown_hold, already_cancelled, already_released."""

    hold_id: str
    purpose: Text = ""


# --- what an approver is shown ----------------------------------------------------------------------------------------


class PaymentToApprove(BaseModel):
    """What each approver decides on; its hash goes into the decision's evidence. `approved_by`: who agreed before."""

    model_config = ConfigDict(frozen=True)

    payment_id: str
    requested_by: str
    debtor_account: str
    beneficiary: str
    beneficiary_account: str
    amount: Decimal
    currency: str
    purpose: str
    approved_by: tuple[str, ...] = ()
