"""Which projections there are. A new one joins here, with its tables in a migration and in `projection_tables`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.messages.customers import CustomerView
from orchestrator.messages.personal import pseudonym
from projections.approvals import ApprovalsProjection
from projections.audit import AuditProjection
from projections.contract import Projection
from projections.feed import CUSTOMER_CHARACTERS_MAX, CustomerOf, usual_customer
from projections.journeys import JourneysProjection

NAMES = ("approvals", "audit", "journeys")


def projections() -> list[Projection]:
    """All of them, new: each runner has its own."""
    return [ApprovalsProjection(), AuditProjection(), JourneysProjection()]


def projection(name: str) -> Projection:
    """One of them, new. Raises KeyError."""
    return {made.name: made for made in projections()}[name]


def customers(views: Mapping[str, CustomerView]) -> CustomerOf:
    """The customer of a start message: the field that its view names, else the usual ones."""

    def customer_of(saga: str, start: Mapping[str, Any]) -> str:
        view = views.get(saga)
        value = pseudonym(start.get(view.customer)) if view is not None else None
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)[:CUSTOMER_CHARACTERS_MAX]
        return usual_customer(saga, start)

    return customer_of
