"""Live figures over the record feed are those of PostgreSQL: folded in process, and by Faust over a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from orchestrator.broker.contract import OutgoingMessage, Producer, SendError, TopicSpec, open_broker
from orchestrator.runtime import parts
from projections.contract import FeedRecord
from projections.feed import Feed
from projections.live_fold import Ended, LiveSagas, added, alerts, marked, outdated, window_of
from projections.publishing import FeedRunner, NotSentError, RecordFeed, message
from tests.projections.conftest import Told

pytestmark = pytest.mark.asyncio(loop_scope="module")

APPEAR_SECONDS_MAX = 90
PARTITIONS = 2


async def kept_in_postgres(told: Told) -> dict[str, int]:
    """What service levels are made of, over all hours."""
    async with told.store.pools.connection("read") as connection:
        slot = (await connection.fetch("SELECT slot FROM projection_slots WHERE projection = 'journeys' AND live"))[0][
            0
        ]
        rows = await connection.fetch(
            f"SELECT metric, sum(n)::bigint AS n FROM journey_levels_{slot} GROUP BY metric"  # a or b
        )
    return {row["metric"]: row["n"] for row in rows}


async def messages(told: Told) -> list[dict[str, Any]]:
    """The record feed, as its topic has it."""
    feed = Feed(told.store)
    records: list[FeedRecord] = []
    while page := await feed.after(len(records), 1_000):
        records += page
    facts = await feed.facts(records)
    return [orjson.loads(message("t", record, facts[record.saga_id]).value or b"") for record in records]


async def test_the_live_fold_counts_what_postgres_counts(told: Told) -> None:
    """Every record twice, as a broker may deliver it, and all that is in memory lost in the middle."""
    live, total = LiveSagas(), Counter[str]()
    kept: dict[str, Any] = {}
    for number, sent in enumerate(await messages(told)):
        if number % 10 == 5:
            live = LiveSagas()
        for _ in range(2):
            left, counted = live.take(kept.get(sent["saga"]), sent)
            for measure in counted:
                total[measure["metric"]] += measure["n"]
            assert left is not None
            kept[sent["saga"]] = orjson.loads(orjson.dumps(left))
    for sent in await messages(told):  # and the whole feed again, as after a checkpoint that was lost
        assert live.take(kept[sent["saga"]], sent)[1] == []
    assert dict(total) == await kept_in_postgres(told)


async def test_what_is_told_again_after_a_crash_counts_once(told: Told) -> None:
    """Killed after a record's measures were sent and before that was written down: they are sent again, and known."""
    total, kept, marks = Counter[str](), dict[str, Any](), dict[str, list[int]]()
    for number, sent in enumerate(await messages(told)):
        before = kept.get(sent["saga"])
        for live in (LiveSagas(), LiveSagas()) if number % 3 else (LiveSagas(),):
            kept[sent["saga"]], counted = live.take(before, sent)
            for measure in orjson.loads(orjson.dumps(counted)):
                mark = marked(marks.get(measure["saga"]), measure)
                if mark is not None:
                    marks[measure["saga"]] = mark
                    total[measure["metric"]] += measure["n"]
    assert dict(total) == await kept_in_postgres(told)


async def test_a_saga_whose_beginning_was_lost_is_not_counted(told: Told) -> None:
    """Tables that were lost with everything: what begins afterwards counts again."""
    live = LiveSagas()
    sent = [one for one in await messages(told) if one["saga"] == told.sagas["approved"]]
    assert live.take(None, sent[3]) == (None, [])
    kept, counted = live.take(None, sent[0])
    assert kept is not None
    assert [measure["metric"] for measure in counted] == ["started"]


async def test_an_alert_is_said_when_a_level_begins_to_miss_and_when_it_meets_again() -> None:
    """Once each, and never for a handful of cases."""
    states: dict[str, str] = {}
    counts: dict[str, int] = {}
    said: list[tuple[str, str, int, int]] = []

    def hear(metric: str, n: int) -> None:
        nonlocal counts, states
        measure = {"tenant": "main", "name": "payout", "hour": 3_600_000_000, "metric": metric, "n": n}
        counts = added(counts, measure)
        states, news = alerts(window_of(measure), counts, states, whole_min=10)
        said.extend((one["level"], one["state"], one["part"], one["whole"]) for one in news)

    hear("tasks_expired", 1)
    assert not said
    hear("tasks_decided", 10)
    hear("tasks_decided", 1)
    assert said == [("adherence", "missed", 10, 11)]
    hear("tasks_decided", 88)
    assert said[1:] == [("adherence", "met", 99, 100)]


async def nothing_sent(told: Told) -> None:
    """The feed begins anew: each test sends it to a topic of its own."""
    async with told.store.pools.connection("projection") as connection:
        await connection.execute("DELETE FROM projection_slots WHERE projection = 'records'")


def sender(told: Told, producer: Producer, topic: str = "records", *, batch: int = 500) -> FeedRunner:
    """What a process runs."""
    return FeedRunner(told.store, Feed(told.store), RecordFeed(producer, topic), batch_records=batch, poll_ms=10)


class Grumpy:
    """A producer whose broker refuses."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.sent: list[OutgoingMessage] = []

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """Refuses the first, and has the others."""
        self.sent += messages
        return [SendError(self.code, "no", retriable=self.code != "too_large"), *([None] * (len(messages) - 1))]


async def test_the_feed_waits_for_its_broker_and_passes_what_no_topic_can_hold(told: Told) -> None:
    """Unsent records hold the checkpoint; one that is too large is said and left out."""
    await nothing_sent(told)
    grumpy = Grumpy("unavailable")
    runner = sender(told, grumpy)
    with pytest.raises(NotSentError, match="waits for the broker"):
        await runner.step()
    async with told.store.pools.connection("read") as connection:
        rows = await connection.fetch("SELECT position FROM projection_slots WHERE projection = 'records'")
    assert [row["position"] for row in rows] == [0]
    grumpy.code, grumpy.sent = "too_large", []
    taken = await runner.step()
    assert taken == len(grumpy.sent) > 0
    assert [dict(one.headers)["ce_id"] for one in grumpy.sent[:1]] == [f"{told.sagas['approved']}/1".encode()]


class Silent(Grumpy):
    """A producer whose broker does not answer for now."""

    def __init__(self) -> None:
        super().__init__("too_large")
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """Waits for the broker."""
        self.asked.set()
        await self.answers.wait()
        self.sent += messages
        return [None] * len(messages)


async def position(told: Told) -> int:
    """Where the feed's checkpoint stands."""
    async with told.store.pools.connection("read") as connection:
        rows = await connection.fetch("SELECT position FROM projection_slots WHERE projection = 'records'")
    return int(rows[0][0])


async def lease_over(told: Told) -> None:
    """Whoever holds the lease has held it for too long."""
    async with told.store.pools.connection("projection") as connection:
        await connection.execute("UPDATE projection_slots SET held_until = 1 WHERE projection = 'records'")


async def test_a_broker_that_does_not_answer_holds_no_transaction_open(told: Told) -> None:
    """Nor any lock on the checkpoint: while it is waited for, the database knows nothing of it."""
    await nothing_sent(told)
    silent = Silent()
    step = asyncio.create_task(sender(told, silent).step())
    try:
        await asyncio.wait_for(silent.asked.wait(), APPEAR_SECONDS_MAX)
        async with told.store.pools.connection("read") as connection:
            open_ones = await connection.fetch(
                "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() AND query LIKE "
                "'%projection_slots%' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
            )
        assert open_ones == []
        async with told.store.pools.connection("projection") as connection:
            free = await connection.fetch(
                "SELECT 1 FROM projection_slots WHERE projection = 'records' FOR UPDATE SKIP LOCKED"
            )
        assert len(free) == 1
    finally:
        silent.answers.set()
        taken = await step
    assert taken == len(silent.sent) == await position(told) > 0


async def test_one_process_sends_while_the_others_stand_by(told: Told) -> None:
    """A second one sends nothing until the first has stopped, died for the length of the lease, or let go."""
    await nothing_sent(told)
    first, second = Grumpy("too_large"), Grumpy("too_large")
    one, two = sender(told, first, batch=4), sender(told, second, batch=4)
    assert await one.step() == 4
    assert await two.step() is None
    assert await one.step() == 4
    await lease_over(told)
    assert await two.step() == 4
    sent = [dict(message.headers)["ce_id"] for message in (*first.sent, *second.sent)]
    assert len(set(sent)) == len(sent) == await position(told) == 12


async def test_who_cannot_reach_the_broker_lets_another_try(told: Told) -> None:
    """A process whose own way to the broker is broken tries again and again, and keeps nobody else from sending."""
    await nothing_sent(told)
    broken, well = sender(told, Grumpy("unavailable"), batch=4), sender(told, Grumpy("too_large"), batch=4)
    with pytest.raises(NotSentError, match="waits for the broker"):
        await broken.step()
    assert await well.step() == 4
    assert await broken.step() is None, "it stands by now"
    assert await position(told) == 4


async def test_who_lost_the_lease_while_sending_repeats_and_moves_nothing(told: Told) -> None:
    """Frozen beyond its lease: another goes on meanwhile, and where that stands is not changed by who wakes."""
    await nothing_sent(told)
    slow, quick = Silent(), Grumpy("too_large")
    zombie = sender(told, slow, batch=4)
    step = asyncio.create_task(zombie.step())
    await asyncio.wait_for(slow.asked.wait(), APPEAR_SECONDS_MAX)
    await lease_over(told)
    successor = sender(told, quick, batch=4)
    assert [await successor.step(), await successor.step()] == [4, 4]
    slow.answers.set()
    assert await step is None
    assert await position(told) == 8
    again, ahead = [dict(one.headers)["ce_id"] for one in slow.sent], [dict(one.headers)["ce_id"] for one in quick.sent]
    assert again == ahead[:4]


async def test_a_checkpoint_does_not_pass_what_was_not_sent(told: Told) -> None:
    """Run by the runner of read models, which sends nothing, the feed stands still and says why."""
    await nothing_sent(told)
    with pytest.raises(NotSentError, match="FeedRunner"):
        await told.runner(RecordFeed(Grumpy("too_large"), "records")).step()
    assert await position(told) == 0


async def test_what_is_old_is_forgotten_in_its_own_partition() -> None:
    """Ended sagas after an hour of records, windows of the same definition after two days."""
    ended, hour = Ended(), 3_600_000_000
    ended.note(0, "a", 10)
    ended.note(1, "b", 10)
    assert ended.due(0, hour) == []
    assert ended.due(0, hour + 11) == ["a"]
    assert ended.due(0, hour + 11) == []
    windows = [f"main|{name}|{number * hour}" for name in ("payout", "order") for number in (0, 1, 60)]
    assert outdated(windows, f"main|payout|{49 * hour}") == ["main|payout|0"]


@contextlib.contextmanager
def running(bootstrap: str, topic: str, logs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`orchestrator live` as a process of its own."""
    environment = {
        **os.environ,
        "ORCHESTRATOR_BROKER_URL": f"kafka://{bootstrap}",
        "ORCHESTRATOR_RECORDS_TOPIC": topic,
        "ORCHESTRATOR_TOPIC_PARTITIONS": str(PARTITIONS),
        "PYTHONWARNINGS": "ignore",
    }
    with logs.open("wb") as log:
        command = [sys.executable, "-m", "orchestrator", "live", "--samples", "2"]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def heard(consumer: AIOKafkaConsumer, process: subprocess.Popen[bytes], logs: Path) -> tuple[str, dict[str, Any]]:
    """The next message: its topic and its value."""
    async with asyncio.timeout(APPEAR_SECONDS_MAX):
        while True:
            for batch in (await consumer.getmany(timeout_ms=500, max_records=1)).values():
                return batch[0].topic, json.loads(batch[0].value)
            assert process.poll() is None, logs.read_text()[-3_000:]


@pytest.mark.kafka
async def test_faust_over_kafka_counts_what_postgres_counts_and_raises_the_alarm(
    told: Told, kafka: str, tmp_path: Path
) -> None:
    """The whole way: records to Kafka, folded and added up by the live application, figures and alert on its topics."""
    pytest.importorskip("faust")
    await nothing_sent(told)
    topic, logs = f"records.{uuid.uuid4().hex[:8]}", tmp_path / "live.log"
    broker = open_broker(f"kafka://{kafka}")
    wanted = await kept_in_postgres(told)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        await broker.ensure_topics([
            TopicSpec(topic, partitions=PARTITIONS),
            TopicSpec("orchestrator.service-levels", partitions=1),
            TopicSpec("orchestrator.alerts", partitions=1),
        ])  # fmt: skip
        producer = broker.producer("record-feed")
        runner = sender(told, producer, topic)
        while await runner.step():
            pass
        await consumer.start()
        consumer.subscribe(["orchestrator.service-levels", "orchestrator.alerts"])
        windows: dict[int, dict[str, int]] = {}
        alarm: dict[str, Any] = {}
        with running(kafka, topic, logs) as process:
            while Counter[str]() + sum(map(Counter, windows.values()), Counter()) != Counter(wanted) or not alarm:
                where, value = await heard(consumer, process, logs)
                if where == "orchestrator.alerts":
                    alarm = value
                else:
                    windows[value["hour"]] = value["counts"]
        assert (alarm["level"], alarm["state"], alarm["name"]) == ("adherence", "missed", "payout")
    finally:
        await consumer.stop()
        await broker.close()


async def test_the_feed_goes_to_the_log_in_postgres_too_as_the_settings_say(told: Told) -> None:
    """Wired as in a process: every record once, each saga in order, under the record's own id."""
    await nothing_sent(told)
    settings = told.runtime.settings.model_copy(update={"records_topic": "records"})
    assert "records" in {spec.name for spec in parts.topics(settings, told.runtime.catalog)}
    await told.runtime.broker.ensure_topics([TopicSpec("records", partitions=PARTITIONS)])
    runner = parts.record_feed(settings, told.store, told.runtime.broker)
    taken = 0
    while step := await runner.step():
        taken += step

    async def from_the_start(wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        return dict.fromkeys(wanted, 0)

    consumer = told.runtime.broker.consumer("readers", ["records"], from_the_start)
    await consumer.start()
    try:
        versions: dict[str, list[int]] = {}
        async with asyncio.timeout(APPEAR_SECONDS_MAX):
            while sum(map(len, versions.values())) < taken:
                for found in await consumer.fetch(1_000, 200):
                    sent = orjson.loads(found.value or b"")
                    assert dict(found.headers)["ce_id"] == f"{sent['saga']}/{sent['version']}".encode()
                    versions.setdefault(sent["saga"], []).append(sent["version"])
    finally:
        await consumer.stop()
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())
    assert set(told.sagas.values()) <= set(versions)
