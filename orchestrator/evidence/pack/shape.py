"""The shape of what a pack says of itself: manifest and proofs, before anything in them is used.

Rules of this file
- Bytes of others become values of known kinds and bounds here, or a ShapeError with one sentence and nothing else.
- A pack's JSON is canonical (RFC 8785): so no name stands twice, no number has two readings, nothing is hidden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

from orchestrator.messages.canonical import NotCanonicalError, canonical_bytes

VERSION_MAX, POSITION_MAX, PATH_MAX = 999_999, 1 << 62, 64
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"(?:[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]*/)*[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]*\Z")
_TEXTS = ("format", "tenant", "saga", "name", "business_key", "zone")


class ShapeError(ValueError):
    """This is not what a pack has in this place; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A record's place in the log, and the path from it to the root."""

    version: int
    position: int
    path: list[bytes]


def is_name(name: str) -> bool:
    """Could a file of a pack be called so? It lies below the pack, is not hidden, and reads the same everywhere."""
    return len(name) <= 1_000 and _NAME.match(name) is not None


def manifest_of(raw: bytes) -> Mapping[str, Any]:
    """What a manifest says, all of it of the kind that it must be. Raises ShapeError."""
    found = _object(_canonical(raw), "the manifest")
    for name in _TEXTS:
        if not isinstance(found.get(name), str):
            raise ShapeError(f"its {name} is no text")
    if not _is_count(found.get("records"), VERSION_MAX):
        raise ShapeError("it does not say how many records there are")
    related = found.get("related")
    if not isinstance(related, list) or not all(isinstance(one, str) for one in related):
        raise ShapeError("its related sagas are no list of texts")
    for name, digest in _object(found.get("files"), "what it says of files").items():
        if not isinstance(digest, str) or not _HASH.match(digest):
            raise ShapeError(f"what it says of {name[:100]!r} is no hash")
    return found


def leaves_of(raw: bytes) -> list[Leaf]:
    """What a file of proofs says. Raises ShapeError."""
    leaves = _object(_canonical(raw), "the file").get("leaves")
    if not isinstance(leaves, list):
        raise ShapeError("it has no list of leaves")
    return [_leaf(place, one) for place, one in enumerate(leaves, start=1)]


def _leaf(place: int, value: Any) -> Leaf:
    one = _object(value, f"leaf {place}")
    version, position, path = one.get("version"), one.get("position"), one.get("path")
    if not _is_count(version, VERSION_MAX) or not _is_count(position, POSITION_MAX):
        raise ShapeError(f"leaf {place} says no record and no position")
    if not isinstance(path, list) or len(path) > PATH_MAX:
        raise ShapeError(f"leaf {place} has no path")
    if not all(isinstance(node, str) and _HASH.match(node) for node in path):
        raise ShapeError(f"leaf {place} has a path with something else than hashes")
    return Leaf(version, position, [bytes.fromhex(node) for node in path])


def _is_count(value: Any, most: int) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= most


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ShapeError(f"{what} is no JSON object")
    return value


def _canonical(raw: bytes) -> Any:
    try:
        found = orjson.loads(raw)
        if canonical_bytes(found) != raw:
            raise ShapeError("it is not in canonical form: a name stands twice, or somebody has written it anew")
    except (orjson.JSONDecodeError, NotCanonicalError) as error:
        raise ShapeError(f"it cannot be read: {error}") from error
    return found
