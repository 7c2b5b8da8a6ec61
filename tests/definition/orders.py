"""The order saga as test data: reserve, charge, ship, confirm; a cancellation interrupts until the parcel leaves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum

from orchestrator import (
    Command,
    Done,
    Event,
    Failure,
    Key,
    Reply,
    Retry,
    Saga,
    enter,
    fail,
    pivot,
    publish,
    scope,
    step,
)


class OrderPlaced(Event):
    """A customer wants this."""

    order_id: Key[str]
    customer_id: str
    amount: Decimal


class OrderCancelled(Event):
    """The customer does not want it any more."""

    order_id: Key[str]
    reason: str


class OrderConfirmed(Event):
    """It is on its way."""

    order_id: Key[str]
    parcel_id: str


class OrderFailed(Event):
    """It will not come, and everything is given back."""

    order_id: Key[str]
    reason: str


class InventoryReserved(Reply):
    """Set aside in the warehouse."""

    reservation_id: str


class PaymentCharged(Reply):
    """The money is here."""

    payment_id: str


class OrderShipped(Reply):
    """The parcel has left."""

    parcel_id: str


class ReserveInventory(Command[InventoryReserved], to="inventory"):
    """Set the goods aside."""

    order_id: str


class ReleaseInventory(Command[Done], to="inventory"):
    """Put the goods back."""

    reservation_id: str


class ChargePayment(Command[PaymentCharged], to="payments"):
    """Take the money."""

    customer_id: str
    amount: Decimal


class RefundPayment(Command[Done], to="payments"):
    """Give the money back."""

    payment_id: str


class ShipOrder(Command[OrderShipped], to="shipping"):
    """Send the parcel."""

    reservation_id: str


class OrderState(Enum):
    """What the customer sees."""

    PLACED = "placed"
    PAID = "paid"
    SHIPPED = "shipped"
    FAILED = "failed"


@step
def reserve_inventory(order: OrderPlaced) -> ReserveInventory:
    return ReserveInventory(order_id=order.order_id)


@reserve_inventory.undo
def release_inventory(reserved: InventoryReserved) -> ReleaseInventory:
    return ReleaseInventory(reservation_id=reserved.reservation_id)


@step(retry=Retry(attempts=5), within=timedelta(seconds=20))
def charge_payment(order: OrderPlaced) -> ChargePayment:
    return ChargePayment(customer_id=order.customer_id, amount=order.amount)


@charge_payment.undo(retry=Retry(attempts=10))
def refund_payment(charged: PaymentCharged) -> RefundPayment:
    return RefundPayment(payment_id=charged.payment_id)


@step
def ship_order(reserved: InventoryReserved) -> ShipOrder:
    return ShipOrder(reservation_id=reserved.reservation_id)


def order_confirmed(order: OrderPlaced, shipped: OrderShipped) -> OrderConfirmed:
    return OrderConfirmed(order_id=order.order_id, parcel_id=shipped.parcel_id)


def order_failed(order: OrderPlaced, cancelled: OrderCancelled | None, failure: Failure) -> OrderFailed:
    return OrderFailed(order_id=order.order_id, reason=cancelled.reason if cancelled else failure.reason)


order = Saga(
    "order",
    version=1,
    starts_on=OrderPlaced,
    flow=[
        scope(reserve_inventory, charge_payment, enter(OrderState.PAID)).on_event(OrderCancelled, fail("cancelled")),
        pivot(ship_order),
        enter(OrderState.SHIPPED),
        publish(order_confirmed),
    ],
    on_failed=[enter(OrderState.FAILED), publish(order_failed)],
    states={
        OrderState.PLACED: [OrderState.PAID, OrderState.FAILED],
        OrderState.PAID: [OrderState.SHIPPED, OrderState.FAILED],
        OrderState.SHIPPED: [],
        OrderState.FAILED: [],
    },
)
