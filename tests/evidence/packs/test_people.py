"""People's data in a pack: sealed where it is stored, opened or erased where it is read, and never half of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestrator.evidence.keys import write_ring
from orchestrator.evidence.pack.assemble import files_of
from orchestrator.evidence.pack.checking import check, read_pack
from orchestrator.evidence.pack.gather import Gathering
from orchestrator.evidence.pack.material import Material
from orchestrator.evidence.pack.personal import as_sealed, say_of
from orchestrator.evidence.pack.serving import Packs
from orchestrator.store.chain import opened
from orchestrator.vault import keyfile
from orchestrator.vault.keys import Erased
from orchestrator.vault.tokens import DataKey, saga_scope
from tests.databases import Database
from tests.evidence.packs.logs import KEYS, SIGNER, SignedOffice
from tests.evidence.packs.test_report import words
from tests.vault.conftest import Care, at_work
from tests.vault.test_canary import ANNA, CANARIES

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY_ID = "subjectAAAAAAAAA"[:16]
KEY = DataKey(KEY_ID, "main", bytes(range(32)))
ERASED = Erased(KEY_ID, "main", "ER-7", datetime(2026, 3, 1, tzinfo=UTC))


class People:
    """One person's key, or what is left of it."""

    def __init__(self, key: DataKey | Erased) -> None:
        self._key = key

    async def by_id(self, key_ids: Iterable[str]) -> dict[str, DataKey | Erased]:
        """That key, where it is asked for."""
        return {key_id: self._key for key_id in key_ids if key_id == KEY_ID}

    async def known_ids(self, tenant: str, subjects: Iterable[str]) -> list[str]:
        """That person's."""
        return [KEY_ID for subject in subjects if (tenant, subject) == ("main", "CUST00012")]


async def sealed_material(office: SignedOffice) -> tuple[Material, str]:
    """A saga whose records hold its customer sealed; and the sealed value. Their hashes are not looked at here."""
    pools = office.product.runtime.store.pools
    material = await Gathering(pools, KEYS).material("main", office.sagas["compensated"])
    token = KEY.seal("CUST00012", saga_scope(material.strand.saga_id), "customer_id")
    records = tuple(
        opened(one.saga_id, one.version, one.body.replace(b"CUST00012", token.encode()), one.hash, one.position)
        for one in material.strand.records
    )
    return replace(material, strand=replace(material.strand, records=records)), token


async def test_what_is_sealed_is_opened_for_those_who_read_and_stays_sealed_where_it_is_proven(
    office: SignedOffice,
) -> None:
    """A long sealed value must not be cut in two before it is opened, either."""
    material, token = await sealed_material(office)
    files = files_of(material, await say_of(material, People(KEY)))
    told = words(files["report.html"])
    assert "personal:v1" not in files["report.html"].decode()
    assert told.count("CUST00012") >= 3, "in the story and in what was shown"
    for name, content in files.items():
        if name != "report.html":
            assert b"CUST00012" not in content, name
    assert token.encode() in files["records/000001.json"]
    (task,) = json.loads(files["decisions.json"])["tasks"]
    assert task["shown"][0]["shown"]["customer_id"] == token


async def test_an_erased_value_says_by_which_request(office: SignedOffice) -> None:
    """Wherever it stood; nothing of the value is left, and nothing else has changed."""
    material, _ = await sealed_material(office)
    files = files_of(material, await say_of(material, People(ERASED)))
    told = words(files["report.html"])
    assert told.count("[erased under request ER-7, 1 March 2026]") >= 3
    assert "CUST00012" not in told
    before = files_of(material, await say_of(material, People(KEY)))
    assert {name for name in files if files[name] != before[name]} == {"report.html"}


async def test_a_sealed_pack_opens_nothing(office: SignedOffice) -> None:
    """For receivers who need the proof and not the people: each value is named by its field."""
    material, token = await sealed_material(office)
    page = files_of(material, as_sealed(material))["report.html"].decode()
    assert "[sealed: customer_id]" in page
    assert token not in page
    assert files_of(material, await say_of(material, None))["report.html"].decode() == page


async def test_a_pack_is_sealed_where_it_is_asked_for(office: SignedOffice) -> None:
    """Keys of people are asked for only where something is sealed, and not at all for a sealed pack."""

    class Never(People):
        async def by_id(self, key_ids: Iterable[str]) -> dict[str, DataKey | Erased]:
            raise AssertionError(f"nobody needs {list(key_ids)}")

    packs = Packs(office.product.runtime.store.pools, lambda: KEYS, "UTC", Never(KEY))
    saga = office.sagas["compensated"]
    assert check(await packs.make("main", saga, sealed=True), [SIGNER.verifier]).flaws == []
    assert await packs.make("main", saga, sealed=True) == await packs.make("main", saga)


async def test_a_running_product_seals_signs_opens_and_erases(database: Database, tmp_path: Path) -> None:
    """With its own vault and its own sealing loop: no canary in what is proven, none anywhere after the erasing."""
    keyfile.create(tmp_path / "vault.keys")
    write_ring(tmp_path / "log.key", SIGNER)
    log = {"evidence_key_file": str(tmp_path / "log.key"), "evidence_file": str(tmp_path / "checkpoints.txt")}
    async with at_work(database, tmp_path / "vault.keys", evidence_seal_ms=100, **log) as product:
        await product.publish("caretest.CareRequested", {"case": "a-1", **ANNA})
        await product.approve("a-1", reason="Annabel Quatermain is known to me")
        opened_one, sealed_one = (
            await taken(product, "a-1", tmp_path),
            await taken(product, "a-1", tmp_path, sealed=True),
        )
        assert "Annabel Quatermain" in words(opened_one["report.html"])
        assert canaries(opened_one) == {"report.html"}
        assert canaries(sealed_one) == set()
        own = {"case": "a-2", "mood": "no", **ANNA}
        assert (await product.post("/v1/sagas/care", own, actor="CUST-CANARY-1")).status_code == 201
        await product.until("a-2", "compensated")
        key_id = (await product.runtime.vault.keys.known_ids("main", ["CUST-CANARY-1"]))[0]  # type: ignore[union-attr]
        began = {
            "opened": (await taken(product, "a-2", tmp_path), "Started .{0,200}CUST-CANARY-1"),
            "sealed": (await taken(product, "a-2", tmp_path, sealed=True), "Started .{0,200}a person, sealed"),
        }
        ask = {"subject": "CUST-CANARY-1", "request": "ER-7", "reason": "asked by letter"}
        assert (await product.post("/v1/subjects/erasures", ask, actor="olga")).is_success
        assert (await product.post("/v1/subjects/erasures/ER-7/confirm", actor="omar")).is_success
        after = await taken(product, "a-1", tmp_path)
        assert canaries(after) == set()
        assert "[erased under request ER-7, " in words(after["report.html"])
        began["erased"] = (await taken(product, "a-2", tmp_path), "Started .{0,200}\\[erased under request ER-7, ")
        for how, (files, caused) in began.items():
            page = words(files["report.html"])
            assert key_id not in page, how
            assert re.search(caused, page), how
        for name, content in opened_one.items():
            if name.startswith(("records/", "contracts/", "definition.json")):
                assert after[name] == content, name


async def taken(product: Care, case: str, folder: Path, *, sealed: bool = False) -> dict[str, bytes]:
    """The files of a saga's pack over HTTP, which hold."""
    answer = await product.client.get(
        f"/v1/sagas/{case}/evidence", params={"sealed": sealed}, headers={"X-Actor": "vera", "X-Actor-Roles": "auditor"}
    )
    assert answer.status_code == 200, answer.text
    (folder / "pack.zip").write_bytes(answer.content)
    files = read_pack(folder / "pack.zip")
    assert check(files, [SIGNER.verifier]).flaws == []
    return files


def canaries(files: dict[str, bytes]) -> set[str]:
    """The files in which something of a person stands in the clear."""
    return {name for name, content in files.items() if any(canary.encode() in content for canary in CANARIES)}
