"""The services that obey an order's commands."""

from sagas.orders.inventory import inventory
from sagas.orders.payments import payments
from sagas.orders.shipping import shipping

__all__ = ["inventory", "payments", "shipping"]
