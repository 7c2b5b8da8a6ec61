"""Proofs of who sealed a message: a sealed value names its saga, a proof says that this saga sent these very bytes.

    ce_sealproof: HMAC-SHA-256 over tenant, source, type, id, saga, topic, key and SHA-256 of the data, base64url

Rules of this file
- Made where messages of a saga with a vault are encoded, under a key derived from the key file's index line, which
  rotation leaves alone: the same message has the same proof for ever.
- Whoever may write to a topic, and reads another saga's sealed values, cannot make one (ADR 73).
- Headers that change on the way (traces) are not in it.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256

HEADER = "ce_sealproof"
COVERED = ("ce_tenant", "ce_source", "ce_type", "ce_id", "ce_correlationid")


def key_of(index: bytes) -> bytes:
    """The key of proofs, from the index line of a key file."""
    return hmac.digest(index, b"orchestrator seal proof v1", "sha256")


def proof(key: bytes, headers: Mapping[str, bytes], topic: str, message_key: bytes, digest: bytes) -> bytes:
    """The proof of a message. `digest`: the SHA-256 of its data."""
    parts = [*(headers.get(name, b"") for name in COVERED), topic.encode(), message_key, digest]
    told = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return urlsafe_b64encode(hmac.digest(key, told, "sha256")).rstrip(b"=")


def holds(
    key: bytes, headers: Mapping[str, bytes], topic: str, message_key: bytes, digest: bytes, given: bytes
) -> bool:
    """Was this proof made for this message?"""
    return hmac.compare_digest(proof(key, headers, topic, message_key, digest), given)


class Prover:
    """Proves what a process sends."""

    def __init__(self, index: bytes) -> None:
        self._key = key_of(index)

    def prove(self, headers: Mapping[str, bytes], topic: str, message_key: bytes, value: bytes) -> bytes:
        """The proof of a message that is about to be sent."""
        return proof(self._key, headers, topic, message_key, sha256(value).digest())

    def holds(self, headers: Mapping[str, bytes], topic: str, message_key: bytes, digest: bytes) -> bool:
        """Does a message carry its proof?"""
        given = headers.get(HEADER, b"")
        return bool(given) and holds(self._key, headers, topic, message_key, digest, given)
