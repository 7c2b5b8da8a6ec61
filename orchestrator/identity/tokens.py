"""JSON Web Tokens: what must be true before a claim of one is believed.

Rules of this file
- The algorithm comes from our list, never from the token alone; the key must be of that algorithm's kind and, where it
  is bound to one, of exactly that one. Keys come from the provider's published set, never from a header.
- An access token is for our API: its audience is exactly ours, its type says so, and nothing in it says ID token.
- Clocks may differ by LEEWAY_SECONDS. A token without an end is none.
Source: RFC 7519, RFC 8725 (best current practices), RFC 9068 (access tokens), OpenID Connect Core 3.1.3.7.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import JWKRegistry, Key

LEEWAY_SECONDS = 30
TOKEN_CHARACTERS_MAX = 16_384
# Signatures of a key pair alone: with a shared secret whoever can check could also sign.
ALGORITHMS: Mapping[str, str] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
    "Ed25519": "OKP",
}
ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})
_OTHER_USES = frozenset({"id", "id_token", "refresh", "offline", "logout", "refresh_token"})


class TokenError(Exception):
    """A token that is not believed. The text is for a log; whoever sent it only hears that it was refused."""


class UnknownKeyError(TokenError):
    """Signed with a key that is not in the set: perhaps the provider has a new one."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first part of a token, read but not believed."""

    algorithm: str
    key_id: str | None
    type: str


def read_header(token: str) -> Header:
    """The header. Raises TokenError for what is no signed token, or one whose algorithm we do not take."""
    if len(token) > TOKEN_CHARACTERS_MAX or token.count(".") != 2:
        raise TokenError("not a signed token")
    head, _, signature = token.split(".")
    try:
        found = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)), object_pairs_hook=_distinct)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise TokenError("its header cannot be read") from error
    if not isinstance(found, dict) or not signature:
        raise TokenError("no header, or no signature")
    algorithm, key_id, type_ = found.get("alg"), found.get("kid"), found.get("typ", "")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenError(f"algorithm {algorithm!r:.40} is not taken")
    if "crit" in found or "b64" in found:
        raise TokenError("it demands extensions that are not known here")
    if not isinstance(type_, str) or not isinstance(key_id, str | None):
        raise TokenError("its header is not in order")
    return Header(algorithm, key_id, type_.lower())


def verified(token: str, keys: Sequence[Key]) -> tuple[Header, dict[str, Any]]:
    """Header and claims of a token that one of these keys has signed. Raises TokenError, UnknownKeyError."""
    header = read_header(token)
    key = _key_for(header, keys)
    try:
        claims = jwt.decode(token, key, algorithms=[header.algorithm]).claims
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(f"its signature does not hold ({type(error).__name__})") from error
    return header, claims


def import_keys(published: Any) -> list[Key]:
    """The public keys of a JSON Web Key Set that are for signatures; what cannot be read is left out."""
    keys = []
    entries = published.get("keys") if isinstance(published, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        try:
            keys.append(JWKRegistry.import_key(entry))
        except (JoseError, ValueError, TypeError):
            continue
    return keys


def check_access(
    header: Header,
    claims: Mapping[str, Any],
    *,
    issuer: str,
    audience: str,
    types: Collection[str],
    clients: Collection[str],
    now: datetime,
) -> None:
    """Raises TokenError unless these are the claims of an access token for our API, valid now.

    `types`: further values of `typ` that are taken, for providers that do not write at+jwt. `clients`: who may have
    asked for it; empty: any client that the provider lets ask for our audience.
    """
    if header.type not in ACCESS_TYPES and header.type not in types:
        raise TokenError(f"type {header.type!r:.40} is not that of an access token")
    if _ID_TOKEN_CLAIMS & claims.keys():
        raise TokenError("it is an ID token: those say who somebody is to a client, not what may be done here")
    used = {str(claims.get(name, "")).lower() for name in ("token_use", "typ", "token_type")}
    if used & _OTHER_USES:
        raise TokenError("it is not for calling an API")
    _check_common(claims, issuer, audience, now)
    asked = [claims[name] for name in ("client_id", "azp") if name in claims]
    if clients and (not asked or any(name not in clients for name in asked)):
        raise TokenError("another client asked for it")


def check_id_token(claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: datetime) -> None:
    """Raises TokenError unless these are the claims of the ID token that this sign-in has asked for."""
    _check_common(claims, issuer, client_id, now)
    if claims.get("azp", client_id) != client_id:
        raise TokenError("it was made for another client")
    if claims.get("nonce") != nonce:
        raise TokenError("its nonce is not that of this sign-in")
    if not isinstance(claims.get("iat"), int | float):
        raise TokenError("it does not say when it was made")


def instant_of(claims: Mapping[str, Any], name: str) -> float | None:
    """A claim that is an instant, seconds; None where it is missing or no number."""
    value = claims.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _check_common(claims: Mapping[str, Any], issuer: str, audience: str, now: datetime) -> None:
    if claims.get("iss") != issuer:
        raise TokenError("another issuer made it")
    if claims.get("aud") not in (audience, [audience]):
        raise TokenError("it is not for us, or not for us alone")
    moment = now.timestamp()
    ends = instant_of(claims, "exp")
    if ends is None or ends + LEEWAY_SECONDS <= moment:
        raise TokenError("it has expired, or does not say when it does")
    for name in ("nbf", "iat"):
        begins = instant_of(claims, name)
        if name in claims and (begins is None or begins - LEEWAY_SECONDS > moment):
            raise TokenError("it is not valid yet")


def _key_for(header: Header, keys: Sequence[Key]) -> Key:
    kind = ALGORITHMS[header.algorithm]
    fitting = [
        key
        for key in keys
        if key.key_type == kind and key.as_dict(private=False).get("alg", header.algorithm) == header.algorithm
    ]
    if header.key_id is not None:
        named = [key for key in keys if key.as_dict(private=False).get("kid") == header.key_id]
        if not named:
            raise UnknownKeyError("its key is not in the provider's set")
        fitting = [key for key in fitting if key in named]
    if len(fitting) != 1:
        raise TokenError("no key of the provider fits its algorithm, or several do")
    return fitting[0]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found
