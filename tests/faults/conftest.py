"""A Kafka of these tests' own: its topics are empty, so that what is in them can be counted."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from orchestrator.broker.local_kafka import KafkaServer, LocalKafkaError
from tests.databases import Database
from tests.runtime.desk import Eyes


@pytest.fixture(scope="session")
def fresh_kafka() -> Iterator[str]:
    """``host:port`` of a Kafka that nobody else has written to."""
    server = KafkaServer()
    try:
        server.start()
    except LocalKafkaError as error:
        server.stop()
        if os.environ.get("REQUIRE_KAFKA") == "1":
            pytest.fail(f"REQUIRE_KAFKA=1, but no Kafka for this test: {error}")
        sys.stderr.write(f"\nSKIPPED for want of Kafka: {error}\n")
        pytest.skip(f"no Kafka for this test: {error}")
    try:
        yield server.bootstrap
    finally:
        server.stop()


@pytest.fixture
def eyes(database: Database) -> Eyes:
    """Looks into the test's database."""
    return Eyes(database.admin_url)


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "postgres"])
def broker_url(request: pytest.FixtureRequest, database: Database) -> str:
    """Where the shipped processes find their broker: each test of it runs on both."""
    return f"kafka://{request.getfixturevalue('fresh_kafka')}" if request.param == "kafka" else database.url
