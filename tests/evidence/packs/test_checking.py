"""What `verify-pack` finds: every file that was touched, also by somebody who has the key of the log."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.notes import Signer, Verifier
from orchestrator.evidence.pack.checking import PackFileError, check, read_pack
from orchestrator.evidence.pack.layout import archive, sealed
from orchestrator.messages.canonical import canonical_bytes
from tests.evidence.packs.logs import SIGNER, VKEY, SignedOffice, changed_ways, unpacked

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = [SIGNER.verifier]
OTHER = Signer("bank.example/log", bytes(range(1, 33)))


def resealed(files: Mapping[str, bytes], signer: Signer = SIGNER) -> dict[str, bytes]:
    """The files with a manifest and a signature that fit them: what somebody with the key could make."""
    about = json.loads(files["manifest.json"])
    kept = {name: content for name, content in files.items() if name not in ("manifest.json", "manifest.note")}
    return sealed(kept, {name: value for name, value in about.items() if name != "files"}, signer)


def touched(files: Mapping[str, bytes], name: str, change: Any) -> dict[str, bytes]:
    """The files with the JSON of one of them changed, sealed again."""
    value = json.loads(files[name])
    change(value)
    return resealed({**files, name: canonical_bytes(value)})


async def test_each_file_that_was_touched_is_named(office: SignedOffice) -> None:
    """A bit flipped in any file, any file gone, one more."""
    files = await office.pack("compensated")
    assert check(files, KEY).flaws == []
    ways = 0
    for name, changed in changed_ways(files):
        if "manifest.json" not in changed:
            continue  # then it is no pack at all: see below
        named = {flawed for flawed, _ in check(changed, KEY).flaws}
        wanted = {"manifest.json": "manifest.note"}.get(name, name)
        assert wanted in named, (name, check(changed, KEY).flaws)
        ways += 1
    assert ways == 2 * len(files)


async def test_whoever_signs_with_another_key_is_found_out(office: SignedOffice) -> None:
    """A pack that is whole in itself, of a log that nobody trusts; the pack's own key does not help."""
    files = resealed(await office.pack("completed"), OTHER)
    assert [name for name, _ in check(files, KEY).flaws] == ["manifest.note"]
    theirs = check(files, [OTHER.verifier])
    assert [name for name, _ in theirs.flaws] == ["checkpoint.txt"]
    assert check(await office.pack("completed"), [OTHER.verifier]).flaws[0][0] == "manifest.note"
    own = check(await office.pack("completed"))
    assert (own.flaws, own.own_key, own.keys) == ([], True, (Verifier.of(VKEY),))


async def test_whoever_has_the_key_cannot_lie_about_what_was_signed_before(office: SignedOffice) -> None:
    """Sealed again with the log's own key: chain, proofs and decisions still name the place."""
    files = await office.pack("helped")
    swapped = {**files, "records/000002.json": files["records/000003.json"]}
    assert check(resealed(swapped), KEY).flaws[0][0] == "records/000002.json"

    body = json.loads(files["records/000004.json"])
    forged = {**files, "records/000004.json": canonical_bytes({**body, "actor": "person:mallory"})}
    (flaw, *_) = check(resealed(forged), KEY).flaws
    assert flaw[0] == "records/000005.json", "the next record has the hash of what was there"

    last = max(name for name in files if name.startswith("records/"))
    end = json.loads(files[last])
    named = [name for name, _ in check(resealed({**files, last: canonical_bytes({**end, "actor": "x"})}), KEY).flaws]
    assert named == [last], "the last one has no next: its proof does not lead to the root"

    def shorten(proofs: Any) -> None:
        proofs["leaves"].pop()

    short = {name: content for name, content in files.items() if name != last}
    assert check(touched(short, "proofs.json", shorten), KEY).flaws, "the manifest says how many records there are"

    def bend(proofs: Any) -> None:
        path = proofs["leaves"][0]["path"]
        path[0] = path[0][:-1] + ("0" if path[0][-1] != "0" else "1")

    assert [name for name, _ in check(touched(files, "proofs.json", bend), KEY).flaws] == ["records/000001.json"]

    def blame(found: Any) -> None:
        found["tasks"][0]["votes"][0]["by"] = "mallory"

    assert [name for name, _ in check(touched(files, "decisions.json", blame), KEY).flaws] == ["decisions.json"]

    about = {**json.loads(files["manifest.json"]), "saga": "another"}
    renamed = resealed({**files, "manifest.json": canonical_bytes(about)})
    assert [name for name, _ in check(renamed, KEY).flaws] == ["records/000001.json"]


async def test_a_folder_is_checked_like_the_zip(office: SignedOffice, tmp_path: Path) -> None:
    """Unpacked files are what people have; a link out of the folder is refused."""
    files = await office.pack("waiting")
    folder = unpacked(b"".join(archive(files)), tmp_path / "pack")
    assert check(read_pack(folder), KEY).flaws == []
    (folder / "notes.txt").write_text("mine")
    assert check(read_pack(folder), KEY).flaws == [("notes.txt", "it was added: the manifest does not name it")]
    (folder / "link").symlink_to(os.devnull)
    with pytest.raises(PackFileError, match="link"):
        read_pack(folder)


async def test_what_is_no_pack_is_refused_before_it_is_read(office: SignedOffice, tmp_path: Path) -> None:
    """Not a zip, a zip of something else, one that somebody has packed again, one with a name twice."""
    files = await office.pack("waiting")
    text, other, again, twice = (tmp_path / name for name in ("text.zip", "other.zip", "again.zip", "twice.zip"))
    text.write_text("hello")
    for path, says in ((text, "cannot be read"), (tmp_path, "no manifest.json")):
        with pytest.raises(PackFileError, match=says):
            read_pack(path)
    with zipfile.ZipFile(other, "w") as made:
        made.writestr("x", b"x")
    with zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    with zipfile.ZipFile(twice, "w") as made:
        made.writestr("manifest.json", files["manifest.json"])
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("manifest.json", files["manifest.json"])
    for path, says in ((other, "no manifest.json"), (again, "compressed"), (twice, "two files")):
        with pytest.raises(PackFileError, match=says):
            read_pack(path)


JUNK = [b"", b"{", b"[]", b"null", b'{"leaves":[{}]}', b'{"leaves":[{"version":"x"}]}', b"\xff", b'{"saga":[]}']


@pytest.mark.parametrize("junk", JUNK)
async def test_files_that_are_nonsense_are_flaws_and_never_a_crash(office: SignedOffice, junk: bytes) -> None:
    """A pack comes from outside: whatever is in it, there is an answer; also where somebody with the key sealed it."""
    files = await office.pack("waiting")
    for name in files:
        assert name in {flawed for flawed, _ in check({**files, name: junk}, KEY).flaws} | {"manifest.json"}
        if name.endswith("proofs.json") or name.startswith(("records/", "checkpoint", "decisions")):
            assert check(resealed({**files, name: junk}), KEY).flaws, name


async def test_records_of_nobody_are_flaws_and_never_a_crash(office: SignedOffice) -> None:
    """Canonical, chained, sealed with the key, and yet nothing that this product writes."""
    files = await office.pack("waiting")
    last = max(name for name in files if name.startswith("records/"))
    strange: list[Any] = [[], {"vote": []}, {"shown": None, "vote": {"received_at": "x"}}, "text", None]
    for data in strange:
        for type_ in ("task.voted", "task.opened", "saga.failing", "operator.retried", "x"):
            body = {**json.loads(files[last]), "type": type_, "data": data, "activity": "a"}
            flaws = check(resealed({**files, last: canonical_bytes(body)}), KEY).flaws
            assert last in {name for name, _ in flaws}, (type_, data)
