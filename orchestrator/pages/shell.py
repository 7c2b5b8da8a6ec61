"""Where one can go: the places of the back office, and for whom each is.

Rules of this file
- A place names the action that its route states, so nobody is shown a way that ends in a refusal; `whose` leaves out
  what somebody could open, but has no work at.
- A place that the application has no route for is left out, so navigation never ends in nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.api.views import Actor
from orchestrator.identity.rules import ADMIN, APPROVER, AUDITOR, OPERATOR, VIEWER, may

HELP = "/office/help"
_WORKERS = frozenset({VIEWER, APPROVER, OPERATOR})
_LOOKERS = frozenset({VIEWER, OPERATOR, AUDITOR})


@dataclass(frozen=True, slots=True)
class Place:
    """One entry of the navigation. `action`: what its route asks; `whose`: capacities that have work there."""

    label: str
    path: str
    icon: str
    action: str
    whose: frozenset[str]


NAVIGATION: Sequence[Place] = (
    Place("Inbox", "/office/inbox", "inbox", "task.read", _WORKERS),
    Place("My decisions", "/office/decisions", "list-checks", "own", _WORKERS),
    Place("Sagas", "/office/sagas", "workflow", "saga.read", _LOOKERS),
    Place("Operations", "/office/operations", "wrench", "letter.read", frozenset({OPERATOR})),
    Place("Audit", "/office/audit", "scroll-text", "audit.read", frozenset({AUDITOR})),
    Place("Erasing people", "/office/erasures", "eye-off", "subject.read", frozenset({OPERATOR, AUDITOR, ADMIN})),
    Place("Service levels", "/office/levels", "gauge", "levels.read", _LOOKERS),
    Place("Definitions", "/office/definitions", "book-open", "definition.read", _LOOKERS | {ADMIN}),
    Place("System", "/office/system", "server", "audit.verify", frozenset({OPERATOR, AUDITOR})),
    Place("Help", HELP, "circle-help", "office.use", frozenset({VIEWER, APPROVER, OPERATOR, AUDITOR, ADMIN})),
)


def places_for(actor: Actor, known: frozenset[str]) -> Sequence[Place]:
    """The places for this actor, of those that exist."""
    return tuple(
        place
        for place in NAVIGATION
        if place.path in known and actor.capacities & place.whose and may(actor, place.action)
    )
