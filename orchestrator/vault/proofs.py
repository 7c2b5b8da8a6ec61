"""Proofs of who sealed a message: a sealed value names its saga, a proof says that this saga sent these very bytes.

    ce_sealproof: HMAC-SHA-256 over source, type, id, key and SHA-256 of the data, base64url, under a key of the sender:
                  HMAC-SHA-256 over tenant, saga and topic, under a key derived from the key file's index line

Rules of this file
- Made where messages of a saga with a vault are encoded. Rotation leaves the index line alone, so the same message has
  the same proof for ever.
- Whoever may write to a topic, and reads another saga's sealed values, cannot make one (ADR 73).
- A sender's key is of one saga and one topic. A participant that is lent the one of its own commands checks them by
  itself; what it could make up with it, it could only send to itself (ADR 72).
- Headers that change on the way (traces) are not in it.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256

HEADER = "ce_sealproof"
_SENDER = ("ce_tenant", "ce_correlationid")
_MESSAGE = ("ce_source", "ce_type", "ce_id")
COVERED = (*_SENDER, *_MESSAGE)


def proof(sender: bytes, headers: Mapping[str, bytes], message_key: bytes, digest: bytes) -> bytes:
    """The proof of a message by its sender's key. `digest`: the SHA-256 of its data."""
    told = _told(*(headers.get(name, b"") for name in _MESSAGE), message_key, digest)
    return urlsafe_b64encode(hmac.digest(sender, told, "sha256")).rstrip(b"=")


def holds(sender: bytes, headers: Mapping[str, bytes], message_key: bytes, digest: bytes) -> bool:
    """Does a message carry its proof?"""
    return hmac.compare_digest(proof(sender, headers, message_key, digest), headers.get(HEADER, b""))


class Prover:
    """Proves what a process sends. `index`: of the key file."""

    def __init__(self, index: bytes) -> None:
        self._key = hmac.digest(index, b"orchestrator seal proof v1", "sha256")

    def sender(self, tenant: bytes, saga_id: bytes, topic: str) -> bytes:
        """The key of one saga's messages to one topic."""
        return hmac.digest(self._key, _told(tenant, saga_id, topic.encode()), "sha256")

    def prove(self, headers: Mapping[str, bytes], topic: str, message_key: bytes, value: bytes) -> bytes:
        """The proof of a message that is about to be sent."""
        return proof(self._of(headers, topic), headers, message_key, sha256(value).digest())

    def holds(self, headers: Mapping[str, bytes], topic: str, message_key: bytes, digest: bytes) -> bool:
        """Does a message carry its proof?"""
        return HEADER in headers and holds(self._of(headers, topic), headers, message_key, digest)

    def _of(self, headers: Mapping[str, bytes], topic: str) -> bytes:
        tenant, saga_id = (headers.get(name, b"") for name in _SENDER)
        return self.sender(tenant, saga_id, topic)


def _told(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
