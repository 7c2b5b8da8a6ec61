"""Settings of who is who, part of all settings (`orchestrator.config`): what each means, and what fits together.

Rules of this file
- What is only safe on a laptop is on by itself in development alone; production refuses it by name (production.py).
- Texts that hold a list or a mapping are read here, so that a bad one stops the start.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from orchestrator.identity.addresses import Network, is_loopback, networks
from orchestrator.identity.claims import read_capacities


class IdentitySettings(BaseSettings):
    """See `orchestrator.config.Settings`."""

    environment: Literal["production", "test", "development"] = Field(
        default="development", description="production refuses to start with what is only safe on a laptop."
    )
    public_url: str = Field(default="", description="https://host[:port] as browsers know it; behind a proxy its name.")
    allowed_hosts: str = Field(default="", description="Names that requests may call us by, comma-separated.")
    trusted_proxies: str = Field(default="", description="Networks whose X-Forwarded-For is believed, comma-separated.")
    header_actors: bool | None = Field(
        default=None,
        description="Believe X-Actor from this machine. Unset: in development alone, where PUBLIC_URL and "
        "TRUSTED_PROXIES name nothing outside.",
    )
    local_users: bool | None = Field(
        default=None, description="Let local users sign in from this machine. Unset: as HEADER_ACTORS."
    )
    oidc_issuer: str = Field(default="", description="The identity provider, as its discovery document names itself.")
    oidc_client_id: str = ""
    oidc_client_secret: str = Field(default="", repr=False, description="Empty: a public client, with PKCE alone.")
    oidc_scopes: str = "openid profile email"
    oidc_audience: str = Field(
        default="", description="What access tokens for this API are for. Empty: none are taken, people sign in alone."
    )
    oidc_access_token_types: str = Field(
        default="at+jwt", description="Values of typ that access tokens have; some providers write JWT."
    )
    oidc_clients: str = Field(default="", description="Clients whose access tokens are taken. Empty: any.")
    oidc_person_claim: str = Field(default="sub", description="The claim that is a person's id here.")
    oidc_groups_claim: str = Field(default="groups", description="The claim, or path of claims, with their groups.")
    oidc_tenant_claim: str = Field(
        default="", description="The claim with their tenant. Empty: the tenant of settings."
    )
    capacities: str = Field(
        default="", description="Which groups have which capacity: approver=finance|risk, operator=sre, auditor=audit."
    )
    step_up_amounts: str = Field(
        default="", description="Amounts whose decision takes a sign-in of the last 5 minutes: EUR=10000, *=50000."
    )
    session_idle_ms: int = Field(
        default=1_800_000,
        ge=60_000,
        le=86_400_000,
        description="A session unused for so long is over. Range: 60000 to 86400000.",
    )
    session_ms_max: int = Field(
        default=36_000_000,
        ge=60_000,
        le=604_800_000,
        description="How long a session lasts at most. Range: 60000 to 604800000.",
    )

    @field_validator("public_url", "oidc_issuer")
    @classmethod
    def _is_web(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("must begin with https:// (http:// on this machine alone), without a query")
        return value

    @field_validator("public_url")
    @classmethod
    def _without_path(cls, value: str) -> str:
        if urlsplit(value).path not in ("", "/"):
            raise ValueError("must be a scheme, a host and perhaps a port, without a path")
        return value.rstrip("/")

    @field_validator("capacities")
    @classmethod
    def _gives_capacities(cls, value: str) -> str:
        read_capacities(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _has_networks(cls, value: str) -> str:
        networks(value)
        return value

    @field_validator("step_up_amounts")
    @classmethod
    def _has_amounts(cls, value: str) -> str:
        _read_amounts(value)
        return value

    @property
    def believes_headers(self) -> bool:
        """True where X-Actor is believed from this machine."""
        return self.is_laptop if self.header_actors is None else self.header_actors

    @property
    def has_local_users(self) -> bool:
        """True where local users may sign in."""
        return self.is_laptop if self.local_users is None else self.local_users

    @property
    def is_laptop(self) -> bool:
        """True for development on a machine that nothing says others reach: neither a name of ours nor a proxy."""
        own = urlsplit(self.public_url).hostname or "localhost"
        return (
            self.environment == "development" and (own == "localhost" or is_loopback(own)) and not self.trusted_proxies
        )

    @property
    def is_https(self) -> bool:
        """True where browsers reach us over https."""
        return urlsplit(self.public_url).scheme == "https"

    @property
    def fresh_above(self) -> tuple[tuple[str, Decimal], ...]:
        """Amounts by currency from which a decision takes a recent sign-in."""
        return _read_amounts(self.step_up_amounts)

    @property
    def proxy_networks(self) -> tuple[Network, ...]:
        """Networks of proxies that are believed."""
        return networks(self.trusted_proxies)

    @property
    def host_names(self) -> frozenset[str]:
        """Names that we may be called by; empty: any."""
        named = {part.strip().lower() for part in self.allowed_hosts.split(",") if part.strip()}
        own = urlsplit(self.public_url).hostname
        return frozenset(named | {own.lower()} if named and own else named)


def _read_amounts(text: str) -> tuple[tuple[str, Decimal], ...]:
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        currency, sign, amount = (piece.strip() for piece in part.partition("="))
        try:
            value = Decimal(amount)
        except InvalidOperation:
            value = Decimal(-1)
        if not sign or not currency or not value.is_finite() or value < 0:
            raise ValueError(f"{part!r} must look like EUR=10000, or *=10000 for every other currency")
        found.append((currency, value))
    return tuple(found)
