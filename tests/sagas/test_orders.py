"""The order saga, specified: what has happened, what comes, what follows."""

from __future__ import annotations

from decimal import Decimal

import pytest

from events.orders import (
    CancelShipment,
    ChargePayment,
    ConfirmShipment,
    InventoryReserved,
    OrderCancelled,
    OrderConfirmed,
    OrderFailed,
    OrderLine,
    OrderPlaced,
    OrderShipped,
    PaymentCharged,
    Quantity,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipmentConfirmed,
    ShipOrder,
)
from orchestrator.testing import (
    arrived,
    asked,
    compensated,
    ended,
    given,
    operated,
    published,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settling,
    stuck,
    unanswered,
    undo_refused,
    undone,
)
from orchestrator.testing.explore import explore
from sagas.orders.definition import (
    charge_payment,
    confirm_shipment,
    order_fulfilment,
    reserve_inventory,
    ship_order,
)

PLACED = OrderPlaced(
    order_id="o-1",
    customer_id="ravi",
    lines=(
        OrderLine(sku="lamp", quantity=2, unit_price=Decimal("19.90")),
        OrderLine(sku="desk", quantity=1, unit_price=Decimal(150)),
    ),
    card="card-gold",
    address="1 High Street",
)
RESERVE = ReserveInventory(order_id="o-1", lines=(Quantity(sku="lamp", quantity=2), Quantity(sku="desk", quantity=1)))
CHARGE = ChargePayment(order_id="o-1", customer_id="ravi", card="card-gold", amount=Decimal("189.80"), currency="EUR")
SHIP = ShipOrder(order_id="o-1", reservation_id="R-1", address="1 High Street")
CONFIRM = ConfirmShipment(order_id="o-1", shipment_id="S-1")
RELEASE, REFUND = ReleaseInventory(reservation_id="R-1"), RefundPayment(charge_id="C-1")
CANCEL = CancelShipment(shipment_id="S-1")

RESERVED = replied(reserve_inventory, InventoryReserved(reservation_id="R-1"))
CHARGED = replied(charge_payment, PaymentCharged(charge_id="C-1", amount=Decimal("189.80")))
SHIPPED = replied(ship_order, OrderShipped(shipment_id="S-1", tracking_code="T1"))
CONFIRMED = replied(confirm_shipment, ShipmentConfirmed(shipment_id="S-1"))


def failed(reason: str) -> OrderFailed:
    return OrderFailed(order_id="o-1", reason=reason)


def test_an_order_is_reserved_charged_shipped_and_confirmed() -> None:
    spec = given(order_fulfilment, PLACED).then(asked(RESERVE))
    spec.when(RESERVED).then(asked(CHARGE))
    spec.when(CHARGED).then(asked(SHIP))
    spec.when(SHIPPED).then(asked(CONFIRM))
    spec.when(CONFIRMED).then(published(OrderConfirmed(order_id="o-1", tracking_code="T1")), ended("completed"))


def test_what_is_out_of_stock_ends_the_order_and_nothing_is_taken_back() -> None:
    given(order_fulfilment, PLACED).when(refused(reserve_inventory, "out_of_stock: desk")).then(
        published(failed("out_of_stock: desk")), compensated("out_of_stock: desk")
    )


def test_a_refused_card_releases_the_goods() -> None:
    given(order_fulfilment, PLACED, RESERVED).when(refused(charge_payment, "declined")).then(
        asked(RELEASE), published(failed("declined")), compensated("declined")
    )


def test_without_a_carrier_money_and_goods_go_back() -> None:
    given(order_fulfilment, PLACED, RESERVED, CHARGED).when(refused(ship_order, "no_carrier")).then(
        asked(REFUND), asked(RELEASE), published(failed("no_carrier")), compensated("no_carrier")
    )


def test_a_lost_parcel_takes_everything_back_in_reverse_order() -> None:
    spec = given(order_fulfilment, PLACED, RESERVED, CHARGED, SHIPPED)
    plan = [activity.rpartition("/")[2] for activity in spec.undo_plan()]
    assert plan == ["ship_order", "charge_payment", "reserve_inventory"]
    spec.when(refused(confirm_shipment, "lost")).then(
        asked(CANCEL), asked(REFUND), asked(RELEASE), published(failed("lost")), compensated("lost")
    )


@pytest.mark.parametrize("paid", [False, True])
def test_the_customer_may_cancel_while_a_step_is_under_way(paid: bool) -> None:
    """What is under way is settled first: only then is it known what must be undone."""
    spec = given(order_fulfilment, PLACED, RESERVED, *([CHARGED] if paid else []))
    under_way = ship_order if paid else charge_payment
    spec.when(arrived(OrderCancelled(order_id="o-1", reason="changed my mind"))).then(settling(under_way))
    spec.when(settled_not_done(under_way)).then(
        *([asked(REFUND)] if paid else []),
        asked(RELEASE),
        published(failed("cancelled by the customer")),
        compensated("cancelled by the customer"),
    )


def test_a_cancellation_finds_the_payment_already_made() -> None:
    spec = given(order_fulfilment, PLACED, RESERVED).when(arrived(OrderCancelled(order_id="o-1")))
    reason = "cancelled by the customer"
    spec.when(settled_done(charge_payment, PaymentCharged(charge_id="C-1", amount=Decimal("189.80")))).then(
        asked(REFUND), asked(RELEASE), published(failed(reason)), compensated(reason)
    )


def test_a_cancellation_after_the_hand_over_began_changes_nothing() -> None:
    """The pivot is under way: it is no longer the customer's to stop."""
    spec = given(order_fulfilment, PLACED, RESERVED, CHARGED, SHIPPED)
    spec.when(arrived(OrderCancelled(order_id="o-1"))).then_nothing()
    spec.when(CONFIRMED).then(published(OrderConfirmed(order_id="o-1", tracking_code="T1")), ended("completed"))


def test_a_payment_without_answer_is_settled_before_anything_is_undone() -> None:
    spec = given(order_fulfilment, PLACED, RESERVED).when(unanswered(charge_payment))
    spec.then(settling(charge_payment))
    reason = "no answer in time"
    spec.when(settled_not_done(charge_payment)).then(asked(RELEASE), published(failed(reason)), compensated(reason))


def test_a_refund_that_is_refused_waits_for_a_person_and_the_goods_wait_with_it() -> None:
    """Money that is owed never vanishes from sight, and the order of undoing holds."""
    spec = given(order_fulfilment, PLACED, RESERVED, CHARGED, refused(ship_order, "no_carrier"), answer_undos=False)
    spec.when(undo_refused(charge_payment, "account closed")).then(stuck(charge_payment, "refused"))
    spec.when(operated("retry", charge_payment, by="olga", reason="the account is open again")).then(asked(REFUND))
    spec.when(undone(charge_payment)).then(asked(RELEASE))
    spec.when(undone(reserve_inventory)).then(published(failed("no_carrier")), compensated("no_carrier"))


def test_whatever_happens_an_order_ends_or_waits_for_a_person() -> None:
    """Random refusals, silences, duplicates, cancellations and crashes, checked against the kernel's invariants."""
    assert set(explore(order_fulfilment, PLACED, seeds=60).ended) == {"completed", "compensated"}
