"""Fixtures for every test: databases here, a real Kafka and a real Jaeger in files of theirs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from tests.databases import Database, DatabaseServer, running_server
from tests.logging_kept import logging_kept
from tests.state_kept import state_kept

_PLUGINS = ("kafka_server", "jaeger")
pytest_plugins = [f"tests.{name}" for name in _PLUGINS if (Path(__file__).parent / f"{name}.py").exists()]


# A run that is red today is red tomorrow: the suite draws the same examples every time, and no clock decides. The proof
# draws new ones, and more of them; what it finds becomes an example of its own.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis.settings.register_profile("proof", max_examples=1_000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """No test leaves logging of its own to the next."""
    with logging_kept():
        yield


@pytest.fixture(autouse=True)
def process_as_it_was(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves the environment, the directory, signals and the like changed to the next."""
    with state_kept(tmp_path_factory.getbasetemp()):
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def database_server() -> AsyncIterator[DatabaseServer]:
    """One embedded PostgreSQL for the whole run."""
    async with running_server() as server:
        yield server


@pytest_asyncio.fixture
async def database(database_server: DatabaseServer) -> AsyncIterator[Database]:
    """A migrated database for one test."""
    async with database_server.database() as fresh:
        yield fresh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_database(database_server: DatabaseServer) -> AsyncIterator[Database]:
    """A migrated database for all tests of one file, where a fresh one each would cost too much."""
    async with database_server.database() as fresh:
        yield fresh


@pytest_asyncio.fixture
async def empty_database(database_server: DatabaseServer) -> AsyncIterator[Database]:
    """A database that has never been migrated."""
    async with database_server.database(migrated=False) as fresh:
        yield fresh
