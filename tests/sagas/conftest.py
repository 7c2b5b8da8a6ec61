"""Participants of the sagas on trial, each in its own schema of one test's database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from orchestrator.participants.work import Pool
from tests.databases import Database


@pytest_asyncio.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connections of the application's role."""
    async with asyncpg.create_pool(database.url, min_size=1, max_size=8) as made:
        yield made
