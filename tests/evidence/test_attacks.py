"""Somebody who owns the database, may write to a place, or kept an old key: what each tries, and what stops it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orchestrator.broker.contract import open_broker
from orchestrator.evidence import places, publishing, verifier
from orchestrator.evidence.errors import LogBehindError, LogContradictsError
from orchestrator.evidence.notes import Checkpoint, NoteError, SignedCheckpoint, Signer, Verifier, open_checkpoint
from orchestrator.evidence.places import FilePlace, TopicPlace
from orchestrator.evidence.publishing import Publisher, check_continued
from orchestrator.evidence.reading import Evidence
from orchestrator.evidence.sealing import Sealer
from orchestrator.evidence.verifying import Verification
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.store.chain import stored_flaw
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import as_superuser, grown, ring, signer

ALONE: Any = verifier  # a program without types
OLD, NEW = signer(1), signer(2)
KEYS = ring(NEW, OLD).verifiers
THREAT_MODEL = Path(__file__).parents[2] / "docs" / "threat-model.md"


def checkpoint(number: int, size: int = 0, key: Signer = NEW, root: bytes = bytes(32)) -> str:
    """One over as many records as its number says."""
    return key.sign(Checkpoint(key.name, size or number, root, number, number * 2_000_000).text)


def numbers(*parts: Sequence[int]) -> list[str]:
    """Checkpoints with these numbers; each is signed once."""
    notes = {number: checkpoint(number) for part in parts for number in part}
    return [notes[number] for part in parts for number in part]


REPLAYS = [  # behind two hundred checkpoints somebody writes
    ([7] * 40, "one of them, as often as it takes to fill the end"),
    (list(range(1, 195)), "many in their order, as if the log were that short"),
    (list(range(170, 199)), "few in their order, for a database that lacks two"),
    ([198] * 80, "the same one, for a database that lacks two"),
    ([7] * 700, "many more than there are"),
]


@pytest.fixture
def short_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much is read at once as a test can fill."""
    for name, value in (("TAIL_BYTES", 5_000), ("SAMPLE_BYTES", 700), ("TAIL_MESSAGES", 10), ("SAMPLE_MESSAGES", 2)):
        monkeypatch.setattr(places, name, value)


@pytest.mark.usefixtures("short_sight")
@pytest.mark.parametrize(("replayed", "what"), REPLAYS)
async def test_old_checkpoints_that_are_written_again_hide_no_newer_one(
    tmp_path: Path, replayed: list[int], what: str
) -> None:
    """Else a backup that was put back would start, and the file would seem to agree."""
    file = tmp_path / "checkpoints.txt"
    file.write_text("".join(f"{note}\n" for note in numbers(range(1, 201), replayed)))
    last = await FilePlace(file).last(KEYS)
    assert last is not None
    assert last.checkpoint.number == 200, what


@pytest.mark.usefixtures("short_sight")
async def test_nor_in_a_topic(database: Database) -> None:
    """Counted in messages there."""
    broker = open_broker(database.url)
    topic = TopicPlace(broker, "log.replayed")
    assert await topic.last(KEYS) is None
    await topic.publish(numbers(range(1, 41)))
    for replayed in (list(range(27, 39)), [7] * 60):
        await topic.publish(numbers(replayed))
        last = await topic.last(KEYS)
        assert last is not None
        assert last.checkpoint.number == 40
    await topic.close()
    await broker.close()


async def test_where_nobody_wrote_anything_else_only_the_end_and_samples_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start must not take longer the older the log is."""
    monkeypatch.setattr(places, "TAIL_BYTES", 5_000)
    judged: list[str] = []

    def counted(note: str, keys: Sequence[Verifier]) -> SignedCheckpoint:
        judged.append(note)
        return open_checkpoint(note, keys)

    monkeypatch.setattr(places, "open_checkpoint", counted)
    file = tmp_path / "checkpoints.txt"
    file.write_text("".join(f"{note}\n" for note in numbers(range(1, 1_501))))
    last = await FilePlace(file).last(KEYS)
    assert last is not None
    assert last.checkpoint.number == 1_500
    assert len(judged) < 90


async def test_a_retired_key_says_nothing_beside_the_one_that_replaced_it(tmp_path: Path) -> None:
    """Its thief could else stop every start with a checkpoint over more records than there are."""
    file = tmp_path / "checkpoints.txt"
    file.write_text(f"{checkpoint(1, key=OLD)}\n{checkpoint(2)}\n{checkpoint(10**9, key=OLD)}\n")
    last = await FilePlace(file).last(KEYS)
    assert last is not None
    assert last.checkpoint.number == 2


async def test_two_databases_that_publish_to_one_place_are_noticed_while_they_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby and its old primary: each has a lease of its own, and neither starts again."""
    place = FilePlace(tmp_path / "checkpoints.txt")
    async with PostgresStore(database.url) as store:
        sealing = Sealer(store, ring(NEW), records_max=1_000)
        one = Publisher(store.pools, place, KEYS, holder="one", attempt_ms=20_000, lease_ms=60_000)
        for first in ("K", "L"):
            await grown(store, 20, first=first)
            await sealing.seal()
            assert await one.publish() == 1
        await place.publish([checkpoint(2, 40)])
        await grown(store, 20, first="M")
        await sealing.seal()
        monkeypatch.setattr(publishing, "READ_AGAIN_SECONDS", -1.0)
        with pytest.raises(LogContradictsError, match="these are other records"):
            await one.publish()


def test_a_checkpoint_of_another_log_is_none_of_this_one() -> None:
    """Signed by the same key: under another name it is another key, and under this name it must speak of this log."""
    other = Signer("bank.example/other", OLD.seed)
    with pytest.raises(NoteError, match="none of these keys is trusted"):
        open_checkpoint(other.sign(Checkpoint(OLD.name, 5, bytes(32), 1, 0).text), KEYS)
    with pytest.raises(NoteError, match="it is not of this log"):
        open_checkpoint(OLD.sign(Checkpoint(other.name, 5, bytes(32), 1, 0).text), KEYS)
    alone = [ALONE.key_of(OLD.verifier.vkey)]
    for note in (other.sign("bank.example/log\n5\nAAAA\n"), OLD.sign("bank.example/other\n5\nAAAA\n")):
        with pytest.raises(ValueError, match="no trusted key signed"):
            ALONE.checkpoint_of(note, alone)


async def test_sizes_beyond_every_log_are_answered(database: Database) -> None:
    """Signed by the log's own key, over more records than numbers of the database reach."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        huge = checkpoint(1, 10**18 - 1)
        with pytest.raises(LogBehindError, match="Missing: 999999999999999979 records"):
            await check_continued(Evidence(store.pools), open_checkpoint(huge, KEYS), "file")
        report = await Verification(store, ring(NEW), published=[("published", [huge])]).run()
        assert "positions 21 to 999999999999999999 are missing" in str(report.in_order()[0])


FIELDS: dict[str, Any] = {
    "activity": "a", "actor": "x", "causation": "c", "correlation": "s", "data": {}, "previous": "0" * 64,
    "recorded_at": 1, "saga": "s", "tenant": "main", "traceparent": "", "type": "t", "version": 1,
}  # fmt: skip
RECORD = canonical_bytes(FIELDS)
STRANGE = {
    "a name that stands twice": RECORD.replace(b'"actor":"x"', b'"actor":"x","actor":"y"'),
    "a number in another form": RECORD.replace(b'"recorded_at":1', b'"recorded_at":1.0'),
    "a number without bounds": RECORD.replace(b'"data":{}', b'"data":{"n":1e999}'),
    "nesting without end": RECORD.replace(b'"data":{}', b'"data":{"n":' + b"[" * 990 + b"]" * 990 + b"}"),
    "a text for a time": RECORD.replace(b'"recorded_at":1', b'"recorded_at":"1"'),
    "a letter written in another way": RECORD.replace(b'"actor":"x"', b'"actor":"\\u0078"'),
    "space": RECORD + b" ",
    "no object": b"[]",
}


@pytest.mark.parametrize("what", STRANGE)
def test_bytes_that_two_readers_could_read_differently_are_no_record(what: str) -> None:
    """Also where their hash fits: whoever computed it anew is found out by the form, and never crashes a verifier."""
    body = STRANGE[what]
    assert stored_flaw("s", 1, "main", hashlib.sha256(RECORD).digest(), RECORD, None) == ""
    assert "canonical" in stored_flaw("s", 1, "main", hashlib.sha256(body).digest(), body, None)


def test_the_verifier_alone_names_a_name_that_stands_twice() -> None:
    """Python's reader takes the last one, others the first: what it shows must not depend on that."""
    said: list[str] = []
    ALONE.link(STRANGE["a name that stands twice"], "s", 1, "", said.append)
    assert said == ["saga s, record 1: a name stands twice in it"]
    ALONE.link(RECORD, "s", 1, "", pytest.fail)


def test_texts_that_look_alike_are_different() -> None:
    """The same letter composed and decomposed: other bytes, another saga."""
    composed, decomposed = ({**FIELDS, "saga": text} for text in ("caf\u00e9", "cafe\u0301"))
    body = canonical_bytes(decomposed)
    assert body != canonical_bytes(composed)
    assert "its saga is" in stored_flaw(composed["saga"], 1, "main", hashlib.sha256(body).digest(), body, None)


async def test_what_was_rolled_back_leaves_no_gap_and_what_was_deleted_does(database: Database) -> None:
    """Positions are given to what was committed; numbers of batches that nobody used are none."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        connection = await asyncpg.connect(database.url)
        for (sequence,) in await connection.fetch("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"):
            await connection.fetch("SELECT nextval($1::text::regclass) FROM generate_series(1, 5)", sequence)
        await connection.close()
        await grown(store, 20, first="L")
        assert (await Verification(store, ring(NEW)).run()).findings == []
        await as_superuser(
            database,
            "INSERT INTO records_stored "
            "SELECT 7, version + 1000, saga_id, tenant, hash, body FROM records_stored LIMIT 1",
        )
        report = await Verification(store, ring(NEW)).run()
        assert any("the order does not know it: added, or moved there" in one.text for one in report.findings)
        await as_superuser(
            database, "DELETE FROM records_stored WHERE seq IN (7, (SELECT max(seq) FROM records_stored))"
        )
        report = await Verification(store, ring(NEW)).run()
        assert "position 40 has no record: deleted, or moved elsewhere" in str(report.in_order()[0])


async def test_a_definition_that_was_altered_is_named(database: Database) -> None:
    """Its data no longer have its hash. Who alters that too is told by the next start of whoever has the code."""
    async with PostgresStore(database.url) as store:
        data = {"name": "transfer", "version": 1}
        fits = hashlib.sha256(canonical_bytes(data)).hexdigest()
        await store.register_definition("transfer", 1, fits, data)
        assert (await Verification(store, ring(NEW)).run()).findings == []
        forged = json.dumps({"name": "transfer", "version": 2})
        await as_superuser(database, f"UPDATE definitions SET data = convert_to($${forged}$$, 'UTF8')")
        (found,) = (await Verification(store, ring(NEW)).run()).findings
        assert (found.kind, found.text) == (
            "definition", "definition transfer version 1: its data do not have its hash: it was changed"
        )  # fmt: skip


async def test_the_threat_model_says_of_every_table_what_protects_it(database: Database) -> None:
    """A new table stands there before it is shipped: proved, compared, or only what the application may do to it."""
    connection = await asyncpg.connect(database.admin_url)
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace "
        "AND NOT c.relispartition"
    )
    await connection.close()
    tables = {name.removesuffix("_a").removesuffix("_b") for (name,) in rows}
    text = THREAT_MODEL.read_text()
    section = text[text.index("## Table by table") :]
    named = {word.strip("`") for word in section.split("## ", 2)[1].replace(",", " ").split() if word.startswith("`")}
    assert tables <= named, f"not in the threat model: {sorted(tables - named)}"
    assert named <= tables, f"no tables: {sorted(named - tables)}"
