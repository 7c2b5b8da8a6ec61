"""The participant shipping: finds carriers, sends them away, hands parcels over. Its ledger is in its own schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from events.orders import CancelShipment, ConfirmShipment, OrderShipped, ShipmentConfirmed, ShipOrder
from orchestrator import Done, Refused
from orchestrator.participants import Asked, ManyWork, Participant, load_queries

SQL = load_queries("sagas.orders", "shipping.sql")

shipping = Participant("shipping", migrations=Path(__file__).parent / "migrations" / "shipping")

Leg = tuple[str, str, str, str, str, str]  # key, shipment, order, kind, tracking code, address


@shipping.handles_many(ShipOrder)
async def ship(asked: list[Asked[ShipOrder]], work: ManyWork) -> list[OrderShipped | Refused]:
    """Books a carrier for each address that has one."""
    legs: list[Leg] = []
    answers: list[OrderShipped | Refused] = []
    for one in asked:
        command = one.command
        if "nowhere" in command.address.lower():
            answers.append(Refused("no_carrier", "no carrier goes there"))
            continue
        number = uuid5(NAMESPACE_URL, one.tenant + one.key)
        shipment, tracking = f"S-{number}", f"T{number.int % 10**12:012}"
        legs.append((one.key, shipment, command.order_id, "booked", tracking, command.address))
        answers.append(OrderShipped(shipment_id=shipment, tracking_code=tracking))
    await _enter(work, legs)
    return answers


@shipping.handles_many(CancelShipment)
async def cancel(asked: list[Asked[CancelShipment]], work: ManyWork) -> list[Done | Refused]:
    """Sends the carrier away, unless the parcel is already with them."""
    known = await _known(work, [one.command.shipment_id for one in asked])
    legs: list[Leg] = []
    answers: list[Done | Refused] = []
    for one in asked:
        found = known.get(one.command.shipment_id)
        refusal = _refusal(one.command.shipment_id, found)
        if found is not None and refusal is None:
            legs.append(_leg(one.key, "cancelled", found))
        answers.append(refusal or Done())
    await _enter(work, legs)
    return answers


@shipping.handles_many(ConfirmShipment)
async def confirm(asked: list[Asked[ConfirmShipment]], work: ManyWork) -> list[ShipmentConfirmed | Refused]:
    """Hands the parcel over; some addresses lose theirs."""
    known = await _known(work, [one.command.shipment_id for one in asked])
    legs: list[Leg] = []
    answers: list[ShipmentConfirmed | Refused] = []
    for one in asked:
        found = known.get(one.command.shipment_id)
        refusal = _refusal(one.command.shipment_id, found)
        if found is not None and refusal is None:
            if "lost" in found["address"].lower():
                refusal = Refused("lost", "the parcel was lost before the carrier had it")
            else:
                legs.append(_leg(one.key, "handed_over", found))
        answers.append(refusal or ShipmentConfirmed(shipment_id=one.command.shipment_id))
    await _enter(work, legs)
    return answers


def _refusal(shipment_id: str, found: Mapping[str, Any] | None) -> Refused | None:
    if found is None:
        return Refused("unknown_shipment", shipment_id)
    if found["ended"] is not None:
        return Refused("already_" + found["ended"], shipment_id)
    return None


def _leg(key: str, kind: str, found: Mapping[str, Any]) -> Leg:
    return key, found["shipment_id"], found["order_id"], kind, found["tracking_code"], found["address"]


async def _known(work: ManyWork, shipments: list[str]) -> dict[str, Mapping[str, Any]]:
    rows = await work.connection.fetch(SQL["legs"], shipments)
    return {row["shipment_id"]: dict(row) for row in rows}


async def _enter(work: ManyWork, legs: list[Leg]) -> None:
    if legs:
        await work.connection.execute(SQL["add_legs"], *(list(column) for column in zip(*legs, strict=True)))
