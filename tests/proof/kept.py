"""Databases of `tests.proof.lists` that stay: filled once, asked as often as somebody wants.

Rules of this file
- A directory is a cluster; a database in it is filled for one number of sagas, and says in its comment what is in it.
- Whoever opens one migrates it: what a new version adds is there before anything is measured.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg

from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.migrate import migrate
from tests.databases import Database
from tests.projections.conftest import story
from tests.proof.filling import Template, fill, templates


@asynccontextmanager
async def kept_database(directory: Path, name: str) -> AsyncIterator[Database]:
    """The database of this name in the cluster that lies there; both are made where they are not there yet."""
    async with EmbeddedPostgres(directory) as postgres:
        database = Database(
            name,
            url=postgres.url_for(name, "orchestrator_app"),
            migrate_url=postgres.url_for(name, "orchestrator_owner"),
            admin_url=postgres.url_for(name, "postgres"),
        )
        connection = await asyncpg.connect(postgres.admin_url)
        try:
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", name):
                await connection.execute(f"CREATE DATABASE {name} OWNER orchestrator_owner")
        finally:
            await connection.close()
        await migrate(database.migrate_url)
        yield database


async def noted(database: Database) -> dict[str, Any]:
    """What was noted of this database; nothing for a new one."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        text = await connection.fetchval(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        )
    finally:
        await connection.close()
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


async def note(database: Database, words: Mapping[str, Any]) -> None:
    """Keeps these words with the database, beside what was noted before."""
    text = json.dumps({**await noted(database), **words}).replace("'", "''")
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute(f"COMMENT ON DATABASE {database.name} IS '{text}'")
    finally:
        await connection.close()


async def filled(database: Database, sagas: int, *, room: int) -> dict[str, Any]:
    """Stores so many sagas where there are none yet; how much is stored. `room`: bytes that each takes.

    Raises OSError where the disk is too small: better now than in an hour.
    """
    found = await noted(database)
    if not found:
        place = await _data_directory(database)
        if (free := shutil.disk_usage(place).free) < sagas * room:
            raise OSError(f"{free >> 30} GiB are free in {place}, this takes {sagas * room >> 30}")
        began = time.perf_counter()
        made = await fill(database.admin_url, await _told(database), sagas)
        await note(database, {**asdict(made), "seconds_to_fill": round(time.perf_counter() - began)})
        found = await noted(database)
    return found


async def _data_directory(database: Database) -> str:
    connection = await asyncpg.connect(database.admin_url)
    try:
        return str(await connection.fetchval("SELECT current_setting('data_directory')"))
    finally:
        await connection.close()


async def _told(database: Database) -> list[tuple[Template, int]]:
    """Sagas of a running product, each with how many of a hundred go like it."""
    async with story(database) as told:
        ids = dict(told.sagas)
    connection = await asyncpg.connect(database.admin_url)
    try:
        names = ("approved", "rejected", "refused", "expired", "open", "by hand")
        made_of = dict(zip(names, await templates(connection, [ids[name] for name in names]), strict=True))
    finally:
        await connection.close()
    return [(made_of[name], weight) for name, weight in zip(names, (76, 8, 3, 2, 10, 1), strict=True)]
