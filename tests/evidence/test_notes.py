"""Signed notes, checkpoints and keys: the forms that tools of others read, and what is refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.evidence.keys import KeyRing, own_ring, read_ring, write_ring
from orchestrator.evidence.notes import (
    Checkpoint,
    NoteError,
    Signer,
    Verifier,
    notes_in,
    open_checkpoint,
    open_note,
)
from orchestrator.keyfiles import KeyFileError

SIGNER = Signer("bank.example/log", bytes(range(32)))
OTHER = Signer("bank.example/log", bytes(range(1, 33)))
CHECKPOINT = Checkpoint("bank.example/log", 12_408, bytes(range(32)), 311, 1_795_228_200_000_000)

# The example of the signed-note specification: a key, a text, and the signature that it says.
EXAMPLE_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
EXAMPLE_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_the_example_of_others_verifies() -> None:
    """Keys and signatures mean here what they mean elsewhere."""
    key = Verifier.of(EXAMPLE_KEY)
    assert key.vkey == EXAMPLE_KEY
    assert open_note(EXAMPLE_NOTE, [key]).by == key
    with pytest.raises(NoteError, match="was changed"):
        open_note(EXAMPLE_NOTE.replace("think", "thank"), [key])


def test_a_checkpoint_survives_its_note() -> None:
    """What was signed is what is read, line by line."""
    note = SIGNER.sign(CHECKPOINT.text)
    lines = note.split("\n")
    assert lines[:2] == ["bank.example/log", "12408"]
    assert base64.b64decode(lines[2]) == CHECKPOINT.root
    assert lines[3] == "checkpoint 311 2026-11-21T02:30:00Z"
    assert lines[4] == ""
    assert open_checkpoint(note, [SIGNER.verifier]).checkpoint == CHECKPOINT
    broken = replace(CHECKPOINT, broken=((5, bytes(32)),))
    assert open_checkpoint(SIGNER.sign(broken.text), [SIGNER.verifier]).checkpoint == broken


def test_any_changed_character_of_a_note_is_refused() -> None:
    """Every position, whatever stands there."""
    note = SIGNER.sign(CHECKPOINT.text)
    for at, mark in enumerate(note):
        for other in ("0" if mark != "0" else "1", "\n" if mark != "\n" else " "):
            with pytest.raises(NoteError):
                open_checkpoint(note[:at] + other + note[at + 1 :], [SIGNER.verifier])
    for size in range(len(note)):
        with pytest.raises(NoteError):
            open_checkpoint(note[:size], [SIGNER.verifier])


def test_keys_that_nobody_trusts_prove_nothing() -> None:
    """Not even one with the same name; the text says who signed."""
    note = SIGNER.sign(CHECKPOINT.text)
    with pytest.raises(NoteError, match=r"bank\.example/log \([0-9a-f]{8}\), and none of these keys"):
        open_checkpoint(note, [OTHER.verifier])
    foreign = replace(CHECKPOINT, origin="evil.example/log")
    with pytest.raises(NoteError, match="not of this log"):
        open_checkpoint(SIGNER.sign(foreign.text), [SIGNER.verifier])
    cosigned = note + OTHER.sign(CHECKPOINT.text).rpartition("\n\n")[2]
    assert open_checkpoint(cosigned, [OTHER.verifier]).by == OTHER.verifier


@pytest.mark.parametrize(
    "text",
    [
        "a\n",
        "a\n1\n",
        "a\n01\nAA==\n",
        f"a\n1\n{'A' * 43}=\n\n",
        "a\n-1\nAA==\n",
        f"a\n1\n{'A' * 42}==\n",
        "a\n1\nAA=\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """Sizes with zeros in front, short roots, empty lines."""
    with pytest.raises(NoteError):
        Checkpoint.of(text)


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    """Neither by printing a key, nor in what is said of a damaged one."""
    secret = SIGNER.text.rpartition("+")[2]
    assert secret not in repr(SIGNER)
    assert secret not in repr(KeyRing((SIGNER.verifier,), SIGNER))
    file = tmp_path / "key"
    for damaged in (SIGNER.text + "*", SIGNER.text[:-4], SIGNER.text.replace("+AQ", "+Ag")):
        file.write_text(damaged)
        with pytest.raises(KeyFileError) as raised:
            read_ring(file)
        assert secret[:8] not in str(raised.value)
        assert str(file) in str(raised.value)


def test_a_key_file_holds_the_signing_key_and_those_before_it(tmp_path: Path) -> None:
    """Newest first; only its owner may read it."""
    file = tmp_path / "keys" / "log.key"
    made = own_ring(file, "laptop/log")
    assert file.stat().st_mode & 0o077 == 0
    assert own_ring(file, "laptop/log") == made
    assert made.signer is not None
    write_ring(file, OTHER, [made.verifiers[0], SIGNER.verifier])
    ring = read_ring(file)
    assert ring.vkeys == [OTHER.verifier.vkey, made.verifiers[0].vkey, SIGNER.verifier.vkey]
    assert ring.age(SIGNER.verifier) == 2
    assert ring.signer == OTHER
    file.chmod(0o604)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_ring(file)
    public = KeyRing.of(["# of the bank", SIGNER.verifier.vkey, ""])
    assert public.signer is None
    assert public.verifiers == (SIGNER.verifier,)
    with pytest.raises(KeyFileError, match="only one"):
        KeyRing.of([OTHER.text, SIGNER.text])
    with pytest.raises(KeyFileError, match="no key"):
        KeyRing.of([])


def test_notes_one_after_the_other_are_told_apart() -> None:
    """Also behind a line that a crash cut off."""
    first, second = SIGNER.sign(CHECKPOINT.text), SIGNER.sign(replace(CHECKPOINT, size=12_500, number=312).text)
    assert list(notes_in(first + second)) == [first, second]
    assert list(notes_in(first + "\n" + second + "\n\n")) == [first, second]
    torn = first[:60]
    parts = list(notes_in(torn + "\n\n" + second))
    assert parts[-1].endswith(second[-40:])
    assert first not in parts
