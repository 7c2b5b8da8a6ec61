"""How people get a pack: over HTTP, by a button, at the keyboard; who may, what is written down, what is refused."""

from __future__ import annotations

import asyncio
import json
import sys
import zipfile
from collections.abc import Awaitable, Callable
from io import BytesIO
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Verifier
from orchestrator.evidence.pack.checking import check, read_pack
from orchestrator.evidence.pack.serving import Packs
from orchestrator.keyfiles import KeyFileError
from tests.evidence.packs.logs import SIGNER, VKEY, SignedOffice

pytestmark = pytest.mark.asyncio(loop_scope="session")

Cli = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def cli(
    office: SignedOffice, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Runs one command line as an auditor, in a directory of its own."""
    monkeypatch.setenv("ORCHESTRATOR_API_URL", office.product.url)
    monkeypatch.setenv("ORCHESTRATOR_ACTOR", "vera")
    monkeypatch.setenv("ORCHESTRATOR_ACTOR_ROLES", "auditor")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    monkeypatch.chdir(tmp_path)

    async def called(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


async def test_an_auditor_takes_a_pack_over_http_and_that_is_written_down(office: SignedOffice, tmp_path: Path) -> None:
    """By id or business key, the same bytes each time; the security log names who, what and which saga."""
    answers = [
        await office.product.get(path, "vera", "auditor")
        for path in (
            f"/v1/sagas/{office.sagas['compensated']}/evidence",
            "/v1/sagas/compensated-1/evidence",
            f"/office/sagas/{office.sagas['compensated']}/evidence",
        )
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].content == answers[1].content == answers[2].content
    assert answers[0].headers["content-type"] == "application/zip"
    assert answers[0].headers["cache-control"] == "no-store"
    assert 'filename="evidence-wire-compensated-1.zip"' in answers[0].headers["content-disposition"]
    file = tmp_path / "x.zip"
    file.write_bytes(answers[0].content)
    assert check(read_pack(file), [SIGNER.verifier]).flaws == []
    log = (await office.product.get("/v1/security-log?who=vera&action=audit.export", "vera", "auditor")).json()["items"]
    assert [(entry["outcome"], entry["status"]) for entry in log[:3]] == [("allowed", 200)] * 3
    assert office.sagas["compensated"] in log[0]["object"]


@pytest.mark.parametrize("roles", ["viewer", "approver", "operator", "admin", "service"])
@pytest.mark.parametrize("where", ["/v1", "/office"])
async def test_nobody_else_takes_one(office: SignedOffice, roles: str, where: str) -> None:
    """Who may is who may export the audit trail."""
    refused = await office.product.get(f"{where}/sagas/{office.sagas['compensated']}/evidence", "eve", roles)
    assert refused.status_code == 403
    assert b"PK" not in refused.content[:2]


async def test_the_button_is_there_for_those_who_may(office: SignedOffice) -> None:
    """On the saga's page, in its audit tab, and on a record's page."""
    saga_id = office.sagas["compensated"]
    for path in (
        f"/office/sagas/{saga_id}",
        f"/office/sagas/{saga_id}?tab=audit",
        f"/office/audit/records/{saga_id}/1",
    ):
        shown = await office.product.get(path, "vera", "auditor")
        assert f'href="/office/sagas/{saga_id}/evidence"' in shown.text, path
    other = await office.product.get(f"/office/sagas/{saga_id}?tab=audit", "olga", "operator")
    assert "/evidence" not in other.text


async def test_what_cannot_be_had_is_refused_in_words(office: SignedOffice) -> None:
    """No such saga, zone or checkpoint; no key; nothing of another tenant."""
    at = f"/v1/sagas/{office.sagas['compensated']}/evidence"
    for path, status, code in (
        ("/v1/sagas/nothing/evidence", 404, "not_found"),
        (f"{at}?zone=Mars/Olympus", 422, "invalid"),
        (f"{at}?checkpoint=9999", 404, "no_checkpoint"),
        (f"{at}?checkpoint=-1", 400, "bad_request"),
    ):
        refused = await office.product.get(path, "vera", "auditor")
        assert (refused.status_code, refused.json()["code"]) == (status, code), path

    def broken() -> KeyRing:
        raise KeyFileError("key file /secret/place: no")

    pools = office.product.runtime.store.pools
    try:
        for keys in (lambda: None, lambda: KeyRing((Verifier.of(VKEY),)), broken):
            office.product.app.state.packs = Packs(pools, keys, "UTC")
            refused = await office.product.get(at, "vera", "auditor")
            assert (refused.status_code, refused.json()["code"]) == (409, "no_key")
            assert "/secret" not in refused.text
    finally:
        office.product.app.state.packs = office.packs


async def test_a_log_that_was_altered_gives_no_pack(office: SignedOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever does not hold is named, and nothing is handed out: no proof is made up."""
    from orchestrator.evidence.pack import gather

    monkeypatch.setattr(gather, "included", lambda *_: False)
    refused = await office.product.get(f"/v1/sagas/{office.sagas['undo']}/evidence", "vera", "auditor")
    assert (refused.status_code, refused.json()["code"]) == (409, "altered")
    assert f"record 1 of saga {office.sagas['undo']}" in refused.json()["detail"]


async def test_the_keyboard_writes_and_verifies_a_pack(office: SignedOffice, cli: Cli, tmp_path: Path) -> None:
    """Written once, never over something; what was touched ends with 6 and is named."""
    code, out, err = await cli("audit", "pack", "--saga", "compensated-1", "--out", "p.zip", "--zone", "Europe/Paris")
    assert (code, out.endswith("written: p.zip\n")) == (0, True), err
    assert (await cli("audit", "pack", "--saga", "compensated-1", "--out", "p.zip"))[0] == 5
    code, out, err = await cli("audit", "verify-pack", "p.zip", "--key", VKEY)
    assert code == 0, err
    assert out.startswith("14 records, chain unbroken, in checkpoint 1 of bank.example/log signed ")
    code, out, _ = await cli("audit", "verify-pack", "p.zip", "--json")
    said = json.loads(out)
    assert (code, said["holds"], said["keyFromPack"], said["about"]["zone"]) == (0, True, True, "Europe/Paris")
    data = (tmp_path / "p.zip").read_bytes().replace(b"CUST00012", b"CUST00013")
    (tmp_path / "q.zip").write_bytes(data)
    code, out, err = await cli("audit", "verify-pack", "q.zip", "--key", VKEY)
    assert code == 6, "the zip's own checksums are wrong now"
    with zipfile.ZipFile(tmp_path / "p.zip") as held:
        held.extractall(tmp_path / "folder")
    record = tmp_path / "folder" / "records" / "000001.json"
    record.write_bytes(record.read_bytes().replace(b"CUST00012", b"CUST00013"))
    code, out, _ = await cli("audit", "verify-pack", "folder", "--key", VKEY, "--json")
    assert code == 6
    assert "records/000001.json" in [flaw["file"] for flaw in json.loads(out)["flaws"]]
    wrong = VKEY.replace("bank.example/log", "bank.example/other")
    assert (await cli("audit", "verify-pack", "p.zip", "--key", wrong))[0] == 2
    assert (await cli("audit", "verify-pack", "nothing.zip"))[0] == 3
    assert (await cli("audit", "pack", "--saga", "nothing", "--out", "n.zip"))[0] == 3
    assert not (tmp_path / "n.zip").exists()
    assert zipfile.is_zipfile(BytesIO((tmp_path / "p.zip").read_bytes()))
