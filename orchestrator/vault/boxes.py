"""Keys on their way to whoever asked for them: readable by the process that asked, and by nobody on the way.

Rules of this file
- The asker sends the public half of a pair that it made when it started; each answer has a fresh pair of its own
  (X25519), and what both halves give encrypts it (HKDF-SHA-256, AES-256-GCM).
- Who asks is known by other means (TLS, an API key). This keeps keys out of logs, proxies and dumps of requests.
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12


class BoxError(ValueError):
    """Something that was not made for this pair, or for this place."""


class Pair:
    """One side's pair of keys."""

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def with_asker(self, asker: bytes) -> Shared:
        """What is shared with whoever asked. Raises BoxError for what is no public key."""
        return self._shared(asker, asker + self.public)

    def with_answerer(self, answerer: bytes) -> Shared:
        """What is shared with whoever answered. Raises BoxError for what is no public key."""
        return self._shared(answerer, self.public + answerer)

    def _shared(self, other: bytes, both: bytes) -> Shared:
        try:
            secret = self._private.exchange(X25519PublicKey.from_public_bytes(other))
        except ValueError:
            raise BoxError("this is no public key") from None
        return Shared(HKDF(hashes.SHA256(), 32, None, b"orchestrator lend v1" + both).derive(secret))


class Shared:
    """What two sides share: puts a key into a box, and takes it out. `bound`: what the key is, and for what."""

    def __init__(self, raw: bytes) -> None:
        self._aead = AESGCM(raw)

    def put(self, key: bytes, bound: str) -> bytes:
        """A key in a box."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, key, bound.encode())

    def take(self, box: bytes, bound: str) -> bytes:
        """The key again. Raises BoxError."""
        try:
            return self._aead.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], bound.encode())
        except (InvalidTag, ValueError):
            raise BoxError("a box does not open: it was altered, or is another's") from None
