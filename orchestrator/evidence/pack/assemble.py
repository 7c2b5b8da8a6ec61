"""From material to files: every file of a pack but its seal. The same material makes the same bytes, everywhere.

Rules of this file
- Records are the stored bytes. Everything else is made from them, from the stored definition and from the checkpoint.
- JSON is canonical (RFC 8785); texts are UTF-8 with line feeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files as resources
from typing import Any

from orchestrator.evidence.notes import Signer
from orchestrator.evidence.pack import layout
from orchestrator.evidence.pack.decisions import decisions
from orchestrator.evidence.pack.material import FORMAT, Material, Strand
from orchestrator.evidence.pack.personal import Say, as_sealed
from orchestrator.evidence.pack.report import picture, report, tell
from orchestrator.messages.canonical import canonical_bytes


def pack_of(material: Material, signer: Signer, say: Say | None = None) -> dict[str, bytes]:
    """All files of the pack, sealed. `say`: how texts stand in what people read."""
    made = files_of(material, say)
    return layout.sealed(made, about(material), signer)


def about(material: Material) -> dict[str, Any]:
    """What the manifest says beside the files."""
    strand, checkpoint = material.strand, material.checkpoint.checkpoint
    return {
        "format": FORMAT, "tenant": strand.tenant, "saga": strand.saga_id, "name": strand.name,
        "business_key": strand.business_key, "zone": material.zone, "records": len(strand.records),
        "checkpoint": {"origin": checkpoint.origin, "number": checkpoint.number, "size": checkpoint.size},
        "related": [each.saga_id for each in material.relatives],
    }  # fmt: skip


def files_of(material: Material, say: Say | None = None) -> dict[str, bytes]:
    """All files but the manifest and its signature."""
    say = say or as_sealed(material)
    found = {
        layout.CHECKPOINT: material.checkpoint.note.encode(),
        layout.KEY: "".join(f"{vkey}\n" for vkey in material.vkeys).encode(),
        layout.VERIFIER: (resources("orchestrator.evidence") / "verifier.py").read_bytes(),
        layout.README: readme(material, say).encode(),
    }
    found |= dict(_strand_files(material, material.strand, say))
    for strand in material.relatives:
        folder = layout.folder_of(strand.saga_id)
        found |= {f"{folder}{name}": content for name, content in _strand_files(material, strand, say)}
    return found


def _strand_files(material: Material, strand: Strand, say: Say) -> Iterator[tuple[str, bytes]]:
    for record in strand.records:
        yield layout.record_name(record.version), record.body
    decided = decisions(strand.views)
    told = tell(strand, decided, say)
    yield layout.PROOFS, canonical_bytes(_proofs(strand))
    yield layout.DECISIONS, canonical_bytes(decided)
    yield layout.REPORT, report(material, strand, told, say).encode()
    if strand.definition is not None:
        stored = {"name": strand.name, "version": strand.version, "hash": strand.definition.hash}
        yield layout.DEFINITION, canonical_bytes({**stored, "data": strand.definition.data})
        if told.picture:
            yield layout.PICTURE, picture(told).encode()
    for schema in strand.schemas:
        yield layout.contract_name(schema.contract, schema.version), schema.schema


def _proofs(strand: Strand) -> Mapping[str, Any]:
    return {
        "leaves": [
            {"version": record.version, "position": record.position, "path": [node.hex() for node in path]}
            for record, path in zip(strand.records, strand.paths, strict=True)
        ]
    }


def readme(material: Material, say: Say) -> str:
    """For whoever has the file alone."""
    strand, checkpoint = material.strand, material.checkpoint.checkpoint
    return f"""Evidence of saga {strand.name} {say(strand.business_key)} ({strand.saga_id})

Open report.html first: what happened, who decided seeing what, what was undone.

To verify, with Python 3.9 or later and nothing else, in the folder that holds this file:

    {material.command}

The key came with the pack (log-key.txt). Before you believe it, compare it with the one that the owner of the log
{checkpoint.origin} publishes, or that you had from an earlier audit.

records/        one file a record, its exact bytes; sha256sum of a file is the record's hash
proofs.json     for each record its position in the log, and the path to the root (RFC 9162)
checkpoint.txt  size and root of the log, signed (C2SP tlog-checkpoint)
decisions.json  every decision with what was shown, its hash, the person, their role then, how they were known
definition.*    what the saga followed, as data and as a picture; contracts/ has its messages as JSON Schemas
manifest.json   the SHA-256 of every file; manifest.note is the signature over it
related/        the same for sagas that this one called, or that called it, where they go along
"""
