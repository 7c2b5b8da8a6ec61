"""The participant payments: charges cards and gives money back. Its ledger is in its own schema."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from events.orders import ChargePayment, PaymentCharged, RefundPayment
from orchestrator import Done, Refused
from orchestrator.participants import Asked, ManyWork, Participant, load_queries

SQL = load_queries("sagas.orders", "payments.sql")

payments = Participant("payments", migrations=Path(__file__).parent / "migrations" / "payments")

Entry = tuple[str, str, str, str, str, Decimal, str]  # key, charge, order, customer, kind, amount, currency


@payments.handles_many(ChargePayment)
async def charge(asked: list[Asked[ChargePayment]], work: ManyWork) -> list[PaymentCharged | Refused]:
    """A card covers single charges up to its limit."""
    rows = await work.connection.fetch(SQL["cards"], list({one.command.card for one in asked}))
    covers: dict[str, Decimal] = {row["card"]: row["covers"] for row in rows}
    entries: list[Entry] = []
    answers: list[PaymentCharged | Refused] = []
    for one in asked:
        command = one.command
        if command.card not in covers:
            answers.append(Refused("unknown_card", command.card))
        elif covers[command.card] < command.amount:
            answers.append(Refused("declined", f"{command.card} does not cover {command.amount} {command.currency}"))
        else:
            charge_id = f"C-{uuid5(NAMESPACE_URL, one.tenant + one.key)}"
            whose = (command.order_id, command.customer_id)
            entries.append((one.key, charge_id, *whose, "charge", command.amount, command.currency))
            answers.append(PaymentCharged(charge_id=charge_id, amount=command.amount))
    await _enter(work, entries)
    return answers


@payments.handles_many(RefundPayment)
async def refund(asked: list[Asked[RefundPayment]], work: ManyWork) -> list[Done | Refused]:
    """Gives back exactly what was charged."""
    rows = await work.connection.fetch(SQL["charges"], [one.command.charge_id for one in asked])
    charges = {row["charge_id"]: row for row in rows}
    entries: list[Entry] = []
    answers: list[Done | Refused] = []
    for one in asked:
        found = charges.get(one.command.charge_id)
        if found is None:
            answers.append(Refused("unknown_charge", one.command.charge_id))
            continue
        whose = (found["order_id"], found["customer_id"])
        entries.append((one.key, one.command.charge_id, *whose, "refund", -found["amount"], found["currency"]))
        answers.append(Done())
    await _enter(work, entries)
    return answers


async def _enter(work: ManyWork, entries: list[Entry]) -> None:
    if entries:
        await work.connection.execute(SQL["add_entries"], *(list(column) for column in zip(*entries, strict=True)))
