"""The identity provider: where it sends people, what it says of them, and with which keys it signs.

Rules of this file
- What it is comes from its discovery document, read once and again after an hour; its issuer must be the one that the
  settings name. Redirects are not followed, answers are bounded.
- Its keys are read again for an unknown key id at most once in KEYS_SECONDS_MIN, however many such tokens come.
- Authorisation code with PKCE (S256), state and nonce; a confidential client also shows its secret.
Source: OpenID Connect Core and Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (issuer in the answer).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from authlib.common.urls import add_params_to_uri  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from joserfc.jwk import Key

from orchestrator.identity.tokens import Header, TokenError, UnknownKeyError, import_keys, verified

KEYS_SECONDS_MIN = 60.0  # between two readings of the keys
AGAIN_SECONDS = 2.0  # after the keys could not be read at all
DISCOVERY_SECONDS = 3_600.0
ANSWER_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 1_000_000


class ProviderError(Exception):
    """The identity provider does not answer, or not as one does. Trying again may help."""

    retriable = True


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the discovery document says."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str = ""


class Provider:
    """One issuer. `client_secret` "": a public client, which has PKCE alone."""

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        scopes: str,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer, self.client_id = issuer, client_id
        self._secret, self._scopes, self._now = client_secret, scopes, now
        self._http = httpx2.AsyncClient(timeout=ANSWER_SECONDS_MAX, follow_redirects=False, trust_env=False)
        self._discovered: tuple[float, Discovered] | None = None
        self._keys: list[Key] = []
        self._keys_read_at: float | None = None
        self._reading = asyncio.Lock()

    async def close(self) -> None:
        """Closes connections."""
        await self._http.aclose()

    async def sign_in_url(self, *, redirect: str, state: str, nonce: str, verifier: str, fresh: bool) -> str:
        """Where a browser goes to sign in. `fresh`: whom the provider knows already must show again who they are."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect,
            "scope": self._scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        if fresh:
            asked |= {"prompt": "login", "max_age": "0"}
        return str(add_params_to_uri((await self.discovered()).authorization_endpoint, list(asked.items())))

    async def id_token(self, *, code: str, verifier: str, redirect: str) -> str:
        """The ID token for a code. Raises TokenError where the provider refuses, ProviderError where it is away."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
        auth = None
        if self._secret:
            auth = httpx2.BasicAuth(quote(self.client_id, safe=""), quote(self._secret, safe=""))
        else:
            form["client_id"] = self.client_id
        endpoint = (await self.discovered()).token_endpoint
        status, body = await self._call("POST", endpoint, data=form, auth=auth)
        token = body.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise TokenError(f"the provider gave no ID token for the code: {status} {str(body.get('error', ''))[:80]}")
        return token

    async def sign_out_url(self, back: str) -> str:
        """Where a browser goes to sign out at the provider too; "" where it offers nothing."""
        end = (await self.discovered()).end_session_endpoint
        asked = [("client_id", self.client_id), ("post_logout_redirect_uri", back)]
        return str(add_params_to_uri(end, asked)) if end else ""

    async def verified(self, token: str) -> tuple[Header, dict[str, Any]]:
        """Header and claims of a token that the provider has signed. Raises TokenError, ProviderError."""
        if self._keys_read_at is None:
            await self._read_keys(None)
        if not self._keys and not await self._read_keys(None):
            raise ProviderError(f"the keys of {self.issuer} are not known yet")
        try:
            return verified(token, self._keys)
        except UnknownKeyError:
            if not await self._read_keys(self._keys):
                raise
        return verified(token, self._keys)

    async def discovered(self) -> Discovered:
        """The discovery document. Raises ProviderError."""
        if self._discovered is not None and self._now() - self._discovered[0] < DISCOVERY_SECONDS:
            return self._discovered[1]
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        status, body = await self._call("GET", url)
        if status != 200 or body.get("issuer") != self.issuer:
            raise ProviderError(f"{url} is not the discovery document of {self.issuer}")
        wanted = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        found = Discovered(*(self._endpoint(body, name) for name in wanted))
        if isinstance(body.get("end_session_endpoint"), str):
            found = Discovered(
                found.authorization_endpoint,
                found.token_endpoint,
                found.jwks_uri,
                self._endpoint(body, "end_session_endpoint"),
            )
        self._discovered = (self._now(), found)
        return found

    def _endpoint(self, body: Mapping[str, Any], name: str) -> str:
        """An endpoint of the document: never less safe than the issuer itself."""
        url = body.get(name)
        scheme = urlsplit(url).scheme if isinstance(url, str) else ""
        allowed = ("https",) if urlsplit(self.issuer).scheme == "https" else ("https", "http")
        if not isinstance(url, str) or scheme not in allowed:
            raise ProviderError(f"{name} of {self.issuer} is not an address that may be called")
        return url

    async def _read_keys(self, known: Sequence[Key] | None) -> bool:
        """Reads the keys, unless somebody else has meanwhile or it was just done. True where there may be new ones.

        `known`: the keys that were not enough; None at the first time.
        """
        async with self._reading:
            if known is not None and self._keys is not known:
                return True
            if self._keys_read_at is not None and self._now() - self._keys_read_at < KEYS_SECONDS_MIN:
                return False
            self._keys_read_at = self._now()
            try:
                status, body = await self._call("GET", (await self.discovered()).jwks_uri)
            except ProviderError:
                if not self._keys:  # nobody can come in: try again soon, yet not for every token
                    self._keys_read_at = self._now() - KEYS_SECONDS_MIN + AGAIN_SECONDS
                raise
            keys = import_keys(body) if status == 200 else []
            if keys:
                self._keys = keys
            return bool(keys)

    async def _call(self, method: str, url: str, **given: Any) -> tuple[int, dict[str, Any]]:
        try:
            async with self._http.stream(method, url, headers={"Accept": "application/json"}, **given) as answer:
                raw = b""
                async for chunk in answer.aiter_bytes():
                    raw += chunk
                    if len(raw) > ANSWER_BYTES_MAX:
                        raise ProviderError(f"{url} answers with more than {ANSWER_BYTES_MAX} bytes")
                status = answer.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise ProviderError(f"{url} does not answer: {type(error).__name__}") from error
        try:
            body = httpx2.Response(200, content=raw).json()
        except ValueError:
            body = None
        return status, body if isinstance(body, dict) else {}
