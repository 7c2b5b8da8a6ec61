"""The Kafka that tests and benches start: it keeps its data over a crash and never outlives its owner."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from orchestrator.broker.local_kafka import KafkaServer, LocalKafkaError, cache_directory, cluster_id, prepare

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(400)]


def answers(bootstrap: str) -> bool:
    host, port = bootstrap.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def gone_within(bootstrap: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while answers(bootstrap):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_cluster_id_is_never_taken_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in 64 would be: the tool then prints its usage, and nothing starts."""
    drawn = iter([uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(bytes=bytes(16))])
    monkeypatch.setattr(uuid, "uuid4", lambda: next(drawn))
    assert cluster_id() == "A" * 22


@pytest.mark.slow
def test_it_starts_stops_is_killed_and_starts_again_on_its_port(kafka: str) -> None:
    del kafka
    with KafkaServer() as server:
        bootstrap = server.bootstrap
        directory = server._directory
        assert answers(bootstrap)
        server.start()
        server.kill()
        assert server.pid is None
        assert not answers(bootstrap)
        server.start()
        assert server.bootstrap == bootstrap
        assert answers(bootstrap)
    assert not answers(bootstrap)
    assert not directory.exists()
    server.stop()


def test_it_dies_with_an_owner_that_is_killed(kafka: str) -> None:
    del kafka
    script = (
        "import sys, time\nfrom orchestrator.broker.local_kafka import KafkaServer\n"
        "s = KafkaServer(); s.start(); print(s.bootstrap, s._directory, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        bootstrap, directory = owner.stdout.readline().split()
        assert answers(bootstrap)
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    assert gone_within(bootstrap, 5)
    subprocess.run(["rm", "-r", directory], check=True)


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert str(cache_directory()).startswith(str(tmp_path))
    with pytest.raises(LocalKafkaError, match="Maven"):
        prepare()
    with pytest.raises(LocalKafkaError, match="Java"):
        KafkaServer(tmp_path / "server").start()


def test_a_server_that_does_not_come_up_shows_the_end_of_its_log(kafka: str, tmp_path: Path) -> None:
    del kafka
    (tmp_path / "server.properties").write_text("process.roles=nonsense\n")
    server = KafkaServer(tmp_path)
    with pytest.raises(LocalKafkaError, match="nonsense"):
        server.start()
    assert server.pid is None
