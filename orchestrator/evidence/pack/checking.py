"""Checking a pack with the product at hand: what the stand-alone verifier checks, and that its decisions are true.

Rules of this file
- A pack is somebody's file: nothing in it is believed, run or written to disk. Every flaw is named by its file.
- The keys that one trusts come from outside the pack; those that lie in it prove only that the pack is whole.
- Decisions are read from the records again: who signed a pack cannot put words into somebody's mouth.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from orchestrator.api.times import instant
from orchestrator.api.views import RecordView
from orchestrator.evidence.notes import NoteError, SignedCheckpoint, Verifier, open_checkpoint
from orchestrator.evidence.pack import layout
from orchestrator.evidence.pack.decisions import decisions
from orchestrator.evidence.pack.material import FORMAT
from orchestrator.evidence.pack.shape import Leaf, ShapeError, is_name, leaves_of, manifest_of
from orchestrator.evidence.tree import included, leaf_hash
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.store.chain import ChainError, opened, verify
from orchestrator.store.contract import StoredRecord

FILES_MAX, BYTES_MAX = 1_000_000, 4 * 1024**3


class PackFileError(ValueError):
    """This is no evidence pack; the text says why."""


@dataclass(slots=True)
class Checked:
    """What was found. `flaws`: file and what is wrong with it; none: the pack holds. `own_key`: nobody gave another."""

    about: Mapping[str, Any] = field(default_factory=dict[str, Any])
    flaws: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    checkpoint: SignedCheckpoint | None = None
    keys: tuple[Verifier, ...] = ()
    own_key: bool = False
    files: int = 0
    records: int = 0
    sagas: int = 0

    @property
    def holds(self) -> bool:
        """Nothing is wrong."""
        return not self.flaws


def read_pack(path: Path) -> dict[str, bytes]:
    """The files of a pack, from its zip or from the folder that it was unpacked to. Raises PackFileError, OSError."""
    found = _folder(path) if path.is_dir() else _zip(path)
    if layout.MANIFEST not in found:
        raise PackFileError(f"{path} has no {layout.MANIFEST}: it is no evidence pack")
    return found


def check(files: Mapping[str, bytes], keys: Sequence[Verifier] = ()) -> Checked:
    """Everything that can be checked without the log. `keys`: those that are trusted; else the pack's own."""
    found = Checked(files=len(files), own_key=not keys)
    try:
        own = files.get(layout.KEY, b"").decode().splitlines()
        found.keys = tuple(keys or [Verifier.of(line) for line in own])
    except (NoteError, UnicodeDecodeError) as error:
        found.flaws.append((layout.KEY, str(error)))
        return found
    _manifest(files, found)
    try:
        found.checkpoint = open_checkpoint(_text(files, layout.CHECKPOINT), found.keys)
    except NoteError as error:
        found.flaws.append((layout.CHECKPOINT, str(error)))
        return found
    for folder in sorted({""} | {_folder_of(name) for name in files if name.startswith(f"{layout.RELATED}/")}):
        found.flaws += _strand(files, folder, found)
        found.sagas += 1
    return found


def _manifest(files: Mapping[str, bytes], found: Checked) -> None:
    """The signature, and that every file is there and as it was signed, and no other one."""
    manifest = files[layout.MANIFEST]
    flaw = layout.manifest_flaw(manifest, _text(files, layout.NOTE), found.keys)
    if flaw:
        found.flaws.append((layout.NOTE, flaw))
    try:
        about = manifest_of(manifest)
    except ShapeError as error:
        found.flaws.append((layout.MANIFEST, str(error)))
        return
    named: Mapping[str, str] = about["files"]
    found.about = {name: value for name, value in about.items() if name != "files"}
    if about["format"] != FORMAT:
        found.flaws.append((layout.MANIFEST, f"its format is {about['format']!r:.40}, this release reads {FORMAT}"))
    for name in sorted({*named, *files} - {layout.MANIFEST, layout.NOTE}):
        if name not in files:
            found.flaws.append((name, "it is missing"))
        elif name not in named:
            found.flaws.append((name, "it was added: the manifest does not name it"))
        elif hashlib.sha256(files[name]).hexdigest() != named[name]:
            found.flaws.append((name, "it was changed: its hash is not the one in the manifest"))
        elif not is_name(name):
            found.flaws.append((name, "no file of a pack has such a name: it could lead elsewhere"))


def _strand(files: Mapping[str, bytes], folder: str, found: Checked) -> Iterator[tuple[str, str]]:
    """One saga: its chain, its proofs, and what is told of its decisions."""
    try:
        leaves = leaves_of(files.get(f"{folder}{layout.PROOFS}", b""))
        records = [_record(files, folder, leaf) for leaf in leaves]
        paths = [leaf.path for leaf in leaves]
    except (ShapeError, ChainError) as error:
        yield f"{folder}{layout.PROOFS}", f"records and proofs cannot be read together: {error}"
        return
    names = {name for name in files if name.startswith(f"{folder}records/")}
    for name in sorted(names - {f"{folder}{layout.record_name(record.version)}" for record in records}):
        yield name, "no proof leads from it to the root"
    found.records += len(records)
    saga_id = unquote(folder.split("/")[1]) if folder else str(found.about.get("saga", ""))
    flaw = verify(records, saga_id=saga_id, head_version=found.about.get("records") if not folder else None)
    if flaw is not None or not records:
        where = layout.record_name(flaw.version) if flaw is not None and flaw.version else layout.PROOFS
        yield f"{folder}{where}", flaw.reason if flaw is not None else "there is no record"
        return
    if records[0].tenant != found.about.get("tenant"):
        yield (
            f"{folder}{layout.record_name(1)}",
            f"it is of tenant {records[0].tenant!r:.60}, the manifest of another one",
        )
    assert found.checkpoint is not None
    tree = found.checkpoint.checkpoint
    for record, path in zip(records, paths, strict=True):
        if not included(record.position - 1, tree.size, leaf_hash(record.body), path, tree.root):
            yield f"{folder}{layout.record_name(record.version)}", "its proof does not lead to the signed root"
    if _decided(records) != files.get(f"{folder}{layout.DECISIONS}"):
        yield f"{folder}{layout.DECISIONS}", "it does not say what the records say"


def _decided(records: Sequence[StoredRecord]) -> bytes | None:
    """What the records say about decisions; None where they are of no saga that this product wrote."""
    try:
        return canonical_bytes(decisions([_view(record) for record in records]))
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, OSError):
        return None


def _record(files: Mapping[str, bytes], folder: str, leaf: Leaf) -> StoredRecord:
    name = f"{folder}{layout.record_name(leaf.version)}"
    if name not in files:
        raise ShapeError(f"{name} is missing")
    body = files[name]
    found = opened("", leaf.version, body, hashlib.sha256(body).digest(), leaf.position)
    saga_id = orjson.loads(body).get("saga")
    if not isinstance(saga_id, str):
        raise ShapeError(f"{name} is no record: it does not say of which saga it is")
    return replace(found, saga_id=saga_id)


def _view(one: StoredRecord) -> RecordView:
    return RecordView(
        one.saga_id, one.version, one.type, one.activity, one.data, one.actor, instant(one.recorded_at)
    )  # fmt: skip


def _text(files: Mapping[str, bytes], name: str) -> str:
    return files.get(name, b"").decode("utf-8", "replace")


def _folder_of(name: str) -> str:
    return "/".join(name.split("/")[:2]) + "/"


def _folder(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    held = 0
    for file in sorted(path.rglob("*")):
        if file.is_symlink():
            raise PackFileError(f"{file} is a link: a pack has none")
        if file.is_file():
            held += file.stat().st_size
            if len(found) >= FILES_MAX or held > BYTES_MAX:
                raise PackFileError(f"{path} is larger than any pack")
            found[file.relative_to(path).as_posix()] = file.read_bytes()
    return found


def _zip(path: Path) -> dict[str, bytes]:
    """What is not compressed holds no more than it weighs, unless its entries lie over each other."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as held:
            entries = held.infolist()
            names = [entry.filename for entry in entries]
            if len(set(names)) != len(names):
                raise PackFileError(f"{path} has two files of one name")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise PackFileError(f"{path} is compressed, which a pack never is: somebody has packed it again")
            if len(names) > FILES_MAX or sum(entry.file_size for entry in entries) > min(BYTES_MAX, size):
                raise PackFileError(f"{path} says that it holds more than any pack of its size: {len(names)} files")
            return {name: held.read(name) for name in names}
    except PackFileError:
        raise
    except Exception as error:  # whatever the library raises over bytes that are no zip
        raise PackFileError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
