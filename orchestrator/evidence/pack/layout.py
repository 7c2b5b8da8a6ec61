"""The form of a pack: its files' names, its manifest, its signature, and the zip around them.

Rules of this file
- The same files make the same bytes: names sorted, stored uncompressed, one fixed time, one fixed mode.
- The manifest names every other file with its SHA-256, and is signed as a note whose text is `<log>/evidence` and the
  SHA-256 of the manifest: so nothing in a pack can be changed, added or taken away unnoticed.
- Related sagas lie in `related/<saga id>/`, with the same files as the saga itself.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from orchestrator.evidence.notes import NoteError, Signer, Verifier, open_note
from orchestrator.messages.canonical import canonical_bytes

MANIFEST, NOTE = "manifest.json", "manifest.note"
CHECKPOINT, PROOFS, DECISIONS = "checkpoint.txt", "proofs.json", "decisions.json"
DEFINITION, PICTURE, REPORT = "definition.json", "definition.svg", "report.html"
VERIFIER, KEY, README = "verify.py", "log-key.txt", "README.txt"
RELATED = "related"
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_MODE = 0o100644 << 16
PART_BYTES, MEMORY_BYTES_MAX = 65_536, 16_777_216


def record_name(version: int) -> str:
    """records/000001.json"""
    return f"records/{version:06d}.json"


def contract_name(wire_name: str, version: int) -> str:
    """contracts/transfers.HoldFunds.v1.json"""
    return f"contracts/{quote(wire_name, safe='')}.v{version}.json"


def folder_of(saga_id: str) -> str:
    """Where a related saga's files lie."""
    return f"{RELATED}/{quote(saga_id, safe='')}/"


def sealed(files: Mapping[str, bytes], about: Mapping[str, Any], signer: Signer) -> dict[str, bytes]:
    """The files with their manifest and its signature. `about`: what the manifest says beside the files' hashes."""
    manifest = canonical_bytes({**about, "files": {name: hashlib.sha256(files[name]).hexdigest() for name in files}})
    note = signer.sign(note_text(signer.name, manifest))
    return {**files, MANIFEST: manifest, NOTE: note.encode()}


def note_text(origin: str, manifest: bytes) -> str:
    """What is signed."""
    return f"{origin}/evidence\n{hashlib.sha256(manifest).hexdigest()}\n"


def manifest_flaw(manifest: bytes, note: str, keys: Sequence[Verifier]) -> str:
    """Why this signature is not one over this manifest by one of these keys; "" where it is."""
    try:
        opened = open_note(note, keys)
    except NoteError as error:
        return str(error)
    return "" if opened.text == note_text(opened.by.name, manifest) else "the note was signed over another manifest"


def archive(files: Mapping[str, bytes]) -> Iterator[bytes]:
    """The zip, in parts."""
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES_MAX) as held:
        with zipfile.ZipFile(held, "w", zipfile.ZIP_STORED) as made:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.create_system, entry.external_attr = 3, _MODE  # as on Unix, wherever it is made
                made.writestr(entry, files[name])
        held.seek(0)
        while part := held.read(PART_BYTES):
            yield part
