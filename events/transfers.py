"""Contracts of money transfers: what a chat, an approver and the bank say to each other.

Topics: `transfers.events` (keyed by transfer id), and commands and replies of the participant accounts.
Amounts are decimals with two places at most; account names are those of the bank.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator import Command, Done, Event, Key, Personal, Reply

Amount = Annotated[Decimal, Field(gt=0, max_digits=15, decimal_places=2)]
Balance = Annotated[Decimal, Field(max_digits=17, decimal_places=2)]
Account = Annotated[str, Field(min_length=1, max_length=100)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


# --- events -----------------------------------------------------------------------------------------------------------


class TransferRequested(Event):
    """A customer wants to send money. A session has many transfers, so the session is not the key."""

    transfer_id: Key[str]
    session_id: str
    user_id: Personal[str]
    from_account: Account
    recipient: Personal[str]
    amount: Amount
    currency: Currency = "EUR"


class TransferWithdrawn(Event):
    """The customer has thought better of it. Counts until the money moves."""

    transfer_id: Key[str]
    reason: str = ""


class TransferCompleted(Event):
    """The money has moved. `decided_by`: the approver, or `auto` below the threshold."""

    transfer_id: Key[str]
    session_id: str
    reference: str
    decided_by: Personal[str]


class TransferFailed(Event):
    """No money has moved, and nothing is held any more. `reason`: why."""

    transfer_id: Key[str]
    session_id: str
    reason: str


# --- accounts ---------------------------------------------------------------------------------------------------------


class TransferValidated(Reply):
    """Both accounts are there. `available`: what the sender's account held at that moment."""

    to_account: Account
    available: Balance


class ValidateTransfer(Command[TransferValidated], to="accounts"):
    """Look whether this transfer could be made; changes nothing. Refused: unknown_account, unknown_recipient,
    same_account, currency_differs, insufficient_funds."""

    from_account: Account
    recipient: Personal[str]
    amount: Amount
    currency: Currency


class FundsHeld(Reply):
    """The amount is set aside."""

    hold_id: str


class HoldFunds(Command[FundsHeld], to="accounts"):
    """Set an amount aside, so that transfers that wait for approval cannot promise it twice. Refused:
    insufficient_funds. `available`: the balance that was seen when the transfer was validated."""

    transfer_id: str
    account: Account
    amount: Amount
    available: Balance


class ReleaseFunds(Command[Done], to="accounts"):
    """Give a hold free again. Undo of HoldFunds."""

    hold_id: str


class TransferExecuted(Reply):
    """The bank has moved the money. `reference`: the bank's number of the transfer."""

    reference: str


class ExecuteTransfer(Command[TransferExecuted], to="accounts"):
    """Move the money at the bank, once, and use up the hold. Refused: insufficient_funds, or what the bank says."""

    transfer_id: str
    hold_id: str
    from_account: Account
    to_account: Account
    amount: Amount
    currency: Currency


# --- what an approver is shown ----------------------------------------------------------------------------------------


class TransferToApprove(BaseModel):
    """What the approver decides on; its hash goes into the decision's evidence."""

    model_config = ConfigDict(frozen=True)

    transfer_id: str
    session_id: str
    requested_by: str
    from_account: str
    to_account: str
    recipient: str
    amount: Decimal
    currency: str
    threshold: Decimal
