"""The keys of the log: the one that signs, and the older ones whose checkpoints stay valid.

Rules of this file
- A key file has one key a line: first the signing key (`PRIVATE+KEY+...`), below it the public keys (`name+id+key`)
  that signed before, newest first. Comments begin with #. Nobody but its owner may read it.
- The key never lies in the database, so whoever owns the database cannot sign.
- A key is retired by the one above it: from the first checkpoint that the newer one signed, the older one signs no
  more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.evidence.notes import NoteError, Signer, Verifier, is_secret
from orchestrator.keyfiles import KeyFileError, write_private


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys in the order of their age, newest first. `signer` None: this process can verify, not sign."""

    verifiers: tuple[Verifier, ...]
    signer: Signer | None = None

    @property
    def vkeys(self) -> list[str]:
        """All public keys as text, newest first."""
        return [key.vkey for key in self.verifiers]

    def age(self, key: Verifier) -> int:
        """0 for the newest key, 1 for the one before, and so on."""
        return self.verifiers.index(key)

    @staticmethod
    def of(lines: Iterable[str]) -> KeyRing:
        """The ring in the lines of a key file, or in keys given one by one. Raises KeyFileError."""
        signer: Signer | None = None
        verifiers: list[Verifier] = []
        for line in (one.strip() for one in lines):
            if not line or line.startswith("#"):
                continue
            try:
                if is_secret(line):
                    if signer is not None or verifiers:
                        raise KeyFileError("the signing key is the first one, and there is only one; retire older ones")
                    signer = Signer.of(line)
                    key = signer.verifier
                else:
                    key = Verifier.of(line)
            except NoteError as error:
                raise KeyFileError(str(error)) from error
            if key not in verifiers:
                verifiers.append(key)
        if not verifiers:
            raise KeyFileError("there is no key in it: make one with `orchestrator audit keys new`")
        return KeyRing(tuple(verifiers), signer)


def read_ring(file: Path) -> KeyRing:
    """The keys in a file. Raises KeyFileError where it cannot be read, is no key file, or others may read a secret."""
    try:
        text, mode = file.read_text(encoding="utf-8"), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"key file {file}: {error}") from error
    try:
        ring = KeyRing.of(text.splitlines())
    except KeyFileError as error:
        raise KeyFileError(f"key file {file}: {error}") from error
    if ring.signer is not None and mode & 0o007:
        raise KeyFileError(f"key file {file}: everybody on this machine may read it. Do: chmod 600 {file}")
    return ring


def write_ring(file: Path, signer: Signer, older: Sequence[Verifier] = (), *, is_new: bool = False) -> None:
    """Writes a key file that only its owner can read, whole or not at all. Raises OSError.

    is_new: FileExistsError where there is one; else it is replaced.
    """
    lines = [
        "# The signing key of the audit log, and below it the keys that signed before it, newest first.",
        "# Whoever has the first line can sign checkpoints. Keep it away from the database and its backups.",
        signer.text,
        *(key.vkey for key in older),
    ]
    write_private(file, "".join(f"{line}\n" for line in lines), is_new=is_new)


def own_ring(file: Path, name: str) -> KeyRing:
    """The keys in a file that is made where it is missing: for laptops and demonstrations. Raises KeyFileError."""
    if not file.exists():
        try:
            write_ring(file, Signer.new(name), is_new=True)
        except FileExistsError:
            pass  # another process made it just now
        except (OSError, NoteError) as error:
            raise KeyFileError(f"key file {file} cannot be made: {error}") from error
    return read_ring(file)
