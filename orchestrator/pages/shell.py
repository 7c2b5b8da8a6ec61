"""Where one can go: the places of the back office, and for whom each is.

A place that the application has no route for is left out, so navigation never ends in nothing. What somebody may do at
a place is decided by the route (`orchestrator.identity`), never by its absence here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.api.views import Actor

EVERYBODY = frozenset({"viewer", "approver", "operator", "auditor", "admin", "service"})
LOOKERS = frozenset({"viewer", "operator", "auditor", "admin"})


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the navigation. `within`: paths below it that belong to it."""

    label: str
    path: str
    icon: str
    capacities: frozenset[str]


NAVIGATION: Sequence[Place] = (
    Place("Inbox", "/office/inbox", "inbox", EVERYBODY - {"auditor", "service"}),
    Place("My decisions", "/office/decisions", "list-checks", EVERYBODY - {"auditor", "service"}),
    Place("Sagas", "/office/sagas", "workflow", LOOKERS),
    Place("Operations", "/office/operations", "wrench", frozenset({"operator", "admin"})),
    Place("Audit", "/office/audit", "scroll-text", frozenset({"auditor", "admin"})),
    Place("Service levels", "/office/levels", "gauge", LOOKERS),
    Place("Definitions", "/office/definitions", "book-open", LOOKERS),
    Place("System", "/office/system", "server", frozenset({"operator", "admin"})),
    Place("Help", "/office/help", "circle-help", EVERYBODY),
)


def places_for(actor: Actor, known: frozenset[str]) -> Sequence[Place]:
    """The places for this actor, of those that exist. An actor without any capacity still finds help."""
    mine = actor.capacities
    return tuple(
        place
        for place in NAVIGATION
        if place.path in known and (mine & place.capacities or place.path == "/office/help")
    )
