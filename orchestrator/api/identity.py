"""Who asks, and whether they may: `Acting` for a route that wants to know, `may(action)` for every route.

Rules of this file
- A route states its action: `@router.get("/...", dependencies=[may("saga.read")])`, a public one `may("public")`. The
  start refuses a route that states none.
- Who asks is found out once a request (orchestrator/identity/gate.py).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor
from orchestrator.identity.gate import HEADER as AUTHENTICATION
from orchestrator.identity.gate import identity_of
from orchestrator.identity.rules import ACTIONS, PUBLIC, authorise

__all__ = ["AUTHENTICATION", "Acting", "Stated", "actor_of", "may"]


async def actor_of(request: Request) -> Actor:
    """Who asks, looked up once a request. Raises ProblemError `unauthenticated` (401) where that cannot be known."""
    known: Actor | None = getattr(request.state, "actor", None)
    if known is None:
        known = request.state.actor = await identity_of(request).identify(request)
    return known


Acting = Annotated[Actor, Depends(actor_of)]


class Stated:
    """The action of a route: lets in who may. Raises ProblemError `unauthenticated` or `not_allowed`."""

    def __init__(self, action: str) -> None:
        if action not in ACTIONS:
            raise ValueError(f"there is no action {action!r}; there are: {', '.join(ACTIONS)}")
        self.action = action

    async def __call__(self, request: Request) -> None:
        request.state.action = self.action
        if self.action == PUBLIC:
            return
        actor = await actor_of(request)
        refused = authorise(actor, self.action)
        if refused is not None:
            raise ProblemError(refused.code, refused.text, facts=refused.facts)
        _only_known(request)


def _only_known(request: Request) -> None:
    """Raises ProblemError `bad_request` for a parameter that an API route does not have: a filter that is silently
    ignored answers something else than what was asked."""
    known = request.app.state.parameters.get(request.scope.get("endpoint"))
    strange = sorted(set(request.query_params) - known) if known is not None else ()
    if strange:
        raise ProblemError("bad_request", f"There is no parameter {strange[0][:40]!r} here.")


def may(action: str) -> Any:
    """States a route's action: `dependencies=[may("task.read")]`. Raises ValueError for one that nobody knows."""
    return Depends(Stated(action))
