"""From a provider's claims to a person here: id, name, tenant, roles and capacities.

Rules of this file
- Names are compared letter by letter: nothing is folded, normalised or split, so that no look-alike gains anything. A
  group claim is an array of texts, or one text taken whole ("finance,admin" is one group of a strange name).
- A capacity comes from a group that the settings name for it; a group's own name gives none.
- An id that people could not tell from another one (control, format or compatibility characters) is refused.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestrator.api.views import Actor
from orchestrator.identity.rules import CAPACITIES, OIDC_CLIENT
from orchestrator.identity.tokens import TokenError, instant_of

ID_CHARACTERS_MAX = 200
GROUPS_MAX = 500
# How records name who acted where it is no person: nobody may come in under such a name.
RESERVED = ("service:", "person:", "participant:", "saga:", "cli:")
OIDC, OIDC_TOKEN = "oidc", "oidc-token"  # signed in with a browser; a token that a program brings
_ODD = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Mapped:
    """What the settings say of claims. `capacities`: capacity to the groups that have it."""

    person_claim: str = "sub"
    groups_claim: str = "groups"
    tenant_claim: str = ""
    tenant: str = "main"
    tenants: frozenset[str] = frozenset({"main"})
    capacities: Mapping[str, frozenset[str]] = field(default_factory=dict)


def person_of(claims: Mapping[str, Any], mapped: Mapped, *, authentication: str) -> Actor:
    """The person (or program) that these claims are of. Raises TokenError where they do not say it clearly."""
    id_ = clear_name(_claim(claims, mapped.person_claim), mapped.person_claim)
    if id_.startswith(RESERVED) or id_ == "system":
        raise TokenError(f"claim {mapped.person_claim} is a name that records use for what is no person")
    if mapped.person_claim == "email" and claims.get("email_verified") in (False, "false"):
        raise TokenError("claim email is an address that the provider has not checked")
    groups = groups_of(_claim(claims, mapped.groups_claim))
    tenant = mapped.tenant
    if mapped.tenant_claim:
        tenant = clear_name(_claim(claims, mapped.tenant_claim), mapped.tenant_claim)
        if tenant not in mapped.tenants:
            raise TokenError(f"tenant {tenant!r:.80} is not served here")
    if authentication == OIDC_TOKEN and is_of_program(claims):
        authentication, id_ = OIDC_CLIENT, f"service:{id_}"
    name = claims.get("name")
    since = instant_of(claims, "auth_time")
    return Actor(
        id_,
        groups,
        authentication,
        tenant=tenant,
        name=shown_name(name) if isinstance(name, str) else id_,
        capacities=capacities_of(groups, mapped.capacities),
        authenticated_at=datetime.fromtimestamp(since, UTC) if since is not None and 0 < since < 2**33 else None,
    )


def is_of_program(claims: Mapping[str, Any]) -> bool:
    """True for a token that a program got for itself (client credentials): whatever it may, it is no person.

    RFC 9068: its subject is the client. Providers that give it another subject say it otherwise: Entra ID by `idtyp`,
    Auth0 by `gty`, Keycloak by the name of the client's service account.
    """
    clients = {claims[name] for name in ("client_id", "azp", "appid") if isinstance(claims.get(name), str)}
    subject, username = claims.get("sub"), claims.get("preferred_username")
    return (
        not isinstance(subject, str)
        or subject in clients
        or subject.removesuffix("@clients") in clients
        or claims.get("idtyp") == "app"
        or claims.get("gty") == "client-credentials"
        or (isinstance(username, str) and username.startswith("service-account-"))
    )


def groups_of(value: Any) -> tuple[str, ...]:
    """The groups that a claim names. Raises TokenError for another form, which somebody may have meant otherwise."""
    if value is None:
        return ()
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or len(named) > GROUPS_MAX or not all(isinstance(one, str) for one in named):
        raise TokenError("its groups are neither an array of texts nor one text")
    return tuple(sorted({one for one in named if one}))


def capacities_of(groups: tuple[str, ...], capacities: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The capacities that these groups give."""
    return frozenset(capacity for capacity, giving in capacities.items() if giving & set(groups))


def read_capacities(text: str) -> dict[str, frozenset[str]]:
    """`approver=finance|risk, operator=sre` as a mapping. Raises ValueError saying what is wrong."""
    found: dict[str, frozenset[str]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        capacity, sign, groups = (piece.strip() for piece in part.partition("="))
        names = frozenset(group.strip() for group in groups.split("|") if group.strip())
        if capacity not in CAPACITIES or not sign or not names:
            raise ValueError(
                f"{part!r} must look like approver=group|group; capacities are {', '.join(sorted(CAPACITIES))}"
            )
        found[capacity] = found.get(capacity, frozenset()) | names
    return found


def clear_name(value: Any, claim: str) -> str:
    """An id as it came. Raises TokenError for one that is missing, or that people could take for another one."""
    if not isinstance(value, str) or not value or len(value) > ID_CHARACTERS_MAX or value != value.strip():
        raise TokenError(f"claim {claim} is missing or no name")
    if any(unicodedata.category(mark) in _ODD for mark in value) or unicodedata.normalize("NFKC", value) != value:
        raise TokenError(f"claim {claim} holds characters that cannot be told from others")
    return value


def shown_name(name: str) -> str:
    """A display name without characters that could turn or hide what stands beside it."""
    return "".join(mark for mark in name if unicodedata.category(mark) not in _ODD).strip()[:ID_CHARACTERS_MAX]


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by name, or by a path of names as in realm_access.roles; a name with dots of its own comes first."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
