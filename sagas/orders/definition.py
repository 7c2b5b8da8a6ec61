"""Order fulfilment: reserve inventory → charge payment → ship → confirm.

Until the carrier has the parcel everything can be taken back, in reverse order: cancel the shipment, refund the
payment, release the inventory. The customer may cancel as long as the parcel is not on its way to the carrier.
Source: the order saga of the orchestration handbook; compensation after Garcia-Molina & Salem 1987.
"""

from __future__ import annotations

from datetime import timedelta

from events.orders import (
    CancelShipment,
    ChargePayment,
    ConfirmShipment,
    InventoryReserved,
    OrderCancelled,
    OrderConfirmed,
    OrderFailed,
    OrderPlaced,
    OrderShipped,
    PaymentCharged,
    Quantity,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipOrder,
)
from orchestrator import CustomerView, Failure, Retry, Saga, fail, pivot, publish, scope, step

PATIENT = Retry(attempts=5)
FIRM = Retry(attempts=20)  # what is owed to a customer is asked for longer


@step(retry=PATIENT, within=timedelta(seconds=30))
def reserve_inventory(order: OrderPlaced) -> ReserveInventory:
    lines = tuple(Quantity(sku=line.sku, quantity=line.quantity) for line in order.lines)
    return ReserveInventory(order_id=order.order_id, lines=lines)


@reserve_inventory.undo(retry=FIRM)
def release_inventory(reserved: InventoryReserved) -> ReleaseInventory:
    return ReleaseInventory(reservation_id=reserved.reservation_id)


@step(retry=PATIENT, within=timedelta(seconds=30))
def charge_payment(order: OrderPlaced) -> ChargePayment:
    return ChargePayment(
        order_id=order.order_id,
        customer_id=order.customer_id,
        card=order.card,
        amount=order.total,
        currency=order.currency,
    )


@charge_payment.undo(retry=FIRM)
def refund_payment(charged: PaymentCharged) -> RefundPayment:
    return RefundPayment(charge_id=charged.charge_id)


@step(retry=PATIENT, within=timedelta(seconds=30))
def ship_order(order: OrderPlaced, reserved: InventoryReserved) -> ShipOrder:
    return ShipOrder(order_id=order.order_id, reservation_id=reserved.reservation_id, address=order.address)


@ship_order.undo(retry=FIRM)
def cancel_shipment(shipped: OrderShipped) -> CancelShipment:
    return CancelShipment(shipment_id=shipped.shipment_id)


@step(retry=PATIENT, within=timedelta(seconds=30))
def confirm_shipment(order: OrderPlaced, shipped: OrderShipped) -> ConfirmShipment:
    return ConfirmShipment(order_id=order.order_id, shipment_id=shipped.shipment_id)


def order_confirmed(order: OrderPlaced, shipped: OrderShipped) -> OrderConfirmed:
    return OrderConfirmed(order_id=order.order_id, tracking_code=shipped.tracking_code)


def order_failed(order: OrderPlaced, failure: Failure) -> OrderFailed:
    return OrderFailed(order_id=order.order_id, reason=failure.reason)


order_fulfilment = Saga(
    "order-fulfilment",
    version=1,
    starts_on=OrderPlaced,
    flow=[
        scope(reserve_inventory, charge_payment, ship_order).on_event(
            OrderCancelled, fail("cancelled by the customer")
        ),
        pivot(confirm_shipment),
        publish(order_confirmed),
    ],
    on_failed=publish(order_failed),
)

customer_view = CustomerView(
    "order-fulfilment",
    title="Your order",
    fields={"currency": "Currency"},
    steps={
        "reserve_inventory": "Your items are set aside",
        "charge_payment": "Paid",
        "ship_order": "Handed to the carrier",
        "confirm_shipment": "On its way",
    },
    endings={"completed": "On its way", "returned": "Cancelled; what you paid is paid back"},
)
