"""A till on trial, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.participants.testing import Trial, trial
from orchestrator.participants.work import Pool
from tests.databases import Database
from tests.participants.outside import World, payer
from tests.participants.tills import make_till


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connections of the application's role."""
    async with asyncpg.create_pool(database.url, min_size=1, max_size=8) as made:
        yield made


@pytest_asyncio.fixture
async def till(pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A till with handlers whose effects are in its own schema."""
    async with trial(make_till(), pool, database.migrate_url) as tried:
        yield tried


@pytest.fixture
def world() -> World:
    """The outside of one test."""
    return World()


@pytest_asyncio.fixture
async def looking(world: World, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A payer that can look up what happened."""
    async with trial(payer(world, lookup=True, idempotent=False), pool, database.migrate_url) as tried:
        yield tried


@pytest_asyncio.fixture
async def repeating(world: World, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A payer whose calls may be repeated."""
    async with trial(payer(world, lookup=False, idempotent=True), pool, database.migrate_url) as tried:
        yield tried


@pytest_asyncio.fixture
async def both(world: World, pool: Pool, database: Database) -> AsyncIterator[Trial]:
    """A payer with both ways."""
    async with trial(payer(world, lookup=True, idempotent=True), pool, database.migrate_url) as tried:
        yield tried
