"""What lies in a pack: exact records with proofs that hold, who decided seeing what, the same bytes every time."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.evidence import tree
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Signer, open_checkpoint, open_note
from orchestrator.evidence.pack.checking import check, read_pack
from orchestrator.evidence.pack.gather import PackError
from orchestrator.evidence.pack.layout import archive
from orchestrator.evidence.pack.serving import Packs
from orchestrator.store.queries import ReadQueries
from tests.databases import Database
from tests.evidence.packs.logs import SIGNER, ZONE, SignedOffice, seal_all, signed_trip

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_records_are_the_stored_bytes_and_their_proofs_lead_to_the_signed_root(office: SignedOffice) -> None:
    """Checked here with the tree alone: not by what made the pack."""
    files = await office.pack("compensated")
    stored = await ReadQueries(office.product.runtime.store.pools).records("main", office.sagas["compensated"])
    assert [files[f"records/{one.version:06d}.json"] for one in stored] == [one.body for one in stored]
    signed = open_checkpoint(files["checkpoint.txt"].decode(), [SIGNER.verifier]).checkpoint
    leaves = json.loads(files["proofs.json"])["leaves"]
    assert [(leaf["version"], leaf["position"]) for leaf in leaves] == [(one.version, one.position) for one in stored]
    for leaf, one in zip(leaves, stored, strict=True):
        path = [bytes.fromhex(node) for node in leaf["path"]]
        assert tree.included(leaf["position"] - 1, signed.size, tree.leaf_hash(one.body), path, signed.root)
    note = open_note(files["manifest.note"].decode(), [SIGNER.verifier])
    assert note.text == f"bank.example/log/evidence\n{hashlib.sha256(files['manifest.json']).hexdigest()}\n"
    named = json.loads(files["manifest.json"])["files"]
    assert named == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if not name.startswith("manifest.")
    }


async def test_a_decision_is_there_with_all_that_it_rests_on(office: SignedOffice) -> None:
    """Person, role then, how they were known, the hash of what was shown, and what was shown itself."""
    files = await office.pack("compensated")
    (task,) = json.loads(files["decisions.json"])["tasks"]
    (shown,), (vote,) = task["shown"], task["votes"]
    assert shown["shown"] == {"amount": "6000", "currency": "EUR", "customer_id": "CUST00012"}
    canonical = b'{"amount":"6000","currency":"EUR","customer_id":"CUST00012"}'
    assert shown["hash"] == shown["computed"] == vote["hash"] == hashlib.sha256(canonical).hexdigest()
    assert (vote["by"], vote["outcome"], vote["roles"], vote["authentication"]) == (
        "maria",
        "reject",
        ["manager"],
        "test",
    )
    assert (vote["matches"], vote["void"], shown["matches"]) == (True, False, True)
    assert (task["outcome"], task["excluded"], task["asked"]) == ("reject", ["ravi"], [{"role": "manager"}])


async def test_operators_are_there_with_everybody_who_stood_behind_an_act(office: SignedOffice) -> None:
    """Who proposed, who confirmed, who cancelled, and why."""
    found = json.loads((await office.pack("helped"))["decisions.json"])["operators"]
    assert [(act["type"], act["people"], act["reason"]) for act in found] == [
        ("operator.proposed", ["olga"], "limit from the paper file"),
        ("operator.completed_by_hand", ["olga", "oskar"], "seen the paper file"),
    ]
    (cancel,) = json.loads((await office.pack("cancelled"))["decisions.json"])["operators"]
    assert cancel["people"] == ["olga"]
    assert "the customer called" in cancel["reason"]


async def test_the_definition_and_its_contracts_are_those_that_were_stored(office: SignedOffice) -> None:
    """As it was registered, by its hash; each contract as a JSON Schema under its version."""
    files = await office.pack("completed")
    definition = json.loads(files["definition.json"])
    stored = await ReadQueries(office.product.runtime.store.pools).definition("wire", 1)
    assert stored is not None
    assert (definition["hash"], definition["data"]) == (stored.hash, stored.data)
    named = {f"contracts/{name}.v{version}.json" for name, version in stored.data["contracts"].items()}
    assert {name for name in files if name.startswith("contracts/")} == named
    hold = json.loads(files["contracts/wires.Hold.v1.json"])
    assert set(hold["properties"]) == {"amount", "currency"}
    assert files["definition.svg"].startswith(b'<svg xmlns="http://www.w3.org/2000/svg"')
    assert b'href="report.html#node-0"' in files["definition.svg"]


async def test_a_log_that_grows_changes_no_byte_of_a_pack(office: SignedOffice) -> None:
    """The first checkpoint that covers the saga is taken, however many follow; a later one may be asked for."""
    before = await office.pack("undo")
    younger = await office.product.begin("auto")
    await seal_all(office.sealer)
    assert await office.pack("undo") == before
    latest = office.sealer.latest
    assert latest is not None
    later = await office.pack("undo", checkpoint=latest.number)
    assert later["checkpoint.txt"].decode() == latest.note != before["checkpoint.txt"].decode()
    assert check(later, [SIGNER.verifier]).flaws == []
    with pytest.raises(PackError, match="There is no checkpoint 999"):
        await office.pack("undo", checkpoint=999)
    with pytest.raises(PackError, match="Checkpoint 1 covers"):
        await office.packs.make("main", younger, checkpoint=1)


async def test_a_new_key_signs_the_pack_and_the_older_one_still_counts_for_its_checkpoint(office: SignedOffice) -> None:
    """After a rotation both are needed and both are named, the newer one first; neither alone is enough."""
    newer = Signer(SIGNER.name, bytes(range(2, 34)))
    ring = KeyRing((newer.verifier, SIGNER.verifier), newer)
    files = await Packs(office.product.runtime.store.pools, lambda: ring, ZONE).make("main", office.sagas["undo"])
    assert files["log-key.txt"].decode().splitlines() == ring.vkeys
    for keys, flawed in (
        (ring.verifiers, []),
        ((), []),
        ([newer.verifier], ["checkpoint.txt"]),
        ([SIGNER.verifier], ["manifest.note"]),
    ):
        assert [name for name, _ in check(files, keys).flaws] == flawed
    command = re.search(r"python3 -I verify\.py[^\n]*", files["README.txt"].decode())
    assert command is not None
    assert [part for part in shlex.split(command[0]) if "+" in part] == ring.vkeys


AGAIN = """
import asyncio, hashlib, sys
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.pack.layout import archive
from orchestrator.evidence.pack.serving import Packs
from orchestrator.store.postgres import PostgresStore

async def main():
    url, zone, key, *sagas = sys.argv[1:]
    async with PostgresStore(url) as store:
        for saga in sagas:
            files = await Packs(store.pools, lambda: KeyRing.of([key]), zone).make("main", saga)
            print(hashlib.sha256(b"".join(archive(files))).hexdigest())

asyncio.run(main())
"""


async def test_another_machine_makes_the_same_bytes(
    office: SignedOffice, pack_database: Database, tmp_path: Path
) -> None:
    """Another process with another hash seed, time zone, locale, umask and working directory."""
    names = ("compensated", "helped", "waiting")
    here = [hashlib.sha256(b"".join(archive(await office.pack(name)))).hexdigest() for name in names]
    other = {
        **os.environ, "PYTHONHASHSEED": "4711", "TZ": "America/New_York", "LC_ALL": "C", "LANG": "hi_IN.UTF-8",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }  # fmt: skip
    command = [
        sys.executable,
        "-c",
        AGAIN,
        pack_database.url,
        ZONE,
        SIGNER.text,
        *(office.sagas[name] for name in names),
    ]
    ran = await asyncio.to_thread(
        subprocess.run, command, env=other, cwd=tmp_path, capture_output=True, text=True, check=False, umask=0o077
    )
    assert ran.stdout.split() == here, ran.stderr


async def test_what_is_not_signed_yet_is_no_evidence(office: SignedOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by name, after a while of waiting for the next checkpoint."""
    monkeypatch.setattr("orchestrator.evidence.pack.serving.SEALED_SECONDS_MAX", 0.0)
    office.sagas["fresh"] = await office.product.begin("auto")
    with pytest.raises(PackError, match="not under a signed checkpoint yet") as refused:
        await office.pack("fresh")
    assert refused.value.code == "not_sealed"
    await seal_all(office.sealer)
    assert check(await office.pack("fresh"), [SIGNER.verifier]).flaws == []
    with pytest.raises(PackError, match="There is no saga"):
        await office.packs.make("other", office.sagas["fresh"])
    with pytest.raises(PackError, match="no time zone"):
        await office.pack("fresh", zone="Mars/Olympus")


async def test_parent_and_child_go_along_or_are_named(database: Database, tmp_path: Path) -> None:
    """With their own records, proofs and report; without them, their ids stand in the report."""
    async with signed_trip(database) as (packs, parent, child):
        alone = await packs.make("main", parent)
        assert not [name for name in alone if name.startswith("related/")]
        assert child.encode() in alone["report.html"]
        assert b"which is not in this pack" in alone["report.html"]
        for saga, other in ((parent, child), (child, parent)):
            files = await packs.make("main", saga, related=True)
            assert json.loads(files["manifest.json"])["related"] == [other]
            theirs = json.loads(files[f"related/{other}/records/000001.json"])
            assert theirs["saga"] == other
            assert f'href="related/{other}/report.html"'.encode() in files["report.html"]
            assert b'href="../../report.html"' in files[f"related/{other}/report.html"]
            (tmp_path / f"{saga}.zip").write_bytes(b"".join(archive(files)))
            found = check(read_pack(tmp_path / f"{saga}.zip"), [SIGNER.verifier])
            assert (found.flaws, found.sagas) == ([], 2)
            assert found.records == len([name for name in files if "records/" in name])
