"""Who asks. Until people sign in, the header `X-Actor` is believed, and only from this machine.

Rules of this file
- Loopback means: the connection comes from a loopback address, no proxy header is there (a proxy on this machine would
  make the whole world look local), and `Host` is a loopback name (else a web page could reach us by a rebound name).
- Roles are those that the header `X-Actor-Roles` states, separated by commas.
"""

from __future__ import annotations

import ipaddress
import re

from fastapi import Request

from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor

ACTOR_HEADER = "X-Actor"
ROLES_HEADER = "X-Actor-Roles"
AUTHENTICATION = "header-on-loopback"
ROLES_MAX = 50

_NAME = re.compile(r"[^\s,;\x00-\x1f\x7f][^,;\x00-\x1f\x7f]{0,199}")
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


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
    return Actor(names[0], roles, AUTHENTICATION)


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
