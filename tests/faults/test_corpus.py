"""Every malformed message of the corpus meets the whole runtime, among good orders on the same partitions.

What must hold (V27, V28): each bad message ends as exactly one dead letter with its reason and its bytes, or as what it
is; no partition stops, no loop dies, no other key waits long; and what was read is what was accounted for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from orchestrator.broker.contract import OutgoingMessage
from orchestrator.broker.partition import partition_of
from orchestrator.config import Settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.headers import unpack
from tests.databases import Database
from tests.faults.ledger import Ledger
from tests.faults.sending import PARTITIONS, Sender, sender_to, shown
from tests.runtime.corpus import answers
from tests.runtime.corpus.all import corpus
from tests.runtime.corpus.commands import commands
from tests.runtime.corpus.market import PARTICIPANTS, SAGAS, Answered, PurchaseMade
from tests.runtime.corpus.record import EVENTS, Bad, headers_of
from tests.runtime.desk import Eyes

TOPICS = (
    EVENTS, "orchestrator.sagas", "oracles.replies", "oracles.commands", "drivers.replies", "drivers.commands",
    "packers.commands", "packers.replies", "billers.commands", "billers.replies",
)  # fmt: skip
MESSAGE_BYTES_MAX = 262_144
SECONDS_MAX = 60
DELAY_SECONDS_MAX = 30  # V28 says 5; this many on a machine that does other things as well

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "postgres"])
def broker_url(request: pytest.FixtureRequest, database: Database) -> str:
    """Both brokers, with nothing in them."""
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('fresh_kafka')}"
    return database.url


@asynccontextmanager
async def market(database: Database, broker_url: str) -> AsyncIterator[Ledger]:
    """The market with all roles; leaving stops it in order, which it can only do when no loop has died."""
    for participant in PARTICIPANTS:
        await participant.own_schema.migrate(database.migrate_url)
    settings = Settings(
        database_url=database.url,
        broker_url=broker_url,
        topic_partitions=PARTITIONS,
        message_bytes_max=MESSAGE_BYTES_MAX,
        roles="coordinator,relay,timers,participants",
    )
    async with Runtime(settings, catalog=Catalog.of(SAGAS, PARTICIPANTS)) as runtime:
        ledger = Ledger(runtime)
        running = asyncio.create_task(runtime.run())
        try:
            yield ledger
            assert not running.done(), "a loop has died"
            assert runtime.health().ready, runtime.health().loops
        finally:
            runtime.stop()
            await running


def good(name: str, partition: int | None = None) -> OutgoingMessage:
    """A purchase, with a key that belongs to this partition."""
    number, key = 0, name
    while partition is not None and partition_of(key.encode(), PARTITIONS) != partition:
        number += 1
        key = f"{name}-{number}"
    message = PurchaseMade(purchase_id=key)
    return OutgoingMessage(EVENTS, key.encode(), message.canonical(), headers_of(message))


async def send_among_good(sender: Sender, bad: Sequence[Bad], run: str) -> list[str]:
    """Sends each bad message right behind a good one and right before another; gives the keys of the good ones."""
    keys = []
    for number, one in enumerate(bad):
        message = one.message
        partition = partition_of(message.key or b"", PARTITIONS)
        before, after = good(f"{run}-{number}-a", partition), good(f"{run}-{number}-b", partition)
        keys += [str((made.key or b"").decode()) for made in (before, after)]
        if message.topic == EVENTS:
            await sender.send([before, message, after])
        else:
            await sender.send([before])
            await sender.send([message])
            await sender.send([after])
    return keys


async def until(check: Any, what: str, seconds: float = SECONDS_MAX) -> None:
    """Waits until an async check is true."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.05)


async def completed(eyes: Eyes, keys: Sequence[str]) -> bool:
    """All of these purchases are through."""
    rows = await eyes.rows(
        "SELECT count(*)::int AS n FROM saga_heads WHERE phase = 'completed' AND business_key = ANY($1::text[])",
        list(keys),
    )
    return bool(rows[0]["n"] == len(set(keys)))


async def test_each_bad_message_is_accounted_for_and_delays_nobody(
    database: Database, broker_url: str, eyes: Eyes, record_property: Any
) -> None:
    """The corpus, on either broker."""
    async with sender_to(broker_url, TOPICS) as sender, market(database, broker_url) as ledger:
        bad = corpus()
        begun = [one for one in bad if one.name.startswith("start: ")]
        for one in begun:
            await sender.send([one.message])
        await until(lambda: _count(eyes, "saga_heads", len(begun)), "the sagas that wait have begun")
        keys = await send_among_good(sender, [one for one in bad if one not in begun], "g")
        keys += await send_among_good(sender, list(commands()), "c")
        await until(lambda: completed(eyes, keys), "every good order is through")
        last = [good(f"last-{number}", number % PARTITIONS) for number in range(4 * PARTITIONS)]
        for message in last:
            await sender.send([message])
        await until(lambda: completed(eyes, [(m.key or b"").decode() for m in last]), "no partition stands still")
        await until(lambda: _all_accounted(ledger, bad), "every bad message was read")
        await until(lambda: _conserved(eyes, ledger), "what was read is what was accounted for")
        fates_are_right(ledger, bad)
        await letters_are_right(eyes, ledger, bad)
        await commands_are_kept(eyes)
        to_start, to_end = await delays(eyes, ledger, keys)
        record_property("seconds until a good order starts and ends, at worst", (round(to_start, 3), round(to_end, 3)))
        assert to_end < DELAY_SECONDS_MAX
        await what_waits_goes_on(sender, eyes)
    assert len(bad) >= 60
    record_property("fates", dict(ledger.fates()))


async def _count(eyes: Eyes, table: str, least: int) -> bool:
    return bool(await eyes.count(table) >= least)


async def _all_accounted(ledger: Ledger, bad: Sequence[Bad]) -> bool:
    return all(ledger.of(one.message) for one in bad)


async def _conserved(eyes: Eyes, ledger: Ledger) -> bool:
    """V27: consumed = applied + duplicate + dead-lettered + refused + not for us, per partition, nothing in flight."""
    rows = await eyes.rows("SELECT topic, partition, next_offset FROM positions WHERE next_offset > 0")
    for row in rows:
        offsets = {place[2] for place in ledger.entries if place[:2] == (row["topic"], row["partition"])}
        if offsets != set(range(row["next_offset"])):
            return False
    return bool(sum(row["next_offset"] for row in rows) == len(ledger.entries))


def fates_are_right(ledger: Ledger, bad: Sequence[Bad]) -> None:
    """Each record of the corpus became what it must, once."""
    wrong = []
    expected: dict[Any, list[Bad]] = {}
    for one in bad:
        message = one.message
        expected.setdefault((message.topic, message.key, message.value, message.headers), []).append(one)
    for same in expected.values():
        found = [entry for _, entry in ledger.of(same[0].message)]
        if found != [(one.fate, one.reason) for one in same]:
            wrong.append(f"{[one.name for one in same]}: {found}, expected {[(o.fate, o.reason) for o in same]}")
    assert not wrong, "\n".join(wrong)


async def letters_are_right(eyes: Eyes, ledger: Ledger, bad: Sequence[Bad]) -> None:
    """One dead letter for each that must be one, none for anything else; bytes and headers as they came."""
    rows = {
        (row["topic"], row["partition"], row["offset"]): row for row in await eyes.rows("SELECT * FROM dead_letters")
    }
    assert len(rows) == await eyes.count("dead_letters"), "one place, two letters"
    due = {place: one for one in bad if one.is_dead for place, entry in ledger.of(one.message) if entry[0] == "dead"}
    assert rows.keys() == due.keys()
    for place, one in due.items():
        row = rows[place]
        assert row["reason"] == one.reason, one.name
        assert row["detail"], one.name
        assert (row["key"], row["value"]) == (one.message.key, one.message.value), one.name
        assert unpack(row["headers"]) == shown(one.message.headers), one.name


async def commands_are_kept(eyes: Eyes) -> None:
    """The participant has kept what was no command, with its reason."""
    rows = await eyes.rows("SELECT reason, value, message_key FROM packers.dead_letters ORDER BY id")
    sent = [(one.reason, one.message.value, one.message.key) for one in commands()]
    assert sorted(map(repr, ((row["reason"], row["value"], row["message_key"]) for row in rows))) == sorted(
        map(repr, sent)
    )


async def delays(eyes: Eyes, ledger: Ledger, keys: Sequence[str]) -> tuple[float, float]:
    """Seconds from the broker's receipt of a good order to its start, and to its end, each at worst."""
    arrived = {raw.key: raw.appended_at for raw in sorted(ledger.messages.values(), key=lambda raw: -raw.appended_at)}
    rows = await eyes.rows(
        "SELECT business_key, body FROM records JOIN saga_heads USING (saga_id) WHERE business_key = ANY($1::text[])",
        list(keys),
    )
    times: dict[str, list[int]] = {}
    for row in rows:
        waited = orjson.loads(row["body"])["recorded_at"] - arrived[row["business_key"].encode()]
        times.setdefault(row["business_key"], []).append(waited)
    assert times.keys() == set(keys)
    return max(min(waited) for waited in times.values()) / 1e6, max(max(waited) for waited in times.values()) / 1e6


async def what_waits_goes_on(sender: Sender, eyes: Eyes) -> None:
    """Nothing of all this has moved the sagas that wait, and the right answer still does."""
    assert set(await eyes.stream(answers.ENQUIRY)) == {"saga.started", "step.requested", "reply.late"}
    assert await eyes.stream(answers.JOURNEY) == ["saga.started", "child.requested"]
    right = Answered(text="forty-two")
    headers = headers_of(
        right,
        correlationid=answers.ENQUIRY, activity="ask", round="1", attempt="1", purpose="do", outcome="ok",
        participant="oracles",
    )  # fmt: skip
    await sender.send([OutgoingMessage("oracles.replies", b"x", right.canonical(), headers)])

    async def moved() -> bool:
        return "step.succeeded" in await eyes.stream(answers.ENQUIRY)

    await until(moved, "the right answer counts")
