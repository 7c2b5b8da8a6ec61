"""The participant accounts: looks, holds, and has the bank move the money.

Holds are rows in its own schema. The transfer itself is an effect outside: it happens at the bank, under this command's
idempotency key, and the bank can be asked what became of a key (it remembers keys for good; we count on 30 days).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from events.transfers import (
    ExecuteTransfer,
    FundsHeld,
    HoldFunds,
    ReleaseFunds,
    TransferExecuted,
    TransferValidated,
    ValidateTransfer,
)
from orchestrator import Done, Refused
from orchestrator.participants import OwnSchema, Participant, Work, load_queries
from sagas.transfers.bank_client import BankClient, amount_text
from sagas.transfers.settings import transfer_settings

SQL = load_queries("sagas.transfers", "accounts.sql")
MIGRATIONS = Path(__file__).parent / "migrations"

accounts = Participant("accounts", migrations=MIGRATIONS / "accounts")
chats = OwnSchema("chats", MIGRATIONS / "chats")  # of routes.py; here, so that it is migrated with the rest
bank = BankClient(transfer_settings().bank_url)


@accounts.handles(ValidateTransfer, reads=True, outside=True, limit=timedelta(seconds=10))
async def validate(command: ValidateTransfer, work: Work) -> TransferValidated:
    """Looks at both accounts; changes nothing."""
    sender = await bank.account(command.from_account, work.time_left())
    if sender is None:
        raise Refused("unknown_account", command.from_account)
    found = await bank.accounts_of(command.recipient, work.time_left())
    if len(found) != 1:
        many = f"{command.recipient} has {len(found)} accounts" if found else f"nobody is called {command.recipient}"
        raise Refused("ambiguous_recipient" if found else "unknown_recipient", many)
    [receiver] = found
    if receiver["account"] == sender["account"]:
        raise Refused("same_account", "this is the sender's own account")
    for account in (sender, receiver):
        if account["currency"] != command.currency:
            raise Refused("currency_differs", f"{account['account']} is kept in {account['currency']}")
    validated = TransferValidated(to_account=receiver["account"], available=sender["balance"])
    if validated.available < command.amount:
        raise Refused("insufficient_funds", f"{validated.available} {command.currency} is there")
    return validated


@accounts.handles(HoldFunds)
async def hold(command: HoldFunds, work: Work) -> FundsHeld:
    """Sets the amount aside, unless what is promised already leaves too little."""
    await work.connection.fetchval(SQL["lock_account"], command.account)
    promised = await work.connection.fetchval(SQL["promised"], command.account)
    if promised + command.amount > command.available:
        raise Refused("insufficient_funds", f"{command.available} is there, {promised} of it is promised already")
    hold_id = f"H-{uuid5(NAMESPACE_URL, work.tenant + work.key)}"
    await work.connection.execute(SQL["hold"], hold_id, work.key, command.transfer_id, command.account, command.amount)
    return FundsHeld(hold_id=hold_id)


@accounts.handles(ReleaseFunds)
async def release(command: ReleaseFunds, work: Work) -> Done:
    """Gives the amount free."""
    kind = await work.connection.fetchval(SQL["how_closed"], command.hold_id)
    if kind is None:
        raise Refused("unknown_hold", command.hold_id)
    if kind == "used":
        raise Refused("already_used", "the money has moved")
    await work.connection.execute(SQL["close"], command.hold_id, "released")
    return Done()


async def ask_bank(command: ExecuteTransfer, work: Work) -> TransferExecuted | None:
    """What became of this transfer at the bank."""
    reference = await bank.find(work.key, work.time_left())
    return TransferExecuted(reference=reference) if reference is not None else None


async def use_hold(command: ExecuteTransfer, reply: TransferExecuted, work: Work) -> None:
    """The money has moved: its hold is used up, in the transaction that stores the outcome."""
    await work.connection.execute(SQL["close"], command.hold_id, "used")


@accounts.handles(
    ExecuteTransfer,
    lookup=ask_bank,
    lookup_for=timedelta(days=30),
    lease=timedelta(seconds=20),
    settling=timedelta(seconds=5),
    record=use_hold,
)
async def execute(command: ExecuteTransfer, work: Work) -> TransferExecuted:
    """Has the bank move the money, under this command's key."""
    order = {
        "fromAccount": command.from_account,
        "toAccount": command.to_account,
        "amount": amount_text(command.amount),
        "currency": command.currency,
    }
    return TransferExecuted(reference=await bank.transfer(work.key, order, work.traceparent, work.time_left()))
