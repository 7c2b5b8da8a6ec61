"""The hash chain of a stream: sealing a record, opening it again, proving that nobody changed it.

Rules of this file
- Pure: no database, no clock. Whoever has the bytes can verify them.
- What is hashed is what is stored: `hash = SHA-256(body)`, and `body` is canonical JSON (RFC 8785) that holds the
  previous record's hash. Nothing is serialised a second time in order to check it.
- The first record's previous hash is 32 zero bytes. `recorded_at` never goes back within a stream.
- The chain shows that a record was changed, removed, added or moved. That its owner replaced a whole stream, or cut off
  its end, only an anchor outside the database can show: `verify` takes the head that one knows from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from orchestrator.messages.canonical import NotCanonicalError, canonical_bytes
from orchestrator.store.contract import NewRecord, StoredRecord

NO_HASH = bytes(32)
_FIELDS = frozenset(
    [
        "activity",
        "actor",
        "causation",
        "correlation",
        "data",
        "previous",
        "recorded_at",
        "saga",
        "tenant",
        "traceparent",
        "type",
        "version",
    ]
)

_KINDS: dict[str, type] = {"version": int, "recorded_at": int}  # all others but data are texts

# As canonical_bytes has it, but without its hook for other types: whatever needs that takes the careful way.
_QUICK = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_DATETIME
_PLAIN = frozenset((str, int, bool, type(None)))


class ChainError(ValueError):
    """Stored bytes are not a record of this product; the text says which (also `version`) and what is wrong."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


@dataclass(frozen=True, slots=True)
class Flaw:
    """The first record of a stream that is not as it was written. `version` 0: the stream as a whole."""

    saga_id: str
    version: int
    reason: str

    def __str__(self) -> str:
        return f"saga {self.saga_id}, record {self.version}: {self.reason}"


def seal(
    records: Sequence[NewRecord],
    data: Sequence[bytes],
    *,
    tenant: str,
    saga_id: str,
    version: int,
    previous: bytes,
    recorded_at: int,
) -> tuple[list[bytes], list[bytes]]:
    """Bodies and hashes of records that follow `version` (0: none yet), whose hash is `previous` (empty: none yet).

    `data`: the `data_bytes` of each record. `recorded_at`: microseconds, the same for all of them. Raises nothing: what
    could be wrong with a record was found by `data_bytes`.
    """
    bodies: list[bytes] = []
    hashes: list[bytes] = []
    link = (previous or NO_HASH).hex()
    for record, raw in zip(records, data, strict=True):
        version += 1
        # The keys stand in sorted order, so these are canonical bytes without sorting or walking twice; a test compares
        # them with canonical_bytes.
        fields = {
            "activity": record.activity,
            "actor": record.actor,
            "causation": record.causation_id,
            "correlation": saga_id,
            "data": orjson.Fragment(raw),
            "previous": link,
            "recorded_at": recorded_at,
            "saga": saga_id,
            "tenant": tenant,
            "traceparent": record.traceparent,
            "type": record.type,
            "version": version,
        }
        try:
            body = orjson.dumps(fields)
        except orjson.JSONEncodeError:  # a lone surrogate, which JSON cannot hold
            body = orjson.dumps({name: _visible(value) for name, value in fields.items()})
        digest = hashlib.sha256(body)
        link = digest.hexdigest()
        bodies.append(body)
        hashes.append(digest.digest())
    return bodies, hashes


def _visible(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def data_bytes(data: dict[str, Any]) -> bytes:
    """The same bytes as canonical_bytes, three times as fast for what nearly all data is: ASCII, and no floats.

    Raises NotCanonicalError.
    """
    try:
        quick = orjson.dumps(data, option=_QUICK)
    except orjson.JSONEncodeError:
        return canonical_bytes(data)
    return quick if quick.isascii() and _is_plain(data) else canonical_bytes(data)


def _is_plain(value: Any) -> bool:
    """Does a dict, list or tuple hold only texts, whole numbers, booleans and None, at any depth?"""
    for item in value.values() if type(value) is dict else value:
        kind = type(item)
        if kind not in _PLAIN and not ((kind is dict or kind is list or kind is tuple) and _is_plain(item)):
            return False
    return True


def opened(saga_id: str, version: int, body: bytes, hash_: bytes, position: int = 0) -> StoredRecord:
    """The record in stored bytes. Raises ChainError where they cannot be read; says nothing about the chain."""
    try:
        fields = orjson.loads(body)
        return StoredRecord(
            saga_id=saga_id,
            version=version,
            type=fields["type"],
            activity=fields["activity"],
            data=fields["data"],
            actor=fields["actor"],
            causation_id=fields["causation"],
            correlation_id=fields["correlation"],
            traceparent=fields["traceparent"],
            recorded_at=fields["recorded_at"],
            previous_hash=bytes.fromhex(fields["previous"]),
            hash=hash_,
            body=body,
            tenant=fields["tenant"],
            position=position,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ChainError(
            f"saga {saga_id}, record {version}: the stored bytes are no record ({type(error).__name__}: {error}). "
            "Somebody changed them, or the disk did: compare with a backup and with the signed checkpoints",
            version,
        ) from error


def verify(
    stream: Sequence[StoredRecord],
    *,
    saga_id: str = "",
    head_version: int | None = None,
    head_hash: bytes | None = None,
) -> Flaw | None:
    """The first flaw of one saga's whole stream, or None. Reads only the stored bytes, never the parsed fields alone.

    `saga_id`: whose stream it must be; by default that of its first record. `head_version`, `head_hash`: what its end
    must be, as the head row or an anchor has it; without them a stream that was cut off at its end looks whole.
    """
    if not stream:
        return Flaw(saga_id, 0, f"the stream is empty, expected {head_version} records") if head_version else None
    saga_id, tenant = saga_id or stream[0].saga_id, stream[0].tenant
    previous, recorded_at = NO_HASH, 0
    for expected, record in enumerate(stream, start=1):
        reason = _flaw(record, expected, saga_id, tenant, previous, recorded_at)
        if reason:
            return Flaw(saga_id, expected, reason)
        previous, recorded_at = record.hash, record.recorded_at
    if head_version is not None and len(stream) != head_version:
        return Flaw(saga_id, len(stream) + 1, f"the head says version {head_version}, the stream ends at {len(stream)}")
    if head_hash is not None and previous != head_hash:
        return Flaw(saga_id, len(stream), f"its hash is {previous.hex()}, the head has {head_hash.hex()}")
    return None


def _flaw(record: StoredRecord, expected: int, saga_id: str, tenant: str, previous: bytes, recorded_at_min: int) -> str:
    """What is wrong with one record, or ""."""
    digest = hashlib.sha256(record.body).digest()
    if digest != record.hash:
        return f"its bytes hash to {digest.hex()}, stored is {record.hash.hex()}: the bytes or the hash were changed"
    fields = _fields(record.body)
    if fields is None:
        return "its bytes are not the canonical form of a record"
    checks: tuple[tuple[str, Any, Any], ...] = (
        ("version", record.version, expected),
        ("version", fields["version"], expected),
        ("saga", record.saga_id, saga_id),
        ("saga", fields["saga"], saga_id),
        ("tenant", fields["tenant"], tenant),
        ("previous", fields["previous"], previous.hex()),
        ("type", record.type, fields["type"]),
        ("activity", record.activity, fields["activity"]),
        ("data", record.data, fields["data"]),
        ("actor", record.actor, fields["actor"]),
        ("recorded_at", record.recorded_at, fields["recorded_at"]),
    )
    for name, found, wanted in checks:
        if found != wanted:
            return f"{name} is {found!r:.80}, expected {wanted!r:.80}: a record is missing, was added, moved or changed"
    if fields["recorded_at"] < recorded_at_min:
        return f"recorded_at is {fields['recorded_at']}, before its predecessor's {recorded_at_min}"
    return ""


def stored_flaw(saga_id: str, version: int, tenant: str, hash_: bytes, body: bytes, before: bytes | None) -> str:
    """What is wrong with one stored row, or "": bytes against hash, columns against bytes, link against predecessor.

    `before`: the stored hash of the record before it, None where there is none. A whole stream is `verify`.
    """
    digest = hashlib.sha256(body).digest()
    if digest != hash_:
        return f"its bytes hash to {digest.hex()}, stored is {hash_.hex()}: the bytes or the hash were changed"
    fields = _fields(body)
    if fields is None:
        return "its bytes are not the canonical form of a record"
    for name, found, wanted in (("saga", saga_id, fields["saga"]), ("version", version, fields["version"]),
                                ("tenant", tenant, fields["tenant"])):  # fmt: skip
        if found != wanted:
            return f"its {name} is {found!r:.80}, its bytes say {wanted!r:.80}: the row was changed or moved"
    if version > 1 and before is None:
        return f"record {version - 1} of its saga is missing"
    if fields["previous"] != (before if before is not None else NO_HASH).hex():
        return (
            f"it follows a record with the hash {fields['previous']}, and the one before it has "
            f"{(before or NO_HASH).hex()}: one of the two was changed"
        )
    return ""


def _fields(body: bytes) -> dict[str, Any] | None:
    """None also for what no record can hold: nesting without end, numbers beyond bounds, another kind of value."""
    try:
        fields = orjson.loads(body)
        if not isinstance(fields, dict) or fields.keys() != _FIELDS or canonical_bytes(fields) != body:
            return None
    except (orjson.JSONDecodeError, NotCanonicalError):
        return None
    if any(type(value) is not _KINDS.get(name, str) for name, value in fields.items() if name != "data"):
        return None
    return fields
