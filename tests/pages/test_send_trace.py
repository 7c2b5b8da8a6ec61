"""A trace that the collector has forgotten is sent again from a saga's page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.databases import Database
from tests.pages.office import OfficeProduct, office_product
from tests.tracing.collector import collecting

pytestmark = pytest.mark.asyncio(loop_scope="module")
FORM = {"csrf_token": ""}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(module_database: Database) -> AsyncIterator[OfficeProduct]:
    """The running product, with nothing in it yet."""
    async with office_product(module_database) as product:
        yield product


async def test_a_trace_is_sent_again_as_it_was(office: OfficeProduct, monkeypatch: pytest.MonkeyPatch) -> None:
    """All spans under the saga's trace; without a collector nobody is offered it, and one that is away is said."""
    saga = await office.begin("auto")
    path = f"/office/sagas/{saga}"
    assert f"{path}/trace" not in (await office.get(path)).text
    assert (await office.post(f"{path}/trace", FORM)).status_code == 503
    with collecting() as found:
        settings = replace(office.runtime.telemetry, traces_url=found.url, timeout_ms=5_000)
        monkeypatch.setattr(office.runtime, "telemetry", settings)
        shown = (await office.get(path)).text
        trace = re.findall(r"<dt>Trace</dt><dd><span><code[^>]*>([0-9a-f]{32})", shown)[0]
        assert f"{path}/trace" in shown
        assert (await office.post(f"{path}/trace", FORM, roles="auditor")).status_code == 403
        answer = await office.post(f"{path}/trace", FORM)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?said=traced")
        spans = found.spans()
        assert len(spans) > 3
        assert {span["traceId"] for span in spans} == {trace}
        again = await office.post(f"{path}/trace", FORM)
        assert again.status_code == 303
        assert sorted(s["spanId"] for s in found.spans()) == sorted([s["spanId"] for s in spans] * 2)
    away = await office.post(f"{path}/trace", FORM)
    assert away.status_code == 503
    assert "collector" in away.text
