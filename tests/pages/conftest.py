"""One product for all tests of a file, with a saga in every state."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.databases import Database
from tests.pages.office import OfficeProduct, office_product


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(module_database: Database) -> AsyncIterator[OfficeProduct]:
    """The running product, staged."""
    async with office_product(module_database) as product:
        await product.stage()
        yield product
