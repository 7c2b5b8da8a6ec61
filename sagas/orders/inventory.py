"""The participant inventory: sets goods aside and puts them back. Stock and ledger are in its own schema.

All handlers take many commands at once: a batch of hundreds costs four statements. Articles are locked in the order of
their names, and an order is set aside whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from events.orders import InventoryReserved, ReleaseInventory, ReserveInventory
from orchestrator import Done, Refused
from orchestrator.participants import Asked, ManyWork, Participant, load_queries

SQL = load_queries("sagas.orders", "inventory.sql")

inventory = Participant("inventory", migrations=Path(__file__).parent / "migrations" / "inventory")

Movement = tuple[str, str, str, str, str, int]  # key, sku, reservation, order, kind, quantity


@inventory.handles_many(ReserveInventory)
async def reserve(asked: list[Asked[ReserveInventory]], work: ManyWork) -> list[InventoryReserved | Refused]:
    """Each order in turn takes what the ones before it have left."""
    wanted = [Counter[str]() for _ in asked]
    for one, order in zip(asked, wanted, strict=True):
        for line in one.command.lines:
            order[line.sku] += line.quantity
    skus = sorted({sku for order in wanted for sku in order})
    rows = await work.connection.fetch(SQL["lock_stock"], skus)
    free: dict[str, int] = {row["sku"]: row["available"] for row in rows}
    answers: list[InventoryReserved | Refused] = []
    movements: list[Movement] = []
    for one, order in zip(asked, wanted, strict=True):
        refusal = _refusal(order, free)
        if refusal is not None:
            answers.append(refusal)
            continue
        reservation = f"R-{uuid5(NAMESPACE_URL, one.tenant + one.key)}"
        for sku, quantity in order.items():
            free[sku] -= quantity
            movements.append((one.key, sku, reservation, one.command.order_id, "reserved", -quantity))
        answers.append(InventoryReserved(reservation_id=reservation))
    await _move(work, movements)
    return answers


@inventory.handles_many(ReleaseInventory)
async def release(asked: list[Asked[ReleaseInventory]], work: ManyWork) -> list[Done | Refused]:
    """Puts back what the reservation's own movements say."""
    rows = await work.connection.fetch(SQL["reserved"], [one.command.reservation_id for one in asked])
    held: dict[str, list[tuple[str, str, int]]] = {}
    for row in rows:
        held.setdefault(row["reservation_id"], []).append((row["sku"], row["order_id"], row["quantity"]))
    await work.connection.fetch(SQL["lock_stock"], sorted({row["sku"] for row in rows}))
    movements: list[Movement] = []
    answers: list[Done | Refused] = []
    for one in asked:
        reservation = one.command.reservation_id
        movements += [
            (one.key, sku, reservation, order_id, "released", quantity)
            for sku, order_id, quantity in held.get(reservation, ())
        ]
        answers.append(Done() if reservation in held else Refused("unknown_reservation", reservation))
    await _move(work, movements)
    return answers


def _refusal(order: Counter[str], free: dict[str, int]) -> Refused | None:
    for sku, quantity in order.items():
        if sku not in free:
            return Refused("unknown_sku", sku)
        if free[sku] < quantity:
            return Refused("out_of_stock", f"{sku}: {quantity} wanted, {free[sku]} left")
    return None


async def _move(work: ManyWork, movements: list[Movement]) -> None:
    """Stock and ledger change together."""
    if not movements:
        return
    change = Counter[str]()
    for _, sku, _, _, _, quantity in movements:
        change[sku] += quantity
    await work.connection.execute(SQL["change_stock"], list(change), list(change.values()))
    await work.connection.execute(SQL["add_movements"], *(list(column) for column in zip(*movements, strict=True)))
