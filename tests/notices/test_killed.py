"""Processes killed in the middle: what was read is told once, what was sent goes out again as the same notice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests import forking
from tests.databases import Database
from tests.notices.desk import Office


async def run(database: Database, directory: Path, point: str) -> int:
    """One process with this point to die at; gives its exit code."""
    process = await forking.started("tests.notices.killed", database.url, str(directory), point)
    return await asyncio.wait_for(process.wait(), 60)


@pytest.mark.parametrize("point", ["before-plan", "after-plan", "before-mark"])
async def test_a_kill_loses_nobody_and_tells_nobody_something_new(
    office: Office, database: Database, tmp_path: Path, point: str
) -> None:
    """Three recipients; the second process finishes what the first began, under the same ids."""
    await office.ask("k")
    assert await run(database, tmp_path, point) == -signal.SIGKILL
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.eml")}
    assert len(before) == (1 if point == "before-mark" else 0)
    async with asyncio.timeout(60):
        while True:  # what was claimed comes free with its lease
            assert await run(database, tmp_path, "none") == 0
            if set((await office.states()).values()) == {"sent"}:
                break
    after = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("*.eml")}
    assert len(after) == len(await office.rows()) == 3, "one file for each id: the same notice is the same mail"
    assert before.keys() <= after.keys()
    if point == "before-mark":
        ((name, written),) = before.items()
        assert after[name] > written, "it was sent again, not forgotten"
