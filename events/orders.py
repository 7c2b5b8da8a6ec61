"""Contracts of order fulfilment: what the shop, the warehouse, the payment service and the carrier say to each other.

Topics: `orders.events` (keyed by order id), and commands and replies of the participants inventory, payments, shipping.
What an order says decides how it ends, so that sample traffic is reproducible:
- a sku that the warehouse does not have, or has too few of, is refused (`unknown_sku`, `out_of_stock`);
- a card that the payment service does not know, or that does not cover the total, is refused (`unknown_card`,
  `declined`);
- an address with the word "nowhere" has no carrier (`no_carrier`), one with "lost" loses its parcel (`lost`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator import Command, Done, Event, Key, Personal, Reply

Amount = Annotated[Decimal, Field(gt=0, max_digits=15, decimal_places=2)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Sku = Annotated[str, Field(min_length=1, max_length=64)]


class Quantity(BaseModel):
    """So many pieces of one article."""

    model_config = ConfigDict(frozen=True)

    sku: Sku
    quantity: int = Field(gt=0, le=10_000)


class OrderLine(Quantity):
    """One line of an order. `unit_price`: of one piece, in the order's currency."""

    unit_price: Amount


# --- events -----------------------------------------------------------------------------------------------------------


class OrderPlaced(Event):
    """A customer has ordered. Starts the saga of this order."""

    order_id: Key[str]
    customer_id: Personal[str]
    lines: tuple[OrderLine, ...] = Field(min_length=1, max_length=200)
    card: Text
    address: Personal[str]
    currency: Currency = "EUR"

    @property
    def total(self) -> Decimal:
        """What the whole order costs."""
        return sum((line.unit_price * line.quantity for line in self.lines), Decimal(0))


class OrderCancelled(Event):
    """The customer no longer wants it. Counts until the carrier has the parcel."""

    order_id: Key[str]
    reason: str = ""


class OrderConfirmed(Event):
    """The parcel is with the carrier and the money is charged: nothing is taken back any more."""

    order_id: Key[str]
    tracking_code: str


class OrderFailed(Event):
    """The order will not come; goods and money are where they were. `reason`: of the step that failed."""

    order_id: Key[str]
    reason: str


# --- inventory --------------------------------------------------------------------------------------------------------


class InventoryReserved(Reply):
    """All lines are set aside."""

    reservation_id: str


class ReserveInventory(Command[InventoryReserved], to="inventory"):
    """Set all lines aside, or none. Refused: `unknown_sku`, `out_of_stock`."""

    order_id: str
    lines: tuple[Quantity, ...] = Field(min_length=1, max_length=200)


class ReleaseInventory(Command[Done], to="inventory"):
    """Put a reservation back on the shelf. Undo of ReserveInventory."""

    reservation_id: str


# --- payments ---------------------------------------------------------------------------------------------------------


class PaymentCharged(Reply):
    """The money is ours."""

    charge_id: str
    amount: Amount


class ChargePayment(Command[PaymentCharged], to="payments"):
    """Charge the customer's card. Refused: `unknown_card`, `declined`."""

    order_id: str
    customer_id: Personal[str]
    card: Text
    amount: Amount
    currency: Currency


class RefundPayment(Command[Done], to="payments"):
    """Give a charge back, in full. Undo of ChargePayment."""

    charge_id: str


# --- shipping ---------------------------------------------------------------------------------------------------------


class OrderShipped(Reply):
    """A carrier has taken the job and will fetch the parcel."""

    shipment_id: str
    tracking_code: str


class ShipOrder(Command[OrderShipped], to="shipping"):
    """Find a carrier for the reserved goods. Refused: `no_carrier`."""

    order_id: str
    reservation_id: str
    address: Personal[str]


class CancelShipment(Command[Done], to="shipping"):
    """Send the carrier away again. Undo of ShipOrder."""

    shipment_id: str


class ShipmentConfirmed(Reply):
    """The carrier has the parcel."""

    shipment_id: str


class ConfirmShipment(Command[ShipmentConfirmed], to="shipping"):
    """Hand the parcel over: the point of no return. Refused: `lost`."""

    order_id: str
    shipment_id: str
