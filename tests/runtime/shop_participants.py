"""Participants of the test shop: they do nothing but answer, once per key, from their own inbox."""

from __future__ import annotations

from orchestrator.messages import Done
from orchestrator.participants import Participant, Work
from tests.runtime.shop import Charge, Charged, Refund, Release, Reserve, Reserved, Ship

inventory = Participant("inventory")
payment = Participant("payment")
shipping = Participant("shipping")


@inventory.handles(Reserve)
async def reserve(command: Reserve, work: Work) -> Reserved:
    return Reserved(hold=f"hold-{command.order_id}")


@inventory.handles(Release)
async def release(command: Release, work: Work) -> Done:
    return Done()


@payment.handles(Charge)
async def charge(command: Charge, work: Work) -> Charged:
    return Charged(receipt=f"receipt-{command.order_id}")


@payment.handles(Refund)
async def refund(command: Refund, work: Work) -> Done:
    return Done()


@shipping.handles(Ship)
async def ship(command: Ship, work: Work) -> Done:
    return Done()


PARTICIPANTS = (inventory, payment, shipping)
