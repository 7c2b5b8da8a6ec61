"""Sealed values: AES-256-GCM under a subject's key, as one text.

Rules of this file
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
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.messages.personal import PREFIX, TOKEN

KEY_BYTES = 32
NONCE_BYTES = 12
FIELD_CHARACTERS_MAX = 64
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}")


class SealedError(ValueError):
    """A sealed value cannot be opened: it was altered or moved, or it is not of this key."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of one subject. `raw` never leaves memory unwrapped."""

    key_id: str
    tenant: str
    raw: bytes = field(repr=False)
    _aead: AESGCM = field(init=False, repr=False, compare=False)
    _nonces: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_aead", AESGCM(_derived(self.raw, b"seal")))
        object.__setattr__(self, "_nonces", _derived(self.raw, b"nonce"))

    def seal(self, text: str, scope: str, name: str) -> str:
        """The sealed form of a text that stands in field `name` of `scope`."""
        head = f"{PREFIX}{self.key_id}:{scope}:{field_name(name)}:"
        bound, plain = self._bound(head), text.encode()
        nonce = hmac.digest(self._nonces, bound + b"\0" + plain, "sha256")[:NONCE_BYTES]
        return f"{head}{_encoded(nonce + self._aead.encrypt(nonce, plain, bound))}."

    def open(self, token: str, scope: str = "") -> str:
        """The text again. `scope`: where it must belong, "" for anywhere. Raises SealedError."""
        found = TOKEN.fullmatch(token)
        if found is None or found[1] != self.key_id:
            raise SealedError("this is no value sealed under this key")
        if scope and found[2] != scope:
            raise SealedError(f"a sealed value of field {found[3]} belongs to another saga")
        raw = _decoded(found[4])
        bound = self._bound(token[: found.start(4)])
        try:
            return self._aead.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound).decode()
        except InvalidTag:
            raise SealedError(f"a sealed value of field {found[3]} was altered or moved: it does not open") from None

    def _bound(self, head: str) -> bytes:
        return f"{self.tenant}\0{head}".encode()


def field_name(name: str) -> str:
    """A field's name as it stands in a sealed value; an odd one by its hash."""
    return name if _FIELD.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:16]


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
