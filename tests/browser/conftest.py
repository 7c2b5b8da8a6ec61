"""A running product in a real Chromium, one for all tests of a file: `office.page(...)` is somebody's browser.

`REQUIRE_BROWSER=1` makes a missing Chromium a failure; without it the tests are skipped, loudly. Whatever a page writes
to its console as an error, and whatever the content security policy stops, fails the test that saw it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from orchestrator.api.app import create_app
from orchestrator.api.engine import Actor, Engine
from orchestrator.api.server import ApiServer
from orchestrator.api.views import TaskView
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.pages.live import Live
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.browser.grants import GrantChanged, desk, grant
from tests.databases import Database

SETTLE_SECONDS_MAX = 60
SEE_MS_MAX = 20_000  # how long a page may take to show what it must
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
expect.set_options(timeout=SEE_MS_MAX)
# A page that was asked for and is not there, or is refused, says so in its status; the browser notes that as an error.
EXPECTED = "the server responded with a status of 4"


def chromium() -> str:
    """Where a Chromium is; skips the test, or fails it where one is required."""
    found = next(filter(None, map(shutil.which, NAMES)), "")
    if not found:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, and none of {', '.join(NAMES)} is here")
        pytest.skip(f"NO BROWSER: none of {', '.join(NAMES)} is here; these tests prove nothing on this machine")
    return found


@dataclass
class Office:
    """A running product and browsers of it."""

    runtime: Runtime
    engine: Engine
    url: str
    client: httpx2.AsyncClient
    browser: Browser
    live: Live
    contexts: list[BrowserContext] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def page(
        self,
        actor: str = "maria",
        roles: str = "manager,approver",
        *,
        width: int = 1280,
        scheme: str = "light",
        scripts: bool = True,
    ) -> Page:
        """A new browser window of somebody, of a stranger where `actor` is "". `roles`: groups and capacities."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=scripts,
            extra_http_headers={"X-Actor": actor, "X-Actor-Roles": roles} if actor else {},
            base_url=self.url,
            reduced_motion="reduce",
        )
        context.set_default_timeout(SEE_MS_MAX)
        self.contexts.append(context)
        page = await context.new_page()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error" and EXPECTED not in text:
            self.complaints.append(text)

    async def start(self, mood: str = "", **fields: Any) -> str:
        """Starts a grant and waits until it rests; gives the saga's id."""
        body = {
            "grant_id": f"GR-{uuid.uuid4().hex[:8]}", "requester": "ravi", "beneficiary": "kiran", "amount": "6000.00",
            "currency": "INR", "purpose": "school fees", "mood": mood, **fields,
        }  # fmt: skip
        started = await self.engine.start("grant", body, Actor("ravi", capacities=frozenset({"service"})))
        await self.engine.settled(started.saga_id, seconds_max=SETTLE_SECONDS_MAX, tenant="main")
        return started.saga_id

    async def task_of(self, saga_id: str) -> TaskView:
        """The saga's task."""
        (task,) = await self.engine.tasks(saga_id=saga_id, state=None, tenant="main")
        return task

    async def change(self, grant_id: str, amount: str) -> None:
        """Changes what is asked, as an upstream service would."""
        await self.engine.emit(GrantChanged(grant_id=grant_id, amount=amount), Actor("upstream"))  # type: ignore[arg-type]

    async def until(self, saga_id: str, phase: str) -> None:
        """Returns when the saga is in this phase. Raises TimeoutError after SETTLE_SECONDS_MAX."""
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while (await self.engine.saga(saga_id, Actor("system"))).phase != phase:  # noqa: ASYNC110 - a row to wait for
                await asyncio.sleep(0.02)

    async def types(self, saga_id: str) -> list[str]:
        """The types of the saga's records."""
        return [record.type for record in await self.engine.records(saga_id, Actor("test"))]

    async def assert_accessible(self, page: Page) -> None:
        """No violation of WCAG 2.2 AA that axe can find, and no sideways scrolling."""
        await page.evaluate(AXE)
        found = await page.evaluate(
            "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", AXE_RULES
        )
        said = [
            f"{each['id']}: {each['help']}\n  " + "\n  ".join(node["html"][:160] for node in each["nodes"][:4])
            for each in found["violations"]
        ]
        assert not said, f"{page.url}\n" + "\n".join(said)
        over = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{page.url} scrolls {over} px sideways"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(module_database: Database) -> AsyncIterator[Office]:
    """The running product and its browser."""
    executable = chromium()
    catalog = Catalog.of([grant], [desk])
    await migrate_schema(module_database.migrate_url, [desk.own_schema])
    settings = load_settings(
        database_url=module_database.url, sagas="tests.browser", topic_partitions=2, pool_query_max=8, stall_exit_ms=0
    )
    runtime = Runtime(settings, catalog=catalog)
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server, async_playwright() as playwright:
            running = asyncio.create_task(runtime.run())
            browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
                try:
                    yield Office(runtime, app.state.engine, server.url, client, browser, app.state.live)
                finally:
                    await browser.close()
                    await server.stop()
                    runtime.stop()
                    await running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def quiet(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Closes the windows of a test, and fails it where one of them complained."""
    yield
    if "office" not in request.fixturenames:
        return
    found: Office = request.getfixturevalue("office")
    contexts, found.contexts = found.contexts, []
    for context in contexts:
        await context.close()
    complaints, found.complaints = found.complaints, []
    assert not complaints, "\n".join(complaints)
