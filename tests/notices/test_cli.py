"""`orchestrator notice ...` against a running product."""

from __future__ import annotations

import asyncio
import json

import pytest

from orchestrator.cli.main import run
from tests.api.conftest import Product
from tests.notices.product import notices_where, started

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_an_operator_works_with_notices(
    telling: Product, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """List, show, the address book, and a retry of what did not fail."""
    monkeypatch.setenv("ORCHESTRATOR_API_URL", telling.url)
    monkeypatch.setenv("ORCHESTRATOR_ACTOR", "op")

    async def said(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()  # what the product has logged until now
        code = await asyncio.to_thread(run, arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    saga_id, _ = await started(telling, "ravi")
    (item,) = await notices_where(telling, lambda item: item["state"] == "sent", saga=saga_id, who="person:maria")
    number = str(item["id"])
    code, out, _ = await said("notice", "list", "--json", "--who", "person:maria")
    assert code == 0
    assert number in [str(json.loads(line)["id"]) for line in out.splitlines() if line[:1] == "{"]
    code, out, _ = await said("notice", "list", "--state", "sent")
    assert (code, "person:maria" in out) == (0, True)
    code, out, _ = await said("notice", "show", number)
    assert code == 0
    assert "to person:maria by mail maria@bank.example" in out
    code, _, err = await said("notice", "retry", number, "--reason", "lost", "--yes")
    assert (code, "only a failed one" in err) == (5, True)
    assert (await said("notice", "retry", number, "--reason", "lost", "--dry-run"))[0] == 0
    assert (await said("notice", "show", "99999999"))[0] == 3
    assert (await said("notice", "contacts"))[0] == 0
    code, out, _ = await said(
        "notice", "contact", "person:zoe", "zoe@bank.example", "--quiet", "20:00-07:00", "--zone", "Asia/Kolkata"
    )  # fmt: skip
    assert code == 0
    code, out, _ = await said("notice", "contacts")
    assert "20:00-07:00" in out
    assert (await said("notice", "contact", "person:zoe", "not an address"))[0] == 2
    assert (await said("notice", "contact", "person:zoe", "--remove"))[0] == 0
    assert (await said("notice", "contact", "person:zoe", "--remove"))[0] == 3
