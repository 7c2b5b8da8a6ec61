"""The guide to verifying is walked, with a log of 300 records in a database of its own."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from orchestrator.config import PREFIX, Settings
from orchestrator.evidence.keys import write_ring
from orchestrator.evidence.places import FilePlace
from orchestrator.evidence.sealing import Sealer
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.docs.walked_path import walk
from tests.evidence.logs import grown, ring, signer

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "verify-the-audit.md"


async def test_the_guide_can_be_walked(database: Database, tmp_path: Path) -> None:
    """Every command ends as the guide says and prints what it shows."""
    place = FilePlace(tmp_path / "worm" / "checkpoints.txt")
    async with PostgresStore(database.url) as store:
        sealer = Sealer(store, ring(), records_max=10_000)
        for number in range(3):
            await grown(store, 100, first=f"G{number}")
            made = await sealer.seal()
            assert made is not None
            await place.publish([made.note])
    key = tmp_path / "secrets" / "log.key"
    write_ring(key, signer())
    settings = {"database_url": database.url, "evidence_key_file": key, "evidence_file": place.path}
    lines = [f"{PREFIX}{name.upper()}='{value}'" for name, value in settings.items()]
    (tmp_path / "settings.env").write_text("\n".join(lines))
    assert await asyncio.to_thread(walk, GUIDE, tmp_path) == 6


def test_its_settings_are_settings() -> None:
    """A misspelt one would be ignored by whoever copies it."""
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", GUIDE.read_text()))
    assert len(named) >= 6
    assert {name for name in named if name.removeprefix(PREFIX).lower() not in Settings.model_fields} == set()
