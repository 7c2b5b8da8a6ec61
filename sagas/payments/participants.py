"""The participant clearing: sets amounts aside, and lets them go. Its ledger is in its own schema.

A payment moves exactly what was held for it, from and to the accounts that were held for: whoever releases names the
hold, never an amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from events.payments import CancelHold, HoldPayment, PaymentHeld, PaymentReleased, ReleasePayment
from orchestrator import Done, Refused
from orchestrator.participants import Participant, Work, load_queries

SQL = load_queries("sagas.payments", "clearing.sql")

clearing = Participant("clearing", migrations=Path(__file__).parent / "migrations" / "clearing")


@clearing.handles(HoldPayment)
async def hold(command: HoldPayment, work: Work) -> PaymentHeld:
    """Sets the amount aside, unless what is held already leaves too little."""
    names = [command.debtor_account, command.beneficiary_account]
    if names[0] == names[1]:
        raise Refused("same_account", "this is the debtor's own account")
    found = {row["account"]: row for row in await work.connection.fetch(SQL["lock_accounts"], names)}
    for name in names:
        if name not in found:
            raise Refused("unknown_account", name)
        if found[name]["currency"] != command.currency:
            raise Refused("currency_differs", f"{name} is kept in {found[name]['currency']}")
    free = found[names[0]]["balance"] - await work.connection.fetchval(SQL["held"], names[0])
    if free < command.amount:
        raise Refused("insufficient_funds", f"{free} {command.currency} is free")
    hold_id = f"H-{uuid5(NAMESPACE_URL, work.tenant + work.key)}"
    row = (hold_id, work.key, command.payment_id, *names, command.amount, command.currency)
    await work.connection.execute(SQL["hold"], *row)
    return PaymentHeld(hold_id=hold_id)


@clearing.handles(CancelHold)
async def cancel(command: CancelHold, work: Work) -> Done:
    """Gives the amount free."""
    _, kind = await _hold(command.hold_id, work)
    if kind == "released":
        raise Refused("already_released", "the money has moved")
    if not kind:
        await work.connection.execute(SQL["close"], command.hold_id, "cancelled", "")
    return Done()


@clearing.handles(ReleasePayment)
async def release(command: ReleasePayment, work: Work) -> PaymentReleased:
    """Moves what was held: hold, balances and postings in one transaction."""
    found, kind = await _hold(command.hold_id, work)
    if kind:
        raise Refused(f"already_{kind}", command.hold_id)
    accounts, amounts = [found["debtor"], found["creditor"]], [-found["amount"], found["amount"]]
    reference = str(await work.connection.fetchval(SQL["next_reference"]))
    await work.connection.execute(SQL["move"], accounts, amounts)
    await work.connection.execute(SQL["post"], reference, accounts, amounts, command.purpose)
    await work.connection.execute(SQL["close"], command.hold_id, "released", reference)
    return PaymentReleased(reference=reference)


async def _hold(hold_id: str, work: Work) -> tuple[Mapping[str, Any], str]:
    """A hold and how it ended ("": it is open), with its accounts locked. Raises Refused."""
    found = await work.connection.fetchrow(SQL["held_as"], hold_id)
    if found is None:
        raise Refused("unknown_hold", hold_id)
    await work.connection.fetch(SQL["lock_accounts"], [found["debtor"], found["creditor"]])
    return dict(found), await work.connection.fetchval(SQL["how_closed"], hold_id) or ""
