"""The key file: what wraps the keys of subjects, and what hides who they are. It never lies in the database.

    index  <32 bytes, base64>     finds a subject's key by their id; never changes
    k1     <32 bytes, base64>     wraps keys; the last line wraps new ones, earlier ones still open what they wrapped

Rules of this file
- Readable by its owner alone, and kept out of the database's directory and of its backups: whoever has both has all.
- To rotate, add a line (`orchestrator vault rotate` does, and wraps all keys anew); then the old line may go.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.keyfiles import KeyFileError, write_private
from orchestrator.vault.tokens import KEY_BYTES, NONCE_BYTES, DataKey

INDEX = "index"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The keys of a key file. `active` wraps what is new."""

    index: bytes = field(repr=False)
    keys: dict[str, bytes] = field(repr=False)
    active: str = ""

    def subject(self, tenant: str, subject: str) -> bytes:
        """What stands for a subject in the database: nobody can guess their id without the index key."""
        return hmac.digest(self.index, f"{tenant}\0{subject}".encode(), "sha256")

    def wrap(self, key: DataKey) -> bytes:
        """A subject's key as it is stored."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + AESGCM(self.keys[self.active]).encrypt(nonce, key.raw, _bound(key.tenant, key.key_id))

    def unwrap(self, key_id: str, tenant: str, wrapped: bytes, by: str) -> DataKey:
        """A stored key again. Raises KeyFileError where its wrapping key is not here, or it was altered."""
        wrapping = self.keys.get(by)
        if wrapping is None:
            raise KeyFileError(f"the key file has no key {by}, which wraps a subject's key {key_id}: put the line back")
        try:
            raw = AESGCM(wrapping).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _bound(tenant, key_id))
        except InvalidTag:
            text = (
                f"a subject's key {key_id} does not open with {by}: another key file, or its row of vault_keys was "
                "altered; put the row back from a backup"
            )
            raise KeyFileError(text) from None
        return DataKey(key_id, tenant, raw)


def read(path: Path) -> Wrapping:
    """The keys of a file. Raises KeyFileError."""
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(
            f"the vault's key file {path} cannot be read ({type(error).__name__}): make one with "
            "`orchestrator vault init`, or set ORCHESTRATOR_VAULT_KEY_FILE"
        ) from None
    if mode & 0o077:
        raise KeyFileError(f"the vault's key file {path} may be read by others: chmod 600 {path}")
    found: dict[str, bytes] = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        try:
            raw = b64decode(value.strip(), validate=True)
        except ValueError:
            raw = b""
        if not _NAME.fullmatch(name) or name in found or len(raw) != KEY_BYTES:
            raise KeyFileError(f"the vault's key file {path}: line {name[:30]!r} is doubled, or no 32 bytes in base64")
        found[name] = raw
    index = found.pop(INDEX, b"")
    if not index or not found:
        raise KeyFileError(f"the vault's key file {path} needs a line {INDEX} and at least one other key")
    return Wrapping(index, found, list(found)[-1])


def create(path: Path) -> Wrapping:
    """Makes a key file. Raises KeyFileError where there is one already."""
    _write(path, {INDEX: secrets.token_bytes(KEY_BYTES), "k1": secrets.token_bytes(KEY_BYTES)}, is_new=True)
    return read(path)


def read_or_create(path: Path) -> Wrapping:
    """For a laptop: the keys of the file, which is made where there is none."""
    if not path.exists():
        try:
            return create(path)
        except KeyFileError:
            if not path.exists():
                raise
    return read(path)


def add(path: Path) -> Wrapping:
    """Adds a wrapping key, which is then the active one. Raises KeyFileError."""
    before = read(path)
    number = 1 + max((int(name[1:]) for name in before.keys if re.fullmatch(r"k[0-9]+", name)), default=0)
    _write(path, {INDEX: before.index, **before.keys, f"k{number}": secrets.token_bytes(KEY_BYTES)})
    return read(path)


def _write(path: Path, keys: dict[str, bytes], *, is_new: bool = False) -> None:
    text = "".join(f"{name} {b64encode(raw).decode()}\n" for name, raw in keys.items())
    try:
        write_private(path, text, is_new=is_new)
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be written: {error.strerror or error}") from None


def _bound(tenant: str, key_id: str) -> bytes:
    return f"orchestrator vault v1\0{tenant}\0{key_id}".encode()
