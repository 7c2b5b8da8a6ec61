"""Tokens that are nothing but chance, and how they are kept: never themselves.

Rules of this file
- 256 bits each. What is stored is their SHA-256: nobody can guess them, so a slow hash would protect nothing more.
- A stored hash is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

TOKEN_BYTES = 32
TOKEN_CHARACTERS = 43  # of base64url without padding


def new_token() -> str:
    """256 bits as text."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def csrf_token(session: str) -> str:
    """What a form of this session must send back: derived from the session's token, so that it needs no keeping."""
    return hmac.new(session.encode(errors="replace"), b"form of this session", hashlib.sha256).hexdigest()


def same(given: str, wanted: str) -> bool:
    """True where two texts are equal, in a time that says nothing of how far they agree."""
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode(errors="replace"))
