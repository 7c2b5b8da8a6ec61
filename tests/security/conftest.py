"""The product of tests/identity/bank.py, for the tests of one file."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.databases import Database
from tests.identity.bank import Bank, running_bank


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bank(module_database: Database) -> AsyncIterator[Bank]:
    """The running product with everything of identity."""
    async with running_bank(module_database) as found:
        yield found
