"""The port's own words and numbers: URLs, limits, sizes, error texts."""

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.broker.contract import (
    BrokerSetupError,
    OutgoingMessage,
    PositionLostError,
    message_bytes,
    open_broker,
)
from orchestrator.broker.settings import BrokerSettings, KafkaSecurity


@pytest.mark.parametrize("url", ["amqp://host", "kafka:host", "", "host:9092"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(BrokerSetupError, match="kafka://, postgres://, postgresql://"):
        open_broker(url)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(BrokerSetupError) as caught:
        open_broker("amqp://user:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://user:secret@host:9092", "kafka://host:9092/topic", "kafka://h?x=1"]
)
def test_a_kafka_url_is_hosts_and_nothing_more(url: str) -> None:
    with pytest.raises(BrokerSetupError, match="host:port") as caught:
        open_broker(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_not_shown_by_settings() -> None:
    assert "secret" not in repr(BrokerSettings(kafka_security=KafkaSecurity(username="u", password="secret")))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"message_bytes_max": 0}, "message_bytes_max"),
        ({"send_timeout_ms": -1}, "send_timeout_ms"),
        ({"send_batch_bytes": 2_000_000}, "send_batch_bytes"),
        ({"heartbeat_ms": 20_000}, "heartbeat_ms"),
        ({"postgres_heartbeat_ms": 5_000}, "postgres_heartbeat_ms"),
    ],
)
def test_a_limit_that_cannot_work_is_named(changes: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BrokerSettings(**changes)  # type: ignore[arg-type]


names = st.text(max_size=20)
blobs = st.one_of(st.none(), st.binary(max_size=2_000))


@given(blobs, blobs, st.lists(st.tuples(names, st.binary(max_size=100)), max_size=8))
def test_a_message_never_takes_more_bytes_in_kafka_than_the_limit_counts(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """Else a message that passes our limit could be refused by the broker's."""
    builder = BatchBuilder(1_000_000, 0)
    assert builder.append(timestamp=None, key=key, value=value, headers=headers) is not None
    real = len(builder._build())
    counted = message_bytes(OutgoingMessage("t", key, value, tuple(headers)))
    assert real <= counted <= real + 60 + 10 * len(headers)


def test_a_lost_position_says_what_is_gone_and_what_to_do() -> None:
    below = PositionLostError("orders.events", 3, 40, 100, 900)
    assert str(below) == (
        "orders.events[3]: stored position 40, but the log holds 100 to 900. Likely 60 messages were deleted by the "
        "topic's retention before they were read. Restore them or accept the loss, then set the stored position of "
        "this partition by hand: nothing is ever skipped by itself."
    )
    assert not below.retriable
    assert "shorter than what was already read" in str(PositionLostError("t", 0, 9, 0, 5))
