"""`orchestrator bench orders`: the shipped orders, four steps in a scope that their customer may interrupt.

Rules of this file
- One order in ten has an address that no carrier knows, so its payment is refunded and its goods go back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.bench.flow import Flow
from orchestrator.bench.place import Place

SKUS = ("lamp", "chair", "desk", "shelf")


def order(order_id: str, number: int, compensating: bool) -> Mapping[str, Any]:
    """One order."""
    return {
        "order_id": order_id,
        "customer_id": f"CUST{number % 1000:05}",
        "lines": [{"sku": SKUS[number % len(SKUS)], "quantity": 1, "unit_price": "19.90"}],
        "card": "card-gold",
        "address": "nowhere" if compensating else "1 Main Street",
    }


async def unbalanced(here: Place, prefix: str) -> list[str]:
    """What stock, payments and shipments contradict."""
    wrong = []
    orders = (await here.fetch("orders_out_of_balance", prefix))[0]["orders"]
    if orders:
        wrong.append(f"{orders} orders whose ledgers do not say what their sagas say")
    articles = (await here.fetch("stock_out_of_balance"))[0]["articles"]
    if articles:
        wrong.append(f"{articles} articles whose stock is not what the ledger says")
    return wrong


ORDERS = Flow(
    name="orders",
    noun="orders",
    modules="sagas.orders",
    topic="orders.events",
    starts_on="orders.OrderPlaced",
    ends=frozenset({b"orders.OrderConfirmed", b"orders.OrderFailed"}),
    start=order,
    unbalanced=unbalanced,
)
