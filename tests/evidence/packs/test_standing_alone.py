"""Years later, on a machine without this product: the pack in an empty folder, and `python -I verify.py`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence import verifier
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Signer
from orchestrator.evidence.pack.layout import archive
from orchestrator.evidence.pack.serving import Packs
from orchestrator.messages.canonical import canonical_bytes
from tests.databases import Database
from tests.evidence.packs.logs import SIGNER, VKEY, SignedOffice, changed_ways, signed_trip, unpacked
from tests.evidence.packs.test_checking import OTHER, resealed

pytestmark = pytest.mark.asyncio(loop_scope="session")


def verified(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and words of the pack's own verifier, alone in its folder with the standard library."""
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "verify.py", "pack", *arguments],
        cwd=folder, env={}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


async def test_the_pack_verifies_alone_from_its_folder_and_from_its_zip(office: SignedOffice, tmp_path: Path) -> None:
    """Without site-packages, without an environment: nothing of ours could be imported, and nothing is missed."""
    data = b"".join(archive(await office.pack("helped")))
    (tmp_path / "pack.zip").write_bytes(data)
    folder = unpacked(data, tmp_path / "unpacked")
    assert "orchestrator" not in (folder / "verify.py").read_text().replace("orchestrator.local", "")
    count = len(list((folder / "records").iterdir()))
    for where in (".", "../pack.zip"):
        code, said = verified(folder, "--key", VKEY, where)
        assert (code, f"{count} records" in said, "as it was written" in said) == (0, True, True), said
    code, said = verified(folder, "--key", OTHER.verifier.vkey, ".")
    assert code == 6
    assert "no trusted key signed" in said


async def test_each_file_that_was_touched_is_named_by_the_verifier_alone(office: SignedOffice, tmp_path: Path) -> None:
    """A bit flipped in any file, any file gone, one more; in this process, because there are seventy ways."""
    files = await office.pack("compensated")
    folder = unpacked(b"".join(archive(files)), tmp_path / "pack")
    alone: Any = verifier  # written for readers, without types
    keys = [alone.key_of(VKEY)]
    for name, changed in changed_ways(files):
        (folder / name).unlink(missing_ok=True)
        if name in changed:
            (folder / name).write_bytes(changed[name])
        said: list[str] = []
        try:
            alone.pack(folder, [], keys, said.append)
        except (ValueError, LookupError, TypeError) as error:
            said.append(f"{type(error).__name__}: {error}")
        wanted = "/evidence" if name == "manifest.note" and name in changed else name
        assert any(wanted in flaw for flaw in said), (name, said)
        (folder / name).unlink(missing_ok=True)
        if name in files:
            (folder / name).write_bytes(files[name])


async def test_whoever_has_the_key_is_found_out_by_chain_and_proofs(office: SignedOffice, tmp_path: Path) -> None:
    """A record forged, a proof bent, both sealed again with the log's own key."""
    files = await office.pack("helped")
    body = json.loads(files["records/000004.json"])
    forged = {**files, "records/000004.json": canonical_bytes({**body, "actor": "person:mallory"})}
    proofs = json.loads(files["proofs.json"])
    proofs["leaves"][0]["path"][0] = "00" * 32
    bent = {**files, "proofs.json": canonical_bytes(proofs)}
    for number, (changed, says) in enumerate(
        ((forged, "records/000004.json is not in the tree"), (bent, "records/000001.json is not in the tree"))
    ):
        folder = unpacked(b"".join(archive(resealed(changed))), tmp_path / str(number))
        code, said = verified(folder, "--key", VKEY, ".")
        assert (code, says in said) == (6, True), said
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("report.html", files["report.html"])
    code, said = verified(unpacked(b"".join(archive(files)), tmp_path / "whole"), "--key", VKEY, str(twice))
    assert (code, "twice" in said) == (6, True), said


async def test_related_sagas_are_verified_too(database: Database, tmp_path: Path) -> None:
    """Each with its own chain and proofs, also when somebody with the key has forged one of theirs."""
    async with signed_trip(database) as (packs, parent, child):
        files = await packs.make("main", parent, related=True)
    count = len([name for name in files if "records/" in name])
    folder = unpacked(b"".join(archive(files)), tmp_path / "whole")
    code, said = verified(folder, "--key", VKEY, ".")
    assert (code, f"{count} records" in said) == (0, True), said
    theirs = f"related/{child}/records/000001.json"
    body = json.loads(files[theirs])
    forged = resealed({**files, theirs: canonical_bytes({**body, "actor": "person:mallory"})})
    code, said = verified(unpacked(b"".join(archive(forged)), tmp_path / "forged"), "--key", VKEY, ".")
    assert (code, f"{theirs} is not in the tree" in said) == (6, True), said


async def test_after_a_new_key_both_are_given_the_newer_one_first(office: SignedOffice, tmp_path: Path) -> None:
    """As the pack's own README says it."""
    newer = Signer(SIGNER.name, bytes(range(2, 34)))
    ring = KeyRing((newer.verifier, SIGNER.verifier), newer)
    packs = Packs(office.product.runtime.store.pools, lambda: ring, "UTC")
    folder = unpacked(b"".join(archive(await packs.make("main", office.sagas["undo"]))), tmp_path)
    line = next(line for line in (folder / "README.txt").read_text().splitlines() if "verify.py pack" in line)
    arguments = shlex.split(line)[shlex.split(line).index("pack") + 1 :]
    assert arguments[::2] == ["--key", "--key", "."]
    assert verified(folder, *arguments)[0] == 0
    assert verified(folder, "--key", VKEY, ".")[0] == 6
