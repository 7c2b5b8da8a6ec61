"""Signed notes and checkpoints: the texts that say, with a signature, how large the log is and what its root is.

Rules of this file
- Pure but for the cryptography: no files, no clock. Forms are those of C2SP: signed-note, tlog-checkpoint, and the
  `name+id+key` text of a verifier key, so that tools of others can read and check what is published.
- A checkpoint has one line of our own behind the three that every log has: `checkpoint <number> <time>`, signed like
  the rest. A checkpoint that takes over after an accepted break says so in a further line (`break <size> <root>`).
- Unknown keys are no keys. A signature of a known key that does not verify spoils the whole note.
Source: C2SP signed-note v1, tlog-checkpoint v1; RFC 8032 for Ed25519.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.evidence.tree import HASH_BYTES

_ED25519 = b"\x01"
_DASH = "\u2014 "
_SECRET = "PRIVATE+KEY+"  # noqa: S105 - what a secret key begins with
_NAME = re.compile(r"[^\s+]{1,200}\Z")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}\Z")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
NOTE_CHARACTERS_MAX = 100_000


class NoteError(ValueError):
    """A note, checkpoint or key is not what it should be; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with the name of the log that signs with it."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256 over name, line break, algorithm and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as people copy it: `name+id+key`."""
        return f"{self.name}+{self.key_id.hex()}+{_encoded(_ED25519 + self.public)}"

    @staticmethod
    def of(vkey: str) -> Verifier:
        """The key in such a text. Raises NoteError."""
        name, _, rest = vkey.strip().partition("+")
        key_id, _, key = rest.partition("+")
        found = Verifier(_named(name), _key_bytes(key, "a verifier key is name+id+key"))
        if found.key_id.hex() != key_id:
            raise NoteError(f"the key of {name} has the id {found.key_id.hex()}, not {key_id[:20]!r}: copy it whole")
        return found

    def verifies(self, text: str, signature: bytes) -> bool:
        """Did this key sign the text?"""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A secret key with the name of its log. Never printed."""

    name: str
    seed: bytes

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return Verifier(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """The key as it is kept in a file: `PRIVATE+KEY+name+id+seed`."""
        return f"{_SECRET}{self.name}+{self.verifier.key_id.hex()}+{_encoded(_ED25519 + self.seed)}"

    @staticmethod
    def new(name: str) -> Signer:
        """A fresh key."""
        return Signer(_named(name), Ed25519PrivateKey.generate().private_bytes_raw())

    @staticmethod
    def of(text: str) -> Signer:
        """The key in such a text. Raises NoteError, which never shows the key."""
        if not is_secret(text):
            raise NoteError(f"a signing key begins with {_SECRET}")
        name, _, rest = text.strip().removeprefix(_SECRET).partition("+")
        key_id, _, key = rest.partition("+")
        found = Signer(_named(name), _key_bytes(key, f"a signing key is {_SECRET}name+id+key"))
        if found.verifier.key_id.hex() != key_id:
            raise NoteError(f"the signing key of {name} does not have the id that its text says: copy it whole")
        return found

    def sign(self, text: str) -> str:
        """The note: the text (which ends with a line break), an empty line, and our signature. Raises NoteError."""
        _check_text(text)
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n{_DASH}{self.name} {_encoded(self.verifier.key_id + signature)}\n"


def is_secret(text: str) -> bool:
    """Is this the text of a signing key?"""
    return text.strip().startswith(_SECRET)


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note whose signature was checked: its text, and the key that signed it."""

    text: str
    by: Verifier


def open_note(note: str, keys: Iterable[Verifier]) -> OpenedNote:
    """Checks a note against keys that one trusts. Raises NoteError, also where none of them signed it."""
    text, signatures = _parts(note)
    known = {(key.name, key.key_id): key for key in keys}
    by: Verifier | None = None
    for name, key_id, signature in signatures:
        key = known.get((name, key_id))
        if key is None:
            continue
        if not key.verifies(text, signature):
            raise NoteError(f"the signature of {name} ({key_id.hex()}) does not fit the text: one of them was changed")
        by = by or key
    if by is None:
        signers = ", ".join(f"{name} ({key_id.hex()})" for name, key_id, _ in signatures)
        raise NoteError(f"signed by {signers}, and none of these keys is trusted here")
    return OpenedNote(text, by)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint says. signed_at: microseconds since 1970, of full seconds; number: 1, 2, ... of this log.

    broken: (size, root) of a published tree that this log does not continue, by an operator's named act.
    """

    origin: str
    size: int
    root: bytes
    number: int = 0
    signed_at: int = 0
    broken: tuple[tuple[int, bytes], ...] = ()

    @property
    def text(self) -> str:
        """What is signed."""
        lines = [self.origin, str(self.size), _encoded(self.root), f"checkpoint {self.number} {self.time}"]
        lines += [f"break {size} {_encoded(root)}" for size, root in self.broken]
        return "".join(f"{line}\n" for line in lines)

    @property
    def time(self) -> str:
        """When it was signed, RFC 3339 in UTC."""
        return datetime.fromtimestamp(self.signed_at / 1_000_000, UTC).strftime(_TIME)

    @staticmethod
    def of(text: str) -> Checkpoint:
        """What the text of a note says. A checkpoint of another log has number 0 and no time. Raises NoteError."""
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] != "" or "" in lines[:-1]:
            raise NoteError("a checkpoint has three lines or more, none of them empty: origin, size, root")
        if not _NUMBER.match(lines[1]):
            raise NoteError(f"{lines[1][:40]!r} is no size of a tree")
        root = _decoded(lines[2], "the root of a checkpoint")
        if len(root) != HASH_BYTES:
            raise NoteError(f"a root has {HASH_BYTES} bytes, this one {len(root)}")
        number, signed_at, broken = 0, 0, []
        for line in lines[3:-1]:
            word, _, rest = line.partition(" ")
            first, _, second = rest.partition(" ")
            if word == "checkpoint" and _NUMBER.match(first):
                number, signed_at = int(first), _micros(second)
            elif word == "break" and _NUMBER.match(first):
                broken.append((int(first), _decoded(second, "the root of a break")))
        return Checkpoint(lines[0], int(lines[1]), root, number, signed_at, tuple(broken))


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with the note that it was read from, and who signed that."""

    checkpoint: Checkpoint
    note: str
    by: Verifier


def open_checkpoint(note: str, keys: Sequence[Verifier]) -> SignedCheckpoint:
    """The checkpoint in a note that one of these keys signed, under its own name as origin. Raises NoteError."""
    opened = open_note(note, keys)
    found = Checkpoint.of(opened.text)
    if found.origin != opened.by.name:
        raise NoteError(f"a checkpoint of {found.origin} signed as {opened.by.name}: it is not of this log")
    return SignedCheckpoint(found, note, opened.by)


def notes_in(text: str) -> Iterator[str]:
    """The notes of a file of checkpoints, one after the other. What a crash cut off comes as a piece of its own.

    For notes whose text has no empty lines, as those of checkpoints.
    """
    block: list[str] = []
    for line in (*text.splitlines(), "", "."):
        is_signature = line.startswith(_DASH)
        if "" in block and not is_signature:  # behind the empty line only signatures belong to it
            yield "".join(f"{one}\n" for one in (block if block[-1] else block[:-1]))
            block = []
        if block or line:
            block.append(line)


def _parts(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text of a note, and of each signature the name, key id and bytes."""
    text, separator, below = note.rpartition("\n\n")
    if not separator or len(note) > NOTE_CHARACTERS_MAX or not below.endswith("\n"):
        raise NoteError("this is no signed note: a text, an empty line, signatures")
    text += "\n"
    _check_text(text)
    signatures = []
    for line in below.removesuffix("\n").split("\n"):
        name, _, content = line.removeprefix(_DASH).partition(" ")
        raw = _decoded(content, "a signature")
        if not line.startswith(_DASH) or len(raw) < 5:
            raise NoteError(f"{line[:60]!r} is no signature line")
        signatures.append((_named(name), raw[:4], raw[4:]))
    return text, signatures


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(ord(mark) < 0x20 and mark != "\n" for mark in text):
        raise NoteError("the text of a note ends with a line break and has no other control characters")


def _named(name: str) -> str:
    if not _NAME.match(name):
        raise NoteError(f"{name[:60]!r} is no name of a key: one word without +")
    return name


def _key_bytes(text: str, form: str) -> bytes:
    raw = _decoded(text, form)
    if len(raw) != 33 or raw[:1] != _ED25519:
        raise NoteError(f"{form}, and the key is one of Ed25519 (33 bytes beginning with 1)")
    return raw[1:]


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str, what: str) -> bytes:
    """Strict: one text for one value, so that nobody can vary a note without breaking its signature."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError) as error:
        raise NoteError(f"{what}: this is not base64") from error  # never shown: it may be a secret
    if _encoded(raw) != text:
        raise NoteError(f"{what}: not the one way in which base64 writes these bytes")
    return raw


def _micros(text: str) -> int:
    try:
        return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp()) * 1_000_000
    except ValueError as error:
        raise NoteError(f"{text[:40]!r} is not a time as in 2026-01-31T12:00:00Z") from error
