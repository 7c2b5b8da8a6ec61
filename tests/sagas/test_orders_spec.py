"""Every path of the order saga: each step, answered in every way, at every point at which somebody may stop it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

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
from orchestrator import Command
from orchestrator.testing import (
    Given,
    Output,
    Spec,
    answered_late,
    arrived,
    asked,
    cancelled,
    compensated,
    denied,
    elapsed,
    ended,
    errored,
    given,
    operated,
    published,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settled_refused,
    settling,
    started,
    stuck,
    unanswered,
    undo_refused,
    undone,
)
from sagas.orders.definition import charge_payment, confirm_shipment, order_fulfilment, reserve_inventory, ship_order

PLACED = OrderPlaced(
    order_id="o-1",
    customer_id="ravi",
    lines=(OrderLine(sku="lamp", quantity=2, unit_price=Decimal("19.90")),),
    card="card-gold",
    address="1 High Street",
)
R = InventoryReserved(reservation_id="R-1")
C = PaymentCharged(charge_id="C-1", amount=Decimal("39.80"))
S = OrderShipped(shipment_id="S-1", tracking_code="T1")
K = ShipmentConfirmed(shipment_id="S-1")

STEPS = (reserve_inventory, charge_payment, ship_order)
ANSWERS = (replied(reserve_inventory, R), replied(charge_payment, C), replied(ship_order, S))
SETTLED = (settled_done(reserve_inventory, R), settled_done(charge_payment, C), settled_done(ship_order, S))
COMMANDS: tuple[Command[Any], ...] = (
    ReserveInventory(order_id="o-1", lines=(Quantity(sku="lamp", quantity=2),)),
    ChargePayment(order_id="o-1", customer_id="ravi", card="card-gold", amount=Decimal("39.80"), currency="EUR"),
    ShipOrder(order_id="o-1", reservation_id="R-1", address="1 High Street"),
    ConfirmShipment(order_id="o-1", shipment_id="S-1"),
)
UNDOS: tuple[Command[Any], ...] = (
    ReleaseInventory(reservation_id="R-1"),
    RefundPayment(charge_id="C-1"),
    CancelShipment(shipment_id="S-1"),
)
CONFIRMED = published(OrderConfirmed(order_id="o-1", tracking_code="T1")), ended("completed")

BY_CUSTOMER = arrived(OrderCancelled(order_id="o-1"))
BY_SERVICE = cancelled("ann", "fraud")
CUSTOMER, SERVICE = "cancelled by the customer", "cancelled by ann: fraud"


def order(done: int, *, answer_undos: bool = True) -> Spec:
    """An order of which so many steps are done; the next is under way."""
    return given(order_fulfilment, PLACED, *ANSWERS[:done], answer_undos=answer_undos)


def back(done: int, reason: str) -> list[Output]:
    """What taking so many steps back looks like from outside: in reverse order, then the news, then the end."""
    told = published(OrderFailed(order_id="o-1", reason=reason))
    return [*(asked(undo) for undo in reversed(UNDOS[:done])), told, compensated(reason)]


def test_each_step_is_asked_when_the_one_before_is_done() -> None:
    """The straight way."""
    spec = given(order_fulfilment, PLACED).then(asked(COMMANDS[0]))
    for answer, command in zip(ANSWERS, COMMANDS[1:], strict=True):
        spec.when(answer).then(asked(command))
    spec.when(replied(confirm_shipment, K)).then(*CONFIRMED)


@pytest.mark.parametrize("at", range(3))
def test_a_refusal_at_any_step_takes_back_exactly_what_was_done(at: int) -> None:
    """Nothing for the refused step itself."""
    order(at).when(refused(STEPS[at], "no")).then(*back(at, "no"))


@pytest.mark.parametrize("at", range(3))
def test_a_silent_participant_is_settled_before_anything_is_taken_back(at: int) -> None:
    """All three answers to the question what happened."""
    order(at).when(unanswered(STEPS[at])).then(settling(STEPS[at])).when(SETTLED[at]).then(
        *back(at + 1, "no answer in time")
    )
    order(at).when(unanswered(STEPS[at])).when(settled_not_done(STEPS[at])).then(*back(at, "no answer in time"))
    order(at).when(unanswered(STEPS[at])).when(settled_refused(STEPS[at])).then(*back(at, "no answer in time"))


@pytest.mark.parametrize("at", range(3))
def test_errors_are_asked_again_and_only_then_given_up(at: int) -> None:
    """Five attempts, as the definition says."""
    spec = order(at)
    for attempt in range(5):
        spec.when(errored(STEPS[at], "down")).then(*([settling(STEPS[at])] if attempt == 4 else []))
        spec.when(elapsed(seconds=20)).then_nothing()


@pytest.mark.parametrize(("at", "stop"), list(product(range(3), [(BY_CUSTOMER, CUSTOMER), (BY_SERVICE, SERVICE)])))
def test_whoever_stops_it_whatever_is_under_way_is_settled_first(at: int, stop: tuple[Given, str]) -> None:
    """The customer by an event, the service by a cancel: done, not done, and refused."""
    stopped, reason = stop
    order(at).when(stopped).then(settling(STEPS[at])).when(SETTLED[at]).then(*back(at + 1, reason))
    order(at).when(stopped).when(settled_not_done(STEPS[at])).then(*back(at, reason))
    order(at).when(stopped).when(ANSWERS[at]).then(*back(at + 1, reason))
    order(at).when(stopped).when(refused(STEPS[at])).then(*back(at, reason))


@pytest.mark.parametrize("at", range(3))
def test_a_step_that_pauses_between_attempts_is_settled_too_when_it_is_stopped(at: int) -> None:
    """Its first attempt may have been done."""
    order(at).when(errored(STEPS[at]), BY_CUSTOMER).then(settling(STEPS[at]))


def test_a_customer_who_cancels_before_the_order_came_stops_it_at_once() -> None:
    """Another topic, another partition: the cancellation may be handled first, or up to an hour before."""
    spec = given(order_fulfilment, PLACED).when(arrived(OrderCancelled(order_id="o-1"), ago=timedelta(minutes=30)))
    spec.then(settling(reserve_inventory))
    old = given(order_fulfilment, PLACED).when(arrived(OrderCancelled(order_id="o-1"), ago=timedelta(hours=2)))
    old.then_nothing()


def test_a_cancellation_of_another_order_changes_nothing() -> None:
    """Matched by the order id."""
    order(1).when(arrived(OrderCancelled(order_id="o-2"))).then_nothing()


# --- at the pivot: handing the parcel over


def test_the_customer_is_too_late_once_the_hand_over_began() -> None:
    """The scope has been left: the event stays early and is never taken."""
    spec = order(3).when(BY_CUSTOMER).then_nothing()
    spec.when(replied(confirm_shipment, K)).then(*CONFIRMED)


@pytest.mark.parametrize("done", [True, False])
def test_the_service_may_still_cancel_and_the_hand_over_decides(done: bool) -> None:
    """Rule 16b: done wins, not done turns back."""
    spec = order(3).when(BY_SERVICE).then(settling(confirm_shipment))
    spec.when(BY_SERVICE).then(denied("already_turning"))
    if done:
        spec.when(settled_done(confirm_shipment, K)).then(*CONFIRMED)
    else:
        spec.when(settled_not_done(confirm_shipment)).then(*back(3, SERVICE))


def test_a_refused_hand_over_takes_everything_back() -> None:
    """The pivot had not passed."""
    order(3).when(refused(confirm_shipment, "lost")).then(*back(3, "lost"))


def test_a_hand_over_without_answer_is_settled_and_never_guessed() -> None:
    """Silence at the pivot."""
    silent = order(3).when(unanswered(confirm_shipment)).then(settling(confirm_shipment))
    silent.when(settled_done(confirm_shipment, K)).then(*CONFIRMED)
    order(3).when(unanswered(confirm_shipment)).when(settled_not_done(confirm_shipment)).then(
        *back(3, "gave up after 5 attempts; settled as not done")
    )


def test_a_hand_over_that_nobody_can_settle_waits_for_two_people() -> None:
    """Neither the parcel nor the money is guessed."""
    spec = order(3).when(unanswered(confirm_shipment), unanswered(confirm_shipment))
    assert stuck(confirm_shipment, "unknown").fits(spec.outputs[-1])
    spec.when(operated("settle", confirm_shipment, by="ann", outcome="done", data=K)).then_nothing()
    spec.when(operated("settle", confirm_shipment, by="ann", outcome="done", data=K)).then(denied("second_person"))
    spec.when(operated("settle", confirm_shipment, by="bob", outcome="done", data=K)).then(*CONFIRMED)


def test_nothing_is_taken_back_after_the_hand_over() -> None:
    """The order has ended."""
    order(3).when(replied(confirm_shipment, K)).when(BY_SERVICE).then(denied("ended"))


# --- on the way back


@pytest.mark.parametrize("at", range(3))
def test_an_undo_that_is_refused_waits_and_what_lies_before_it_waits_with_it(at: int) -> None:
    """One after the other, the last first; a person retries."""
    spec = order(3, answer_undos=False).when(refused(confirm_shipment, "lost"))
    for place in (2, 1, 0):
        if place == at:
            break
        spec.when(undone(STEPS[place]))
    spec.when(undo_refused(STEPS[at], "closed")).then(stuck(STEPS[at], "refused"))
    spec.when(elapsed(days=7)).then_nothing()
    spec.when(operated("retry", STEPS[at])).then(asked(UNDOS[at]))
    spec.when(undone(STEPS[at]), *(undone(STEPS[place]) for place in reversed(range(at))))
    assert compensated("lost").fits(spec.outputs[-1])


@pytest.mark.parametrize("act", ["done", "skip"])
def test_a_refund_by_hand_is_taken_over_first(act: str) -> None:
    """Nobody pays back what the participant may still pay back."""
    spec = order(2, answer_undos=False).when(refused(ship_order, "no carrier"), undo_refused(charge_payment))
    spec.when(operated("take_over", charge_payment, by="eve"))
    spec.when(operated(act, charge_payment, by="eve", reason="bank transfer")).then(asked(UNDOS[0]))  # type: ignore[arg-type]
    spec.when(undone(reserve_inventory))
    assert compensated("no carrier").fits(spec.outputs[-1])


def test_a_refund_without_answer_is_asked_for_longer_than_anything_else() -> None:
    """Twenty attempts: what is owed to a customer."""
    spec = order(2, answer_undos=False).when(refused(ship_order, "no carrier")).when(unanswered(charge_payment))
    spec.then(stuck(charge_payment, "undo"))
    refunds = [sent for sent in spec.sent if sent.type == RefundPayment.wire_name]
    assert len(refunds) == 20
    assert len({sent.attributes["idempotencykey"] for sent in refunds}) == 1


# --- everything may come twice, late, or contradict itself


@pytest.mark.parametrize("at", range(3))
def test_an_answer_that_comes_twice_changes_nothing(at: int) -> None:
    """At least once delivery."""
    order(at + 1).when(answered_late(ANSWERS[at])).then_nothing()


@pytest.mark.parametrize("at", range(3))
def test_a_participant_that_contradicts_itself_changes_nothing_and_is_seen(at: int) -> None:
    """An alarm, and the first word stands."""
    spec = order(at + 1).when(answered_late(refused(STEPS[at]))).then_nothing()
    assert spec.records[-1].type == "reply.contradicted"


def test_the_same_order_twice_is_one_order() -> None:
    """And the same id with other contents is not a duplicate."""
    order(1).when(started(PLACED)).then_nothing()
    other = PLACED.model_copy(update={"card": "card-silver"})
    order(1).when(started(other)).then(denied("same_id_other_body"))
