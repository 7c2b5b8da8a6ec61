"""The verifier that stands alone, on evidence packs and on signatures: it agrees with the product."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence import verifier
from orchestrator.evidence.notes import Signer
from orchestrator.evidence.pack.layout import archive
from tests.databases import Database
from tests.evidence.packs.logs import SIGNER, changed_ways, signed_trip

ALONE: Any = verifier  # a program without types


def said_of(files: dict[str, bytes], file: Path) -> list[str]:
    """What it says of a pack of these files; what it cannot read is said as well."""
    file.write_bytes(b"".join(archive(files)))
    found: list[str] = []
    try:
        ALONE.pack(file, [], [ALONE.key_of(SIGNER.verifier.vkey)], found.append)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


async def test_a_pack_verifies_without_the_product_and_no_changed_one_does(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of it with one bit changed, and every file taken away."""
    async with signed_trip(database) as (packs, parent, _):
        files = await packs.make("main", parent)
    program, pack = tmp_path / "verify.py", tmp_path / "pack.zip"
    assert said_of(files, pack) == []
    program.write_bytes(files["verify.py"])
    done = subprocess.run(  # noqa: ASYNC221 - there is nothing else to do meanwhile
        [sys.executable, "-I", str(program), "pack", "--key", SIGNER.verifier.vkey, str(pack)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert f"saga {parent}: " in done.stdout
    assert done.stdout.endswith(": as it was written\n")
    monkeypatch.setattr(verifier, "is_signed", functools.cache(ALONE.is_signed))
    for name, changed in changed_ways(files):
        assert said_of(changed, pack), f"{name} was changed, and nothing is said"


def test_another_key_or_no_file_ends_with_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 where nothing could be read, 6 where nothing can be believed."""
    key = SIGNER.verifier.vkey
    assert ALONE.main(["log", "--key", key, str(tmp_path / "none")]) == 2
    (tmp_path / "log").write_text("{}\n")
    assert ALONE.main(["log", "--key", key, str(tmp_path / "log")]) == 6
    assert ALONE.main(["log", "--key", key[:-3], str(tmp_path / "log")]) == 6
    assert capsys.readouterr().out.count("NOT as it was written") == 3
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w") as made:
        made.writestr("manifest.note", "x")
    locked = bytearray(pack.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + flags] |= 1  # says that it is encrypted
    pack.write_bytes(locked)
    assert ALONE.main(["pack", "--key", key, str(pack)]) == 6
    (tmp_path / "log").write_text("[" * 100_000 + "\n")
    assert ALONE.main(["log", "--key", key, str(tmp_path / "log")]) == 6


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Sixteen times as many sagas, which all could go on: their last records are in a file, not in memory."""
    few, many = (least_memory(tmp_path / f"log-{sagas}", sagas) for sagas in (500, 8_000))
    assert many < 4 * few


def least_memory(log: Path, sagas: int) -> int:
    """The most bytes in use while a log is verified; the least of three times, as other threads use some, too."""
    log.write_text("".join(map(line, range(sagas))))
    peaks = []
    for _ in range(3):
        gc.collect()
        tracemalloc.start()
        try:
            said: list[str] = []
            found = ALONE.log(log, [], [], said.append)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert len(said) == 1  # nobody signed it
        assert found.startswith(f"{sagas} records of {sagas} sagas, ")
    return min(peaks)


def line(number: int) -> str:
    """One line of an export: the first record of a saga."""
    body = json.dumps({"saga": f"saga-{number}", "version": 1, "previous": "0" * 64})
    digest = hashlib.sha256(body.encode()).hexdigest()
    record = {"position": number + 1, "saga": f"saga-{number}", "version": 1, "hash": digest, "body": body}
    return json.dumps(record) + "\n"


@pytest.mark.parametrize(
    ("public", "message", "signature"),
    [  # RFC 8032, section 7.1, tests 1 to 3
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
            "d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
            "387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
            "4a7c15e9716ed28dc027beceea1ec40a",
        ),
    ],
)
def test_signatures_are_those_of_the_standard(public: str, message: str, signature: str) -> None:
    """And nothing else is one: a bit changed in key, message or signature; S not reduced."""
    key, text, signed = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert ALONE.is_signed(key, text, signed)
    assert not ALONE.is_signed(key, text + b"x", signed)
    for at in (0, 31, 32, 63):
        assert not signs(key, text, signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :])
    larger = (int.from_bytes(signed[32:], "little") + ALONE.ORDER).to_bytes(32, "little")
    assert not signs(key, text, signed[:32] + larger)
    assert not signs(key, text, signed + b"x")
    assert not signs(Signer.new("x").verifier.public, text, signed)


def signs(key: bytes, text: bytes, signature: bytes) -> bool:
    """What is no point of the curve is no signature."""
    try:
        return bool(ALONE.is_signed(key, text, signature))
    except ValueError:
        return False
