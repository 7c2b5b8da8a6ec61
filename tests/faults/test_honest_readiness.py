"""A process whose group waits for a dead member reads nothing, however well it looks; and it says so.

The dead member is a ghost: it joins the product's group, gets partitions, and never speaks again without leaving.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.broker.contract import Broker, Consumer, open_broker
from orchestrator.broker.kafka_consumer import KafkaConsumer
from orchestrator.broker.kafka_driver import _end_tasks
from orchestrator.broker.postgres_consumer import PostgresConsumer
from orchestrator.broker.settings import BrokerSettings
from orchestrator.config import Settings
from orchestrator.runtime import parts
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.naming import instance_name
from tests.databases import Database
from tests.runtime.corpus.market import PARTICIPANTS, SAGAS

SESSION_MS = 3_000
SECONDS_MAX = 60

pytestmark = [pytest.mark.timeout(180)]


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "postgres"])
def broker_url(request: pytest.FixtureRequest, database: Database) -> str:
    """Both brokers."""
    return f"kafka://{request.getfixturevalue('fresh_kafka')}" if request.param == "kafka" else database.url


def settings_of(database: Database, broker_url: str, group: str) -> Settings:
    return Settings(database_url=database.url, broker_url=broker_url, topic_partitions=2, consumer_group=group)


def quick(url: str, *, settings: BrokerSettings) -> Broker:
    """A broker as the product opens it, with sessions so short that a test can wait for their end."""
    return open_broker(
        url,
        settings=replace(
            settings, session_timeout_ms=SESSION_MS, heartbeat_ms=500, postgres_lease_ms=SESSION_MS,
            postgres_heartbeat_ms=500,
        ),
    )  # fmt: skip


def session_seconds(url: str, settings: Settings) -> float:
    """How long the product's group waits for a silent member."""
    broker = settings.broker_settings()
    return (broker.session_timeout_ms if url.startswith("kafka") else broker.postgres_lease_ms) / 1000


async def joined(broker: Broker, settings: Settings) -> Consumer:
    """A member of the product's group that has all partitions."""

    async def nowhere(wanted: Any) -> dict[Any, None]:
        return dict.fromkeys(wanted)

    catalog = Catalog.of(SAGAS, PARTICIPANTS)
    await broker.ensure_topics(parts.topics(settings, catalog))
    consumer = broker.consumer(settings.consumer_group, catalog.routes.consumed, nowhere)
    await consumer.start()
    while not consumer.settled():
        await consumer.fetch(1, 200)
    return consumer


async def fall_silent(consumer: Consumer) -> None:
    """As a process that was killed: no heartbeat any more, no goodbye."""
    if isinstance(consumer, KafkaConsumer):
        inner: Any = consumer._inner
        coordinator, fetcher = inner._coordinator, inner._fetcher
        await consumer._drop_poll()
        await _end_tasks(coordinator._coordination_task, coordinator._heartbeat_task)
        await _end_tasks(fetcher._fetch_task, *fetcher._pending_tasks)
        await inner._client.close()
        inner._closed, consumer._inner = True, None
    else:
        assert isinstance(consumer, PostgresConsumer)
        membership = consumer._membership
        assert membership is not None
        assert membership._beating is not None
        membership._beating.cancel()
        consumer._stopped = True


async def test_a_process_that_waits_for_a_dead_member_is_not_ready(
    database: Database, broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Red until the group has given it partitions, green then; every loop says what it waits for."""
    for participant in PARTICIPANTS:
        await participant.own_schema.migrate(database.migrate_url)
    settings = settings_of(database, broker_url, "ghosts")
    haunted = quick(broker_url, settings=settings.broker_settings())
    ghost = await joined(haunted, settings)
    monkeypatch.setattr("orchestrator.runtime.app.open_broker", quick)
    async with Runtime(settings, catalog=Catalog.of(SAGAS, PARTICIPANTS)) as runtime:
        assert not runtime.health().ready, "nothing runs yet"
        await fall_silent(ghost)
        silent_at, red = time.monotonic(), dict[str, str]()
        running = asyncio.create_task(runtime.run())
        try:
            while not (health := runtime.health()).ready:
                assert time.monotonic() - silent_at < SECONDS_MAX, health.loops
                assert not running.done()
                red = {loop.name: loop.detail for loop in health.loops if not loop.ready}
                await asyncio.sleep(0.01)
            assert runtime.intake is not None
            assert len(runtime.intake.progress.assignment) == 2 * len(runtime.router.topics), "green, and it has all"
            assert {"intake", "intake-heartbeat"} & red.keys(), "the last that was red was what waited for partitions"
            # A member that beats twice a second may have beaten just before it fell silent.
            assert time.monotonic() - silent_at > SESSION_MS / 1000 - 1, "green before the group had let the ghost go"
        finally:
            runtime.stop()
            await running
    await haunted.close()


async def test_a_named_member_that_stops_in_order_makes_nobody_wait(database: Database, broker_url: str) -> None:
    """A name keeps its place after a crash only: who says goodbye may never come back."""
    settings = settings_of(database, broker_url, "goodbyes")
    first, second = (
        open_broker(broker_url, settings=replace(settings.broker_settings(), instance_id=name)) for name in "ab"
    )
    try:
        leaving = await joined(first, settings)
        await leaving.stop()
        began = time.monotonic()
        await joined(second, settings)
        assert time.monotonic() - began < session_seconds(broker_url, settings) / 2
    finally:
        await first.close()
        await second.close()


async def test_a_member_that_comes_back_under_its_name_has_its_place_at_once(
    database: Database, broker_url: str
) -> None:
    """Without a name this takes a session: 45 seconds on Kafka."""
    settings = settings_of(database, broker_url, "names")
    named = replace(settings.broker_settings(), instance_id="the-one")
    brokers = [open_broker(broker_url, settings=named) for _ in range(2)]
    try:
        await fall_silent(await joined(brokers[0], settings))
        began = time.monotonic()
        await joined(brokers[1], settings)
        assert time.monotonic() - began < session_seconds(broker_url, settings) / 2
    finally:
        for broker in brokers:
            await broker.close()


class TestNames:
    """A name belongs to one living process, and comes back with the next one in its place."""

    def test_it_comes_back(self, tmp_path: Path) -> None:
        with instance_name(tmp_path, "coordinator", "group") as first:
            assert first.text.startswith("coordinator-")
        with instance_name(tmp_path, "coordinator", "group") as again:
            assert again.text == first.text

    def test_two_at_once_have_two(self, tmp_path: Path) -> None:
        with instance_name(tmp_path, "relay", "g") as one, instance_name(tmp_path, "relay", "g") as two:
            assert one.text != two.text
            names = {one.text, two.text}
        with instance_name(tmp_path, "relay", "g") as one, instance_name(tmp_path, "relay", "g") as two:
            assert {one.text, two.text} == names

    def test_another_purpose_or_place_has_another(self, tmp_path: Path) -> None:
        names = set()
        for purpose, group in (("relay", "g"), ("relay", "h"), ("timers", "g")):
            with instance_name(tmp_path, purpose, group) as name:
                names.add(name.text)
        with instance_name(tmp_path / "elsewhere", "relay", "g") as name:
            names.add(name.text)
        assert len(names) == 4

    def test_a_name_that_somebody_else_goes_by_is_forgotten(self, tmp_path: Path) -> None:
        with instance_name(tmp_path, "relay", "g") as first:
            first.forget()
        with instance_name(tmp_path, "relay", "g") as second:
            assert second.text not in ("", first.text)

    def test_a_torn_file_is_no_name(self, tmp_path: Path) -> None:
        with instance_name(tmp_path, "relay", "g") as first:
            pass
        (file,) = tmp_path.iterdir()
        file.write_text(first.text[:-3])
        with instance_name(tmp_path, "relay", "g") as second:
            assert len(second.text) == len(first.text)
            assert second.text != first.text

    def test_where_nothing_can_be_written_there_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with instance_name(tmp_path / "file", "relay", "g") as name:
            assert name.text == ""
