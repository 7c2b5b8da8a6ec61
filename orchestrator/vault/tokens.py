"""Sealed values: AES-256-GCM under a key of one scope, which is derived from a subject's key, as one text.

Rules of this file
- A scope has a key of its own: lent out, it opens and seals what is of that saga, and nothing else of the subject
  (ADR 72). Values from before that was so lie under the subject's key itself, and still open.
- The associated data is everything of the text before the ciphertext, and the tenant: a value that is moved to another
  tenant, saga or field, or given to another key, does not open there.
- The nonce is an HMAC of the associated data and the plaintext, under a key of its own. So the same value in the same
  place of the same saga gives the same text, and deciding again gives the same records. Two different plaintexts share
  a nonce with probability 2**-33 after 2**32 values under one key (NIST SP 800-38D asks for no less). What it tells:
  that a field of one saga has the same value twice.
- A scope is a hash of a saga's id, or of an event's type and key before a saga has it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.messages.personal import PREFIX, TOKEN

KEY_BYTES = 32
NONCE_BYTES = 12
FIELD_CHARACTERS_MAX = 64
SCOPES_MAX = 256  # whose keys are at hand, of one subject
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SealedError(ValueError):
    """A sealed value cannot be opened: it was altered or moved, or it is not of this key."""


class _Cipher:
    """Seals and opens under one key."""

    __slots__ = ("_aead", "_nonces")

    def __init__(self, raw: bytes) -> None:
        self._aead, self._nonces = AESGCM(_derived(raw, b"seal")), _derived(raw, b"nonce")

    def seal(self, bound: bytes, plain: bytes) -> bytes:
        nonce = hmac.digest(self._nonces, bound + b"\0" + plain, "sha256")[:NONCE_BYTES]
        return nonce + self._aead.encrypt(nonce, plain, bound)

    def open(self, bound: bytes, sealed: bytes) -> bytes:
        return self._aead.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)


@dataclass(frozen=True, slots=True)
class ScopeKey:
    """The key of one scope of a subject: a saga's, mostly. `raw` may be lent to whoever works for that saga."""

    key_id: str
    tenant: str
    scope: str
    raw: bytes = field(repr=False)
    _cipher: _Cipher = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cipher", _Cipher(self.raw))

    def seal(self, text: str, scope: str, name: str) -> str:
        """The sealed form of a text that stands in field `name` of `scope`. Raises SealedError for another scope."""
        if scope != self.scope:
            raise SealedError("this key seals for one saga alone, and not for this one")
        head = f"{PREFIX}{self.key_id}:{scope}:{field_name(name)}:"
        return f"{head}{_encoded(self._cipher.seal(_bound(self.tenant, head), text.encode()))}."

    def open(self, token: str, scope: str = "") -> str:
        """The text again. `scope`: where it must belong. Raises SealedError."""
        return _open(self, token, scope, lambda found: (self._cipher,) if found == self.scope else ())


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of one subject. `raw` never leaves memory unwrapped."""

    key_id: str
    tenant: str
    raw: bytes = field(repr=False)
    _scopes: dict[str, ScopeKey] = field(init=False, repr=False, compare=False, default_factory=dict)

    def scoped(self, scope: str) -> ScopeKey:
        """The key of one scope."""
        found = self._scopes.get(scope)
        if found is None:
            if len(self._scopes) >= SCOPES_MAX:
                self._scopes.clear()
            raw = _derived(self.raw, b"scope " + scope.encode())
            found = self._scopes[scope] = ScopeKey(self.key_id, self.tenant, scope, raw)
        return found

    def seal(self, text: str, scope: str, name: str) -> str:
        """The sealed form of a text that stands in field `name` of `scope`."""
        return self.scoped(scope).seal(text, scope, name)

    def open(self, token: str, scope: str = "") -> str:
        """The text again. `scope`: where it must belong, "" for anywhere. Raises SealedError."""
        return _open(self, token, scope, self._ciphers)

    def _ciphers(self, scope: str) -> Iterator[_Cipher]:
        yield self.scoped(scope)._cipher
        yield _Cipher(self.raw)  # of a value from before scopes had keys


def _open(key: DataKey | ScopeKey, token: str, scope: str, ciphers: Callable[[str], Iterable[_Cipher]]) -> str:
    found = TOKEN.fullmatch(token)
    if found is None or found[1] != key.key_id:
        raise SealedError("this is no value sealed under this key")
    if scope and found[2] != scope:
        raise SealedError(f"a sealed value of field {found[3]} belongs to another saga")
    bound, sealed = _bound(key.tenant, token[: found.start(4)]), _decoded(found[4])
    for cipher in ciphers(found[2]):
        try:
            return cipher.open(bound, sealed).decode()
        except InvalidTag:
            continue
    raise SealedError(f"a sealed value of field {found[3]} was altered or moved: it does not open")


def _bound(tenant: str, head: str) -> bytes:
    return f"{tenant}\0{head}".encode()


def field_name(name: str) -> str:
    """A field's name as it stands in a sealed value; an odd one by its hash."""
    return name if _FIELD.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:16]


@lru_cache(maxsize=10_000)
def saga_scope(saga_id: str) -> str:
    """The scope of a saga's values."""
    return hashlib.sha256(f"saga\0{saga_id}".encode()).hexdigest()[:16]


def event_scope(type_: str, key: str) -> str:
    """The scope of an event's values while no saga has it."""
    return hashlib.sha256(f"event\0{type_}\0{key}".encode()).hexdigest()[:16]


def _derived(raw: bytes, use: bytes) -> bytes:
    return hmac.digest(raw, b"orchestrator vault v1 " + use, "sha256")


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
