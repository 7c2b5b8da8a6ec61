"""The page that verifies: what was signed and published, and what is wrong, for those whom it concerns."""

from __future__ import annotations

import html
import re

import pytest

from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Signer, open_checkpoint
from orchestrator.evidence.sealing import Sealer
from tests.databases import Database
from tests.evidence.logs import as_superuser
from tests.pages.office import OfficeProduct

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNER = Signer("bank.example/log", bytes(range(32)))
RING = KeyRing((SIGNER.verifier,), SIGNER)
PATH = "/office/audit/verify"


def text(page: str) -> str:
    """What people read of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def test_an_auditor_verifies_and_sees_what_is_wrong(
    office: OfficeProduct, module_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First nothing is signed, then all is well, then somebody changes a record."""
    bare = text((await office.get(PATH, roles="auditor")).text)
    assert "Nothing is signed here" in bare
    assert "No checkpoint was signed yet" in bare
    assert (await office.get(PATH, roles="viewer")).status_code == 403
    monkeypatch.setattr(office.runtime.evidence, "ring", RING)
    unproved = text((await office.get(f"{PATH}?run=recent", roles="auditor")).text)
    assert "Nothing to compare with" in unproved
    assert "As it was written" not in unproved
    assert await Sealer(office.runtime.store, RING, records_max=100_000).seal() is not None
    good = text((await office.get(f"{PATH}?run=recent", roles="auditor")).text)
    assert "As it was written" in good
    assert "chain unbroken, matches checkpoint 1" in good
    assert SIGNER.verifier.vkey in good
    assert "Starts that were allowed" not in good
    latest = await office.runtime.evidence.evidence.latest()
    assert latest is not None
    seen = open_checkpoint(latest.note, RING.verifiers)
    await office.runtime.evidence.evidence.allow_start(seen, by="Maria Rao", reason="witness down", micros=60_000_000)
    allowed = text((await office.get(PATH, roles="auditor")).text)
    assert "Starts that were allowed while no place answered Maria Rao" in allowed
    assert "having seen checkpoint 1: witness down" in allowed
    await as_superuser(
        module_database,
        "UPDATE records_stored SET body = set_byte(body, 30, get_byte(body, 30) # 1) "
        "WHERE seq = (SELECT max(seq) FROM records_stored)",
    )
    bad = text((await office.get(f"{PATH}?run=recent", roles="auditor")).text)
    assert "Not as it was written" in bad
    assert "the bytes or the hash were changed" in bad
