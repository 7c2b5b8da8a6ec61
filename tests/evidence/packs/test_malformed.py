"""Packs that nobody here has made: whatever is in them, both verifiers answer in a sentence, and write nothing."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cli.main import run
from orchestrator.evidence import verifier
from orchestrator.evidence.pack.layout import archive, note_text
from orchestrator.messages.canonical import canonical_bytes
from tests.evidence.packs.logs import SIGNER, VKEY, SignedOffice
from tests.evidence.packs.test_checking import resealed

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALONE: Any = verifier  # a program without types


@pytest.fixture(scope="module", autouse=True)
def signatures_once() -> Iterator[None]:
    """The same checkpoint is opened hundreds of times: the slow arithmetic is done once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifier, "is_signed", functools.cache(ALONE.is_signed))
        yield


FEW = settings(max_examples=20, deadline=None)

JUNK: list[Any] = [
    None, True, -1, 0, 1.5, 10**15, "", "x", "1", "../x", "/etc/passwd", "\x1b[2J\x1b[1A", [], {}, [[]], ["x"],
    {"a": []}, "f" * 64, ["f" * 64] * 70, [{}],
]  # fmt: skip
RAW = [
    b"", b"[" * 50_000, b'{"a":' * 500 + b"1" + b"}" * 500, b"1e999", b"9" * 5_000, b'{"files":{},"files":[]}',
    b"\xff\xfe", b'"\\ud800"', b"NaN", b'{"leaves":[{"path":[],"position":1,"version":99999999999999999999}]}', b"null",
]  # fmt: skip


def answered(pack: Path) -> tuple[int, int, str]:
    """Exit codes of the product and of the verifier that stands alone, and all that they print; nothing is written."""
    before = sorted(pack.parent.rglob("*"))
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        codes = run(["audit", "verify-pack", str(pack), "--key", VKEY]), ALONE.main(["pack", "--key", VKEY, str(pack)])
    said = told.getvalue()
    assert "Traceback" not in said, said
    assert "\x1b" not in said, "what somebody wrote into a pack controls no terminal"
    assert said.strip(), "nothing is said"
    assert sorted(pack.parent.rglob("*")) == before, "something was written"
    return *codes, said


def packed(files: Mapping[str, bytes], directory: Path) -> Path:
    """The zip of these files."""
    pack = directory / "pack.zip"
    pack.write_bytes(b"".join(archive(files)))
    return pack


def signed(files: Mapping[str, bytes], manifest: bytes) -> dict[str, bytes]:
    """The files with this manifest, as somebody with the key of the log would sign it."""
    note = SIGNER.sign(note_text(SIGNER.name, manifest)).encode()
    return {**files, "manifest.json": manifest, "manifest.note": note}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in places(one, (*path, key)))]


def bent(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    """The value with junk in this place."""
    if not path:
        return junk
    made = dict(value) if isinstance(value, dict) else list(value)
    made[path[0]] = bent(value[path[0]], path[1:], junk)
    return made


async def test_junk_in_any_place_of_any_file_is_answered(office: SignedOffice, tmp_path: Path) -> None:
    """Of the wrong kind, without bounds, and sealed again by somebody who has the key."""
    files = await office.pack("waiting")
    last = max(name for name in files if name.startswith("records/"))
    values = {name: json.loads(files[name]) for name in ("manifest.json", "proofs.json", "decisions.json", last)}

    @FEW
    @given(st.data())
    def tried(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(values)))
        path = data.draw(st.sampled_from(places(values[name])))
        made = canonical_bytes(bent(values[name], path, data.draw(st.sampled_from(JUNK))))
        changed = signed(files, made) if name == "manifest.json" else resealed({**files, name: made})
        ours, alone, said = answered(packed(changed, tmp_path))
        assert {ours, alone} <= {0, 6}, said
        if path[:1] == ("files",) or (path[:1] == ("leaves",) and made != files[name]):
            assert (ours, alone) == (6, 6) or '"' in str(path), said

    tried()


@pytest.mark.parametrize("name", ["manifest.json", "proofs.json", "records/000001.json"])
async def test_bytes_that_are_hardly_json_are_answered(office: SignedOffice, tmp_path: Path, name: str) -> None:
    """Nesting and numbers without end, names that stand twice, half a surrogate: sealed with the key."""
    files = await office.pack("waiting")
    for raw in RAW:
        changed = signed(files, raw) if name == "manifest.json" else resealed({**files, name: raw})
        assert answered(packed(changed, tmp_path))[:2] == (6, 6), raw[:60]


async def test_bytes_of_the_zip_that_were_changed_are_answered(office: SignedOffice, tmp_path: Path) -> None:
    """Anywhere, also in its directory: flipped, cut out, put in."""
    whole = b"".join(archive(await office.pack("waiting")))
    directory = whole.rindex(b"PK\x01\x02", 0, whole.index(b"PK\x01\x02") + 10)
    pack = tmp_path / "pack.zip"

    @FEW
    @given(
        st.integers(0, len(whole) - 1) | st.integers(directory, len(whole) - 1), st.binary(max_size=4), st.booleans()
    )
    def tried(at: int, put: bytes, is_cut: bool) -> None:
        pack.write_bytes(whole[:at] + put + (b"" if is_cut else whole[at + len(put) :]))
        ours, alone, said = answered(pack)
        assert {ours, alone} <= {0, 6}, said

    tried()


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/../../x", "..\\x", "C:x", ".hidden", "a//b", "a b", "x\x1b[2J", "é"]
)
async def test_a_name_that_leads_elsewhere_is_a_flaw_whoever_signed_it(
    office: SignedOffice, tmp_path: Path, name: str
) -> None:
    """Nothing is unpacked here; but somebody may unpack it because we said that it is whole."""
    files = await office.pack("waiting")
    ours, alone, said = answered(packed(resealed({**files, name: b"x"}), tmp_path))
    assert (ours, alone) == (6, 6), said
    assert "no file of a pack has such a name" in said
    assert "is no name of a file in a pack" in said


def bomb(files: Mapping[str, bytes], pack: Path) -> None:
    """Compressed: a thousand times what it weighs."""
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
        made.writestr("report.txt", bytes(50_000_000))


def overlapping(files: Mapping[str, bytes], pack: Path) -> None:
    """Not compressed: a hundred names for the same megabyte."""
    with zipfile.ZipFile(pack, "w") as made:
        for name, content in files.items():
            made.writestr(name, content)
        made.writestr("a0", bytes(1_000_000))
        (first,) = [one for one in made.filelist if one.filename == "a0"]
        for number in range(1, 100):
            other = zipfile.ZipInfo(f"a{number}")
            other.header_offset, other.CRC = first.header_offset, first.CRC
            other.file_size = other.compress_size = first.file_size
            made.filelist.append(other)


@pytest.mark.parametrize("make", [bomb, overlapping])
async def test_a_bomb_is_not_unpacked(
    office: SignedOffice, tmp_path: Path, make: Callable[[Mapping[str, bytes], Path], None]
) -> None:
    """Compressed, or with entries that lie over each other: refused by the directory, before anything is read."""
    make(await office.pack("waiting"), tmp_path / "pack.zip")
    ours, alone, said = answered(tmp_path / "pack.zip")
    assert (ours, alone) == (6, 6), said
    assert said.count("packed it again") + said.count("holds more than any pack") >= 2, said


async def test_links_and_pipes_in_a_folder_are_not_followed(office: SignedOffice, tmp_path: Path) -> None:
    """A link to a file that has the right bytes today is no file of the pack; a pipe keeps nobody waiting."""
    folder = tmp_path / "pack"
    for name, content in (await office.pack("waiting")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert answered(folder)[:2] == (0, 0)
    os.mkfifo(folder / "pipe")
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
    assert answered(folder)[:2] == (0, 0)
    (folder / "README.txt").rename(tmp_path / "elsewhere")
    (folder / "README.txt").symlink_to(tmp_path / "elsewhere")
    ours, alone, said = answered(folder)
    assert (ours, alone) == (6, 6), said
