"""Publishing: every checkpoint reaches every place, and what a place knows cannot be taken back unseen."""

from __future__ import annotations

import asyncio
import fcntl
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.broker.contract import open_broker
from orchestrator.evidence.errors import LogBehindError, LogContradictsError, PlaceAwayError
from orchestrator.evidence.notes import SignedCheckpoint, Verifier, notes_in, open_checkpoint
from orchestrator.evidence.places import FilePlace, Place, TopicPlace, UrlPlace
from orchestrator.evidence.publishing import Publisher, check_continued
from orchestrator.evidence.reading import Evidence
from orchestrator.evidence.sealing import Sealer
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.log_server import log_server
from tests.evidence.logs import as_superuser, grown, ring

KEYS = ring().verifiers


class Counting:
    """A place in memory that is away when told so."""

    name = "memory"

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.is_away = False

    async def last(self, keys: Sequence[Verifier]) -> SignedCheckpoint | None:
        if self.is_away:
            raise PlaceAwayError("memory: away")
        return open_checkpoint(self.notes[-1], keys) if self.notes else None

    async def publish(self, notes: Sequence[str]) -> None:
        if self.is_away:
            raise PlaceAwayError("memory: away")
        self.notes += notes

    async def close(self) -> None:
        """Nothing to give back."""


def publisher(store: PostgresStore, place: Place, holder: str = "one") -> Publisher:
    return Publisher(store.pools, place, KEYS, holder=holder, attempt_ms=20_000, lease_ms=60_000)


async def sealed(store: PostgresStore, sealing: Sealer, *steps: int, first: str = "K") -> None:
    """A checkpoint for each number of further records."""
    for number, step in enumerate(steps):
        await grown(store, step, first=f"{first}{number}")
        assert await sealing.seal() is not None


async def numbers(place: Place) -> int:
    """The number of the last checkpoint in a place."""
    last = await place.last(KEYS)
    return last.checkpoint.number if last else 0


async def test_every_place_gets_every_checkpoint_in_order(database: Database, tmp_path: Path) -> None:
    """A file, a topic, an HTTP endpoint; read back by somebody who has just come."""
    broker = open_broker(database.url)
    async with PostgresStore(database.url) as store, log_server() as server:
        sealing = Sealer(store, ring(), records_max=10_000)
        await sealed(store, sealing, 10, 300, 5)
        file = tmp_path / "worm" / "checkpoints.txt"
        places: list[Place] = [
            FilePlace(file),
            TopicPlace(broker, "log.checkpoints"),
            UrlPlace(server.url, "secret", 5_000),
        ]
        for place in places:
            assert await place.last(KEYS) is None
            one = publisher(store, place)
            assert (await one.publish(), await one.publish()) == (3, 0)
        await sealed(store, sealing, 40, first="L")
        for place in places:
            assert await publisher(store, place).publish() == 1
            assert await numbers(place) == 4
        kept = [open_checkpoint(note, KEYS).checkpoint.number for note in notes_in(file.read_text())]
        assert kept == [1, 2, 3, 4]
        assert [open_checkpoint(note, KEYS).checkpoint.number for note in server.notes] == kept
        assert server.tokens == {"Bearer secret"}
        states = await Evidence(store.pools).places()
        assert [(one.place, one.number, one.trouble) for one in states] == [
            ("file", 4, ""), ("topic", 4, ""), ("url", 4, ""),
        ]  # fmt: skip
        for place in places:
            await place.close()
    await broker.close()


async def test_a_place_that_was_away_is_caught_up(database: Database) -> None:
    """Meanwhile it is named, with since when; nothing is left out, nothing comes twice."""
    async with PostgresStore(database.url) as store:
        sealing, place = Sealer(store, ring(), records_max=10_000), Counting()
        one = publisher(store, place)
        await sealed(store, sealing, 10)
        assert await one.publish() == 1
        place.is_away = True
        await sealed(store, sealing, 10, 10, first="L")
        with pytest.raises(PlaceAwayError):
            await one.publish()
        state = (await Evidence(store.pools).places())[0]
        assert (one.trouble, state.trouble, state.number) == ("memory: away", "memory: away", 1)
        assert state.trouble_at > 0
        place.is_away = False
        assert await one.publish() == 2
        assert [open_checkpoint(note, KEYS).checkpoint.number for note in place.notes] == [1, 2, 3]
        state = (await Evidence(store.pools).places())[0]
        assert (one.trouble, state.trouble, state.number, state.trouble_at) == ("", "", 3, 0)


async def test_one_process_publishes_and_another_takes_over(database: Database) -> None:
    """By a lease; whoever gets it asks the place how far it is."""
    async with PostgresStore(database.url) as store:
        sealing, place = Sealer(store, ring(), records_max=10_000), Counting()
        first, second = publisher(store, place, "one"), publisher(store, place, "two")
        await sealed(store, sealing, 10)
        assert (await first.publish(), await second.publish()) == (1, 0)
        await sealed(store, sealing, 10, first="L")
        assert await second.publish() == 0
        await first.close()
        assert await second.publish() == 1
        assert len(place.notes) == 2


async def test_a_checkpoint_that_does_not_continue_the_published_one_is_not_published(database: Database) -> None:
    """Somebody rewrote records, tiles and checkpoints together, with the key: the place knows the old ones."""
    async with PostgresStore(database.url) as store:
        place = Counting()
        await sealed(store, Sealer(store, ring(), records_max=10_000), 300)
        one = publisher(store, place)
        await one.publish()
        await as_superuser(
            database,
            "UPDATE records_stored SET body = body || ' ' WHERE version = 1 AND saga_id LIKE '%K0-2'",
            "DELETE FROM log_tiles",
            "DELETE FROM log_checkpoints",
        )
        forging = Sealer(store, ring(), records_max=10_000)
        assert await forging.seal() is not None
        await sealed(store, forging, 10, first="L")
        with pytest.raises(LogContradictsError, match="checkpoint 2 over 310 records does not continue checkpoint 1"):
            await one.publish()
        with pytest.raises(LogContradictsError, match="these are other records"):
            await publisher(store, place).publish()
        assert len(place.notes) == 1


async def test_a_database_older_than_what_was_published_is_told_what_is_missing(database: Database) -> None:
    """Sizes, times, positions; and an accepted break is declared in the next checkpoint."""
    async with PostgresStore(database.url) as store:
        place, evidence = Counting(), Evidence(store.pools)
        await sealed(store, Sealer(store, ring(), records_max=10_000), 20)
        kept = await evidence.latest()
        await sealed(store, Sealer(store, ring(), records_max=10_000), 30, first="L")
        await publisher(store, place).publish()
        published = await place.last(KEYS)
        assert kept is not None
        assert published is not None
        await check_continued(evidence, published, "memory")
        await as_superuser(
            database,
            "DELETE FROM records_stored WHERE saga_id LIKE '%L0-%'",
            "DELETE FROM saga_heads WHERE saga_id LIKE '%L0-%'",
            f"DELETE FROM feed_sealed WHERE first_position > {kept.size}",
            "DELETE FROM log_checkpoints WHERE number > 1",
        )
        with pytest.raises(LogBehindError) as refused:
            await check_continued(evidence, published, "memory")
        for said in (
            "checkpoint 2, signed 20", "published in memory, covers 50 records", "ends at position 20 (saga main.",
            "its last checkpoint is 1 over 20 records", "Missing: 30 records, positions 21 to 50",
        ):  # fmt: skip
            assert said in str(refused.value)
        await evidence.accept(published, by="person:maria", reason="restored from the backup of 08:00")
        await check_continued(evidence, published, "memory")
        sealing = Sealer(store, ring(), records_max=10_000)
        made = await sealing.seal()
        assert made is not None
        opened = open_checkpoint(made.note, KEYS).checkpoint
        assert (opened.number, opened.size) == (3, 20)
        assert opened.broken == ((50, published.checkpoint.root),)
        assert await publisher(store, place).publish() == 1
        await sealed(store, sealing, 5, first="M")
        assert await publisher(store, place).publish() == 1
        assert await numbers(place) == 4


async def test_a_file_that_a_crash_cut_off_is_gone_on_with(tmp_path: Path, database: Database) -> None:
    """The torn line stays where it is; behind it everything can be read."""
    file = tmp_path / "checkpoints.txt"
    async with PostgresStore(database.url) as store:
        sealing, place = Sealer(store, ring(), records_max=10_000), FilePlace(file)
        await sealed(store, sealing, 10)
        await publisher(store, place).publish()
        whole = file.read_text()
        await sealed(store, sealing, 10, first="L")
        for cut in (30, len(whole) - 20, len(whole) - 2):
            file.write_text(whole + whole[:cut])
            assert await publisher(store, place).publish() == 1
            assert await numbers(place) == 2
            assert list(notes_in(file.read_text()))[-1].startswith("bank.example/log\n20\n")


async def test_a_file_that_another_process_holds_keeps_no_thread_waiting(tmp_path: Path, database: Database) -> None:
    """A frozen process with the file's lock costs a try, and the next one after it is gone goes through."""
    file = tmp_path / "checkpoints.txt"
    async with PostgresStore(database.url) as store:
        await sealed(store, Sealer(store, ring(), records_max=10_000), 10)
        place = FilePlace(file)
        with file.open("ab") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            for _ in range(3):
                with pytest.raises(PlaceAwayError, match="Resource temporarily unavailable"):
                    await publisher(store, place).publish()
        assert await publisher(store, place).publish() == 1


async def test_a_file_whose_disk_hangs_costs_one_thread_and_not_those_of_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are looked up in the event loop's threads: as many hanging attempts as it has would end all calls."""
    answers, began = threading.Event(), threading.active_count()
    place = FilePlace(tmp_path / "checkpoints.txt")

    def hang(_: object) -> None:
        answers.wait(60)

    monkeypatch.setattr(place, "_append", hang)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=2))
    try:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(place.publish(["x"]), 0.05)
        for _ in range(3):
            with pytest.raises(PlaceAwayError, match="hangs still"):
                await asyncio.wait_for(place.publish(["x"]), 50)
        assert threading.active_count() <= began + 1
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 30) == "free"
    finally:
        answers.set()


async def test_a_flood_behind_the_last_checkpoint_does_not_hide_it(tmp_path: Path, database: Database) -> None:
    """Else whoever may write there could make a place look new, and an older database would start."""
    file = tmp_path / "checkpoints.txt"
    broker = open_broker(database.url)
    async with PostgresStore(database.url) as store:
        await sealed(store, Sealer(store, ring(), records_max=10_000), 10)
        topic = TopicPlace(broker, "log.flooded")
        for place in (FilePlace(file), topic):
            await publisher(store, place).publish()
        with file.open("a") as more:
            more.write("nothing\n\n" * 100_000)
        await topic.publish(["nothing"] * 120)
        assert await numbers(FilePlace(file)) == 1
        assert await numbers(topic) == 1
        await topic.close()
    await broker.close()


async def test_what_others_write_into_a_place_is_not_believed(tmp_path: Path) -> None:
    """Only checkpoints that a trusted key signed count."""
    stranger = ring().signer
    assert stranger is not None
    file = tmp_path / "checkpoints.txt"
    file.write_text("hello\n\n\u2014 nobody AAAA\n\nbank.example/log\n5\n")
    assert await FilePlace(file).last(KEYS) is None
    async with log_server() as server:
        server.notes.append("hello\n")
        with pytest.raises(PlaceAwayError, match="no checkpoint that a known key signed"):
            await UrlPlace(server.url, "", 5_000).last(KEYS)
        server.status = 500
        with pytest.raises(PlaceAwayError, match="answered 500"):
            await UrlPlace(server.url, "", 5_000).publish(["x"])
    with pytest.raises(PlaceAwayError):
        await UrlPlace(server.url, "", 5_000).last(KEYS)
