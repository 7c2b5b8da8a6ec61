"""A counted broker gives what the broker gives, and counts what went wrong by its cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator.broker.contract import (
    BrokerUnavailableError,
    IncomingMessage,
    OutgoingMessage,
    SendError,
)
from orchestrator.metrics import names
from orchestrator.metrics.broker import CountingConsumer, CountingProducer
from orchestrator.metrics.figures import Figures
from orchestrator.metrics.names import Metric
from orchestrator.telemetry import system_of


class Scripted:
    """A producer and consumer that do what the test says: give it, or raise it."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    async def _done(self) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def send(self, messages: Sequence[OutgoingMessage]) -> Any:
        """As told."""
        return await self._done()

    async def fetch(self, max_messages: int, wait_ms: int) -> Any:
        """As told."""
        return await self._done()

    async def commit(self, positions: Mapping[Any, int]) -> None:
        """As told."""
        await self._done()

    def __getattr__(self, name: str) -> Any:
        return self._done


def counted(figures: Figures, metric: Metric) -> dict[tuple[str, ...], float]:
    """The series of a metric: totals, or how often something was measured."""
    families = {family.metric: family for family in figures.collect()}
    points = families[metric].points if metric in families else ()
    return {point.values: sum(point.counts) if point.counts else point.number for point in points}


def message(topic: str) -> OutgoingMessage:
    """A message."""
    return OutgoingMessage(topic, b"k", b"v")


async def test_what_was_sent_is_counted_by_topic_and_by_why_it_was_not() -> None:
    """One batch to two topics: no topic on its duration, and the first error on it."""
    figures = Figures()
    results = [None, SendError("too_large", "x", retriable=False), None]
    producer: Any = CountingProducer(Scripted(results), figures, "kafka")
    assert await producer.send([message("a"), message("a"), message("b")]) is results
    assert counted(figures, names.SENT) == {
        ("kafka", "send", "a", ""): 1,
        ("kafka", "send", "a", "too_large"): 1,
        ("kafka", "send", "b", ""): 1,
    }
    assert counted(figures, names.OPERATION_DURATION) == {("kafka", "send", "send", "", "", "too_large"): 1}


async def test_a_broker_that_is_away_is_an_error_of_all_messages() -> None:
    """And the exception comes through as it was."""
    figures, away = Figures(), BrokerUnavailableError("away")
    producer = CountingProducer(Scripted(away), figures, "kafka")
    with pytest.raises(BrokerUnavailableError) as raised:
        await producer.send([message("a"), message("a")])
    assert raised.value is away
    assert counted(figures, names.SENT) == {("kafka", "send", "a", "BrokerUnavailableError"): 2}


async def test_what_polls_give_is_counted_by_topic_and_commits_by_their_outcome() -> None:
    """An empty poll gives no message and takes its time all the same."""
    figures = Figures()
    scripted = Scripted([IncomingMessage(topic, 0, 0, b"k", b"v", (), 1) for topic in ("a", "b", "a")])
    consumer = CountingConsumer(scripted, figures, "kafka", "group", "")
    assert await consumer.fetch(10, 1) is scripted.outcome
    scripted.outcome = []
    assert await consumer.fetch(10, 1) == []
    scripted.outcome = BrokerUnavailableError("away")
    with pytest.raises(BrokerUnavailableError):
        await consumer.commit({("a", 0): 1})
    assert counted(figures, names.CONSUMED) == {
        ("kafka", "poll", "a", "group", ""): 2,
        ("kafka", "poll", "b", "group", ""): 1,
    }
    assert counted(figures, names.OPERATION_DURATION) == {
        ("kafka", "poll", "receive", "", "group", ""): 2,
        ("kafka", "commit", "settle", "", "group", "BrokerUnavailableError"): 1,
    }


@pytest.mark.parametrize(
    ("url", "system"),
    [("kafka://a:9092,b:9092", "kafka"), ("postgresql://x/y", "postgresql"), ("postgres://", "postgresql")],
)
def test_the_system_is_named_by_the_url(url: str, system: str) -> None:
    """`messaging.system`."""
    assert system_of(url) == system
