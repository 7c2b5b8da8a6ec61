"""One signed office for all tests of packs: it takes seconds to stage."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.databases import Database, DatabaseServer
from tests.evidence.packs.logs import SignedOffice, signed_office


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def pack_database(database_server: DatabaseServer) -> AsyncIterator[Database]:
    """Its database."""
    async with database_server.database() as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def office(pack_database: Database) -> AsyncIterator[SignedOffice]:
    """The running product, staged and signed. A test that moves a saga begins one of its own."""
    async with signed_office(pack_database) as made:
        yield made
