"""Orders that go through: what the tests of this directory keep the product busy with."""

from __future__ import annotations

from events.orders import OrderLine, OrderPlaced
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.messages.envelope import Envelope, schema_urn


def order(key: str) -> OrderPlaced:
    """One lamp for 12."""
    lines = (OrderLine(sku="lamp", quantity=1, unit_price=12),)  # type: ignore[arg-type]
    return OrderPlaced(order_id=key, customer_id="c-1", lines=lines, card="card-gold", address="Main Street 1")


def message(placed: OrderPlaced) -> OutgoingMessage:
    """The order as the shop publishes it."""
    envelope = Envelope(
        id=placed.order_id, source="/shop", type=placed.wire_name, dataschema=schema_urn(placed.wire_name, 1)
    )
    return OutgoingMessage("orders.events", placed.key().encode(), placed.canonical(), envelope.headers())
