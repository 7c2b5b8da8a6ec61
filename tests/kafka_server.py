"""A real Kafka for the tests, from wherever it can be had.

Order: ``KAFKA_BOOTSTRAP`` (host:port of one that runs) → testcontainers, where a Docker engine answers → its Maven
jars, where Java and Maven are installed → skipped, loudly. With ``REQUIRE_KAFKA=1`` a skip is a failure.
``python -m tests.kafka_server --prepare`` only downloads the jars.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator.broker.local_kafka import KAFKA_VERSION, KafkaServer, LocalKafkaError, prepare

__all__ = ["KafkaServer", "kafka"]

_CONTAINER_PROPERTIES = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_LISTENERS": "PLAINTEXT://0.0.0.0:9092,CONTROLLER://0.0.0.0:9093",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://localhost:{port}",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE": "LogAppendTime",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "500",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
}


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """``host:port`` of a Kafka that lives as long as the run."""
    with contextlib.ExitStack() as stack:
        try:
            bootstrap = stack.enter_context(running_kafka())
        except LocalKafkaError as error:
            reason = f"no Kafka for this test: {error}"
            if os.environ.get("REQUIRE_KAFKA") == "1":
                pytest.fail(f"REQUIRE_KAFKA=1, but {reason}")
            sys.stderr.write(f"\nSKIPPED for want of Kafka: {error}\n")
            pytest.skip(reason)
        yield bootstrap


@contextlib.contextmanager
def running_kafka() -> Iterator[str]:
    """``host:port`` of a Kafka, stopped afterwards if started here. Raises LocalKafkaError if none can be had."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
    elif _docker_answers():
        with _container() as bootstrap:
            yield bootstrap
    else:
        with KafkaServer() as server:
            yield server.bootstrap


def _docker_answers() -> bool:
    # In a process of its own: where no engine answers, the client leaves an open socket behind.
    ping = "import docker; docker.from_env(timeout=5).ping()"
    return subprocess.run([sys.executable, "-c", ping], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def _container() -> Iterator[str]:
    """The project's official image. Its clients must be told the port they see, so the port is chosen beforehand."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.waiting_utils import wait_for_logs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container = DockerContainer(f"apache/kafka:{KAFKA_VERSION}").with_bind_ports(9092, port)
    for name, value in _CONTAINER_PROPERTIES.items():
        container = container.with_env(name, value.format(port=port))
    with container as running:
        wait_for_logs(running, "Kafka Server started", timeout=60)
        yield f"{running.get_container_host_ip()}:{port}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--prepare"]:
        sys.exit("usage: python -m tests.kafka_server --prepare")
    sys.stdout.write(f"{prepare()}\n")
