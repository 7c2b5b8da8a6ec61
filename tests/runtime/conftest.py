"""Fixtures of the runtime's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk


@pytest_asyncio.fixture
async def desk(database: Database) -> AsyncIterator[Desk]:
    """A coordinator on a fresh database."""
    async with at_desk(database.url) as made:
        yield made


@pytest.fixture
def eyes(database: Database) -> Eyes:
    """Looks into that database."""
    return Eyes(database.admin_url)
