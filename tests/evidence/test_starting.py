"""A process at its start: it compares the database with what was published, and refuses one that is older."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from orchestrator.config import Settings, load_settings
from orchestrator.evidence.errors import LogBehindError, PlaceAwayError
from orchestrator.evidence.keys import own_ring
from orchestrator.evidence.notes import SignedCheckpoint, open_checkpoint
from orchestrator.evidence.places import FilePlace
from orchestrator.evidence.reading import Evidence
from orchestrator.evidence.settings import beside_database
from orchestrator.evidence.verifying import Verification
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import as_superuser, grown, ring


def settings_of(database: Database, directory: Path, **more: Any) -> Settings:
    """A coordinator alone, with a key and a file of its own."""
    beside = beside_database(directory)
    own_ring(Path(beside["evidence_key_file"]), "test/log")
    wanted = {**beside, "evidence_seal_ms": 20, "roles": "coordinator", "instance_id": "one", **more}
    return load_settings(database_url=database.url, **wanted)


async def run_until_published(settings: Settings, number: int) -> dict[str, int]:
    """A process that runs until checkpoint `number` is in the file; its facts then."""
    runtime = Runtime(settings, catalog=Catalog.load(["tests.runtime.shop"]))
    place = FilePlace(Path(settings.evidence_file))
    facts: dict[str, int] = {}

    async def watch(stopping: Any) -> None:
        ring = settings.evidence_ring()
        assert ring is not None
        while not stopping:
            last = await place.last(ring.verifiers)
            if last is not None and last.checkpoint.number >= number:
                facts.update(runtime.health().facts)
                runtime.stop()
            await stopping.sleep(10)

    async with runtime:
        runtime.add("watch", watch)
        await runtime.run()
    return facts


async def test_a_coordinator_seals_publishes_and_starts_again(database: Database, tmp_path: Path) -> None:
    """The loops of the shipped process; what it did shows in its health."""
    settings = settings_of(database, tmp_path)
    async with PostgresStore(database.url) as store:
        await grown(store, 40)
        facts = await run_until_published(settings, 1)
        assert (facts["log_size"], facts["log_checkpoint"], facts["log_places_in_trouble"]) == (40, 1, 0)
        await grown(store, 5, first="L")
        facts = await run_until_published(settings, 2)
        assert (facts["log_size"], facts["log_checkpoints_signed"]) == (45, 1)


async def test_a_database_older_than_what_was_published_does_not_start(database: Database, tmp_path: Path) -> None:
    """Also while another place is away; an act with a name and a reason lets it go on."""
    settings = settings_of(database, tmp_path)
    async with PostgresStore(database.url) as store:
        await grown(store, 40)
        await run_until_published(settings, 1)
        await as_superuser(
            database,
            "DELETE FROM records_stored WHERE seq = (SELECT max(last_seq) FROM feed_sealed)",
            "UPDATE feed_sealed SET last_seq = last_seq - 1 WHERE last_seq = (SELECT max(last_seq) FROM feed_sealed)",
            "DELETE FROM log_checkpoints",
        )
        one_away = settings.model_copy(update={"evidence_url": "http://127.0.0.1:9/log"})
        for changed in (settings, one_away):
            with pytest.raises(LogBehindError, match=r"Missing: 1 record, positions 40 to 40"):
                async with Runtime(changed, catalog=Catalog.load(["tests.runtime.shop"])):
                    pass
        ring = settings.evidence_ring()
        assert ring is not None
        published = await FilePlace(Path(settings.evidence_file)).last(ring.verifiers)
        assert published is not None
        await Evidence(store.pools).accept(published, by="maria", reason="restored")
        await run_until_published(settings, 2)


NOWHERE = "http://127.0.0.1:9/log"


async def started(settings: Settings) -> None:
    """A process that begins and ends. Raises what its start raises."""
    async with Runtime(settings, catalog=Catalog.load(["tests.runtime.shop"])):
        pass


async def test_where_no_place_answers_nobody_can_say_and_the_start_waits(database: Database, tmp_path: Path) -> None:
    """It is tried again, as with a database that is away; a process that only reads starts."""
    settings = settings_of(database, tmp_path, evidence_url=NOWHERE, evidence_file="")
    with pytest.raises(PlaceAwayError, match=r"nobody can say whether this database .* audit allow-start"):
        await started(settings)
    await started(settings.model_copy(update={"roles": "projections"}))


async def test_a_place_that_lost_what_was_published_there_is_no_answer(database: Database, tmp_path: Path) -> None:
    """A disk that is not mounted looks like a file that is not there yet, an older copy like an older log. The next
    process that publishes puts everything back."""
    settings = settings_of(database, tmp_path)
    file = Path(settings.evidence_file)
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        await run_until_published(settings, 1)
        older = file.read_text()
        await grown(store, 20, first="L")
        await run_until_published(settings, 2)
        whole = file.read_text()
        file.write_text(older)
        with pytest.raises(
            PlaceAwayError, match=r"file: its last checkpoint is 1, and checkpoint 2 was published there"
        ):
            await started(settings)
        file.unlink()
        with pytest.raises(PlaceAwayError, match=r"file: it holds no checkpoint, and checkpoint 2 was published there"):
            await started(settings)
        await allow(settings, store)
        await run_until_published(settings, 2)
        assert file.read_text() == whole


async def allow(settings: Settings, store: PostgresStore, *, minutes: int = 60) -> SignedCheckpoint:
    """Maria allows starts, having seen the last checkpoint of this database."""
    evidence, ring = Evidence(store.pools, "work"), settings.evidence_ring()
    latest = await evidence.latest()
    assert ring is not None
    assert latest is not None
    seen = open_checkpoint(latest.note, ring.verifiers)
    await evidence.allow_start(seen, by="maria", reason="the witness is down, case 12", micros=minutes * 60_000_000)
    return seen


async def test_an_operator_allows_a_start_without_any_place_for_some_hours(database: Database, tmp_path: Path) -> None:
    """By name; what she had seen must still be there, so an older database does not start by it; it ends by itself."""
    settings = settings_of(database, tmp_path)
    alone = settings.model_copy(update={"evidence_url": NOWHERE, "evidence_file": "", "evidence_seal_ms": 0})
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        await run_until_published(settings, 1)
        with pytest.raises(PlaceAwayError):
            await started(alone)
        await allow(settings, store)
        with structlog.testing.capture_logs() as told:
            await started(alone)
        said = next(one for one in told if one["event"] == "started without any place")
        assert (said["allowed_by"], said["because"], said["seen"]) == ("maria", "the witness is down, case 12", 1)
        report = await Verification(store, settings.evidence_ring() or ring()).run()
        assert "maria allowed processes to start until 20" in "\n".join(report.notes)
        await as_superuser(database, "UPDATE log_allowances SET until = allowed_at + 1")
        with pytest.raises(PlaceAwayError):
            await started(alone)
        await allow(settings, store)
        await as_superuser(
            database,
            "DELETE FROM records_stored WHERE seq = (SELECT max(last_seq) FROM feed_sealed)",
            "UPDATE feed_sealed SET last_seq = last_seq - 1 WHERE last_seq = (SELECT max(last_seq) FROM feed_sealed)",
            "DELETE FROM log_checkpoints",
        )
        with pytest.raises(
            LogBehindError, match=r"what the operator had seen .* Missing: 1 record.* maria had allowed"
        ):
            await started(alone)
