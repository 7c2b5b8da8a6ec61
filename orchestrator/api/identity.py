"""Who asks, and whether they may: `Acting` for a route that wants to know, `may(action)` for every route.

Rules of this file
- A route states its action: `@router.get("/...", dependencies=[may("saga.read")])`, a public one `may("public")`. The
  start refuses a route that states none.
- In development the header `X-Actor` is believed, only from this machine. Loopback means: the connection comes from a
  loopback address, no proxy header is there (a proxy on this machine would make the whole world look local), and `Host`
  is a loopback name (else a web page could reach us by a rebound name).
- Roles are those that the header `X-Actor-Roles` states, separated by commas; those among them that are capacities
  limit the actor to these. Where none is, there are all but admin.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor
from orchestrator.identity.rules import ACTIONS, CAPACITIES, EVERYBODY_BUT_ADMIN, PUBLIC, authorise

ACTOR_HEADER = "X-Actor"
ROLES_HEADER = "X-Actor-Roles"
AUTHENTICATION = "header-on-loopback"
ROLES_MAX = 50

_NAME = re.compile(r"[^\s,;\x00-\x1f\x7f][^,;\x00-\x1f\x7f]{0,199}")
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


async def actor_of(request: Request) -> Actor:
    """Who asks, looked up once a request. Raises ProblemError `unauthenticated` (401) where that cannot be known."""
    known: Actor | None = getattr(request.state, "actor", None)
    if known is None:
        known = request.state.actor = identify(request)
    return known


Acting = Annotated[Actor, Depends(actor_of)]


class Stated:
    """The action of a route: lets in who may. Raises ProblemError `unauthenticated` or `not_allowed`."""

    def __init__(self, action: str) -> None:
        if action not in ACTIONS:
            raise ValueError(f"there is no action {action!r}; identity/rules.py has: {', '.join(ACTIONS)}")
        self.action = action

    async def __call__(self, request: Request) -> None:
        request.state.action = self.action
        if self.action == PUBLIC:
            return
        refused = authorise(await actor_of(request), self.action)
        if refused is not None:
            raise ProblemError(refused.code, refused.text, facts=refused.facts)


def may(action: str) -> Any:
    """States a route's action: `dependencies=[may("task.read")]`. Raises ValueError for one that nobody knows."""
    return Depends(Stated(action))


def identify(request: Request) -> Actor:
    """The actor of a request. Raises ProblemError `unauthenticated` saying what is missing."""
    if not _is_local(request):
        raise _unknown(f"{ACTOR_HEADER} is believed from this machine only, and people cannot sign in yet.")
    names = request.headers.getlist(ACTOR_HEADER)
    if len(names) != 1 or not _NAME.fullmatch(names[0]):
        raise _unknown(f"Send the header {ACTOR_HEADER} once, with the id of the person or service that acts.")
    stated = ",".join(request.headers.getlist(ROLES_HEADER))
    roles = tuple(sorted({role.strip() for role in stated.split(",") if role.strip()}))
    if len(roles) > ROLES_MAX or not all(_NAME.fullmatch(role) for role in roles):
        raise _unknown(f"{ROLES_HEADER} holds more than {ROLES_MAX} roles, or one that is not a name.")
    capacities = CAPACITIES & set(roles) or EVERYBODY_BUT_ADMIN
    return Actor(
        names[0], roles, AUTHENTICATION, name=names[0], capacities=capacities, authenticated_at=datetime.now(UTC)
    )


def _unknown(detail: str) -> ProblemError:
    return ProblemError("unauthenticated", detail, headers={"WWW-Authenticate": ACTOR_HEADER})


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _PROXY_HEADERS):
        return False
    client = request.client.host if request.client else ""
    host = request.url.hostname or ""
    return _is_loopback(client) and (host == "localhost" or _is_loopback(host))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
