"""A product whose people are told: mails go to a directory, webhooks to a server of the test."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from orchestrator.api.app import create_app
from orchestrator.api.server import ApiServer
from orchestrator.config import load_settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.api.conftest import Product
from tests.databases import Database
from tests.notices.desk import Office, at_office
from tests.notices.product import SECRET
from tests.notices.purchase import purchase


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the product's mails lie."""
    return tmp_path_factory.mktemp("mailbox") / "mails"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def telling(module_database: Database, mailbox: Path) -> AsyncIterator[Product]:
    """The running product with a mail channel (files), webhooks and events."""
    catalog = Catalog.of([purchase])
    settings = load_settings(
        database_url=module_database.url,
        sagas="tests.notices",
        topic_partitions=2,
        stall_exit_ms=0,  # see tests/api
        notice_mail_url=f"file://{mailbox}",
        notice_mail_from="Approvals <approvals@bank.example>",
        notice_mail_domain="bank.example",
        notice_webhook_secret="whsec_" + base64.b64encode(SECRET).decode(),
        notice_webhook_allow="127.0.0.1",
        notice_events=True,
        notice_link_url="https://office.bank.example",
        notice_poll_ms=50,
        notice_retry_ms=50,
        notice_attempts_max=2,
    )
    runtime = Runtime(settings, catalog=catalog)
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server:
            running = asyncio.create_task(runtime.run())
            async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                yield Product(runtime, app.state.engine, server.url, client)
            await server.stop()
            runtime.stop()
            await running


@pytest_asyncio.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    """Planner, outbox and sender on a database of their own."""
    async with at_office(database.url, database.admin_url) as found:
        yield found
