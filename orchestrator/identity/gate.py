"""The gate: from a request to who asks, by the one credential that it shows.

Rules of this file
- A header `Authorization` counts alone: a key, or a token of the provider. Else the session of a cookie; else, where
  settings allow it and only from this machine, `X-Actor`. A credential that does not hold is never passed over for
  another one; only a session that is over leaves room for `X-Actor`.
- A cookie is sent by browsers whoever asked them to: what writes must come from our own pages (csrf.py).
- Only failures are counted against an address or account, and a good credential is let in whatever was counted.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor
from orchestrator.identity.addresses import client_address, is_local
from orchestrator.identity.claims import OIDC, OIDC_TOKEN, Mapped, person_of, read_capacities
from orchestrator.identity.csrf import SAFE_METHODS, check
from orchestrator.identity.keeping import Kept, Session, looks_like_key, prefix_of
from orchestrator.identity.limits import Attempts
from orchestrator.identity.local import Passwords
from orchestrator.identity.provider import Provider, ProviderError
from orchestrator.identity.rules import CAPACITIES, EVERYBODY_BUT_ADMIN
from orchestrator.identity.secrets import csrf_token
from orchestrator.identity.security_log import SecurityLog
from orchestrator.identity.settings import IdentitySettings
from orchestrator.identity.tokens import TokenError, check_access, check_id_token, instant_of
from orchestrator.store.connections import Pools

ACTOR_HEADER = "X-Actor"
ROLES_HEADER = "X-Actor-Roles"
HEADER = "header-on-loopback"
ROLES_MAX = 50
KNOWN_MAX = 10_000  # people of whom that is remembered, so that nothing is written at each request
STREAM = "/office/live"
BY_ITSELF = ("X-Background", "HX-Request")  # with parts that pages fetch again when a hint comes

_NAME = re.compile(r"[^\s,;\x00-\x1f\x7f][^,;\x00-\x1f\x7f]{0,199}")


class Identity:
    """Who is who for one application. `tenant`, `tenants`: of the settings."""

    def __init__(self, settings: IdentitySettings, pools: Pools, *, tenant: str, tenants: frozenset[str]) -> None:
        self.settings = settings
        self.kept = Kept(pools)
        self.log = SecurityLog(pools)
        self.attempts = Attempts()
        self.passwords = Passwords()
        self._known: dict[tuple[str, str], float] = {}  # when the last token of a person was made
        self.provider: Provider | None = None
        if settings.oidc_issuer:
            self.provider = Provider(
                settings.oidc_issuer, settings.oidc_client_id, settings.oidc_client_secret, settings.oidc_scopes
            )
        self.mapped = Mapped(
            settings.oidc_person_claim,
            settings.oidc_groups_claim,
            settings.oidc_tenant_claim,
            tenant,
            tenants,
            read_capacities(settings.capacities),
        )
        self.cookie = "__Host-session" if settings.is_https else "orchestrator-session"
        self.sign_in_cookie = "__Host-sign-in" if settings.is_https else "orchestrator-sign-in"

    async def close(self) -> None:
        """Closes connections to the provider."""
        if self.provider is not None:
            await self.provider.close()

    def address(self, request: Request) -> str:
        """Where the request comes from."""
        return client_address(request, self.settings.proxy_networks)

    async def identify(self, request: Request) -> Actor:
        """Who asks. Raises ProblemError: unauthenticated, too_many_attempts, cross_site, unavailable."""
        shown = request.headers.getlist("authorization")
        if shown:
            return self._limited(await self._by_authorization(request, shown))
        session = await self.session(request)
        if session is not None:
            token = request.cookies[self.cookie]
            request.state.csrf_token = csrf_token(token)
            request.state.cookie_of = session.actor  # for the log, should it be refused: whose cookie was sent along
            if request.method not in SAFE_METHODS:
                await check(request, token, self.settings.public_url)
            return self._limited(session.actor)
        return self._limited(self._by_header(request))

    async def session(self, request: Request) -> Session | None:
        """The session of the request's cookie, if it has one that holds."""
        token = request.cookies.get(self.cookie, "")
        if not token:
            return None
        # What a page asks for by itself, again and again, does not mean that somebody still sits there.
        by_itself = request.method == "GET" and (
            request.url.path == STREAM or any(name in request.headers for name in BY_ITSELF)
        )
        return await self.kept.session(token, idle_seconds=self.settings.session_idle_ms / 1000, used=not by_itself)

    async def signed_in(self, id_token: str, *, nonce: str, fresh: bool) -> Actor:
        """The person of an ID token that the provider gave for a code. Raises TokenError, ProviderError."""
        assert self.provider is not None
        _, claims = await self.provider.verified(id_token)
        now = datetime.now(UTC)
        check_id_token(claims, issuer=self.provider.issuer, client_id=self.provider.client_id, nonce=nonce, now=now)
        actor = person_of(claims, self.mapped, authentication=OIDC)
        if await self.kept.is_barred(actor.tenant, actor.id):
            raise TokenError(f"{actor.id} is barred")
        if actor.authenticated_at is None and fresh:
            # The provider was asked to let them show who they are (prompt=login), and does not say when it did.
            actor = replace(actor, authenticated_at=now)
        return actor

    def failed(self, request: Request, detail: str, account: str = "") -> ProblemError:
        """The answer to a credential that does not hold: 401, or 429 where that happened too often."""
        address = self.address(request)
        self.attempts.failed(address, account)
        return self.too_many(self.attempts.wait_seconds(address, account)) or unknown(detail)

    def too_many(self, wait_seconds: int) -> ProblemError | None:
        """The answer to somebody who must wait; None for 0 seconds."""
        if not wait_seconds:
            return None
        return ProblemError(
            "too_many_attempts",
            "Too many attempts that failed. Nothing was done.",
            headers={"Retry-After": str(wait_seconds)},
        )

    def _limited(self, actor: Actor) -> Actor:
        return replace(actor, fresh_above=self.settings.fresh_above) if self.settings.step_up_amounts else actor

    async def _by_authorization(self, request: Request, shown: list[str]) -> Actor:
        scheme, _, token = shown[0].partition(" ")
        token = token.strip()
        if len(shown) > 1 or scheme.lower() != "bearer" or not token or " " in token:
            raise self.failed(request, "Send one header `Authorization: Bearer ...`, with a key or a token.")
        if looks_like_key(token):
            actor = await self.kept.actor_of_key(token)
            if actor is None:
                raise self.failed(request, "This key does not hold: unknown, expired or revoked.", prefix_of(token))
            return actor
        try:
            return await self._by_token(token)
        except TokenError as error:
            request.state.refusal = str(error)
            raise self.failed(request, "This token does not hold.") from error
        except ProviderError as error:
            raise ProblemError(
                "unavailable", "The identity provider does not answer.", headers={"Retry-After": "2"}
            ) from error

    async def _by_token(self, token: str) -> Actor:
        settings = self.settings
        if self.provider is None or not settings.oidc_audience:
            raise TokenError("no tokens are taken here: there is no ORCHESTRATOR_OIDC_AUDIENCE")
        header, claims = await self.provider.verified(token)
        check_access(
            header,
            claims,
            issuer=self.provider.issuer,
            audience=settings.oidc_audience,
            types=frozenset(t.lower() for t in _words(settings.oidc_access_token_types)),
            clients=_words(settings.oidc_clients),
            now=datetime.now(UTC),
        )
        actor = person_of(claims, self.mapped, authentication=OIDC_TOKEN)
        if await self.kept.is_barred(actor.tenant, actor.id):
            raise TokenError(f"{actor.id} is barred")
        if actor.authentication == OIDC_TOKEN:
            await self._know(actor, instant_of(claims, "iat"))
        return actor

    async def _know(self, actor: Actor, at: float | None) -> None:
        """Remembers what a token says that somebody holds, once for each token that is newer."""
        if at is not None and at > self._known.get((actor.tenant, actor.id), 0):
            await self.kept.know_person(actor, datetime.fromtimestamp(at, UTC))
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[actor.tenant, actor.id] = at

    def _by_header(self, request: Request) -> Actor:
        names = request.headers.getlist(ACTOR_HEADER)
        if not names or not self.settings.believes_headers:
            raise unknown("Sign in, or send `Authorization: Bearer ...` with a key or a token.")
        if not is_local(request):
            raise unknown(f"{ACTOR_HEADER} is believed from this machine only: sign in, or send a key.")
        return actor_of_headers(names, request.headers.getlist(ROLES_HEADER), self.mapped.tenant)


def actor_of_headers(names: list[str], stated: list[str], tenant: str) -> Actor:
    """The actor that headers name. Raises ProblemError `unauthenticated` where they do not do it clearly."""
    if len(names) != 1 or not _NAME.fullmatch(names[0]):
        raise unknown(f"Send the header {ACTOR_HEADER} once, with the id of the person or service that acts.")
    roles = tuple(sorted({role.strip() for role in ",".join(stated).split(",") if role.strip()}))
    if len(roles) > ROLES_MAX or not all(_NAME.fullmatch(role) for role in roles):
        raise unknown(f"{ROLES_HEADER} holds more than {ROLES_MAX} roles, or one that is not a name.")
    return Actor(
        names[0],
        roles,
        HEADER,
        tenant=tenant,
        name=names[0],
        capacities=CAPACITIES & set(roles) or EVERYBODY_BUT_ADMIN,
        authenticated_at=datetime.now(UTC),
    )


def unknown(detail: str) -> ProblemError:
    """The answer to somebody whom we do not know."""
    return ProblemError("unauthenticated", detail, headers={"WWW-Authenticate": "Bearer"})


def identity_of(request: Any) -> Identity:
    """The identity of the application that serves this request."""
    found: Identity = request.app.state.identity
    return found


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip()) - {""}
