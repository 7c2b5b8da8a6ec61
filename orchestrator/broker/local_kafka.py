"""A real Kafka on this machine without Docker: one KRaft node from its published Maven artefacts.

For tests, benches and demonstrations only: one replica, data in a temporary directory, loopback, no authentication. It
needs Java 17 or newer, and Maven once, to download some 44 MB of jars into the user's cache directory.

The server ends with its owner: it runs in a process group of its own under a shell that holds the owner's pipe and
kills the server when that pipe closes, which the kernel does however the owner ends.
"""

import base64
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

KAFKA_VERSION = "4.3.0"
ARTEFACT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# For a server that lives for minutes on a small machine: the second compiler and parallel collectors would take a third
# of the processor time that Kafka needs in its first minute, and pay only later.
HEAP_MB = 512
JAVA_OPTIONS = (f"-Xmx{HEAP_MB}m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 15
DOWNLOAD_SECONDS_MAX = 600

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>{group}</groupId><artifactId>{artefact}</artifactId><version>{version}</version>
    </dependency>
    <dependency><!-- without it Kafka's own errors are printed nowhere -->
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version>
    </dependency>
  </dependencies>
</project>
"""

# The node is for tests: groups settle at once, and time-outs may be short enough to wait for.
_PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""

# Standard input is the owner's pipe: when it closes, the server is killed. Without the detour over descriptor 3 a shell
# gives its background children /dev/null. The guard outlives SIGTERM, so that its end means the server's end.
_GUARD = """exec 3<&0
trap : TERM
"$@" &
server=$!
(trap - TERM; cat <&3 >/dev/null; kill -KILL $server) &
while kill -0 $server 2>/dev/null; do wait $server; done
"""


class LocalKafkaError(Exception):
    """A local Kafka cannot be had here; the text says what is missing or where its log is."""


def cache_directory() -> Path:
    """Where the jars lie, below ``XDG_CACHE_HOME``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "saga-orchestrator" / f"kafka-{KAFKA_VERSION}"


def prepare() -> Path:
    """Download the jars unless they are there; returns their directory. Safe to call from several processes at once.

    Raises LocalKafkaError when Maven is missing or fails.
    """
    cache = cache_directory()
    jars = cache / "jars"
    if jars.is_dir():
        return jars
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "download.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _download(cache, jars)
    return jars


def _download(cache: Path, jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalKafkaError(f"Maven (mvn) is not installed; it is needed once to download {ARTEFACT}")
    group, artefact, version = ARTEFACT.split(":")
    pom = cache / "pom.xml"
    pom.write_text(_POM.format(group=group, artefact=artefact, version=version))
    partial = cache / "jars.partial"
    shutil.rmtree(partial, ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired as error:
        raise LocalKafkaError(f"downloading {ARTEFACT} took more than {DOWNLOAD_SECONDS_MAX} s") from error
    if done.returncode or not any(partial.glob("kafka_*.jar")):
        raise LocalKafkaError(f"Maven could not download {ARTEFACT}: {(done.stdout + done.stderr).strip()[-800:]}")
    partial.rename(jars)  # whole or not at all


def cluster_id() -> str:
    """A new cluster id, never one that begins with a hyphen: Kafka's tool would take it for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


class KafkaServer:
    """One Kafka node. ``start`` after ``stop`` or ``kill`` finds the same data on the same port."""

    def __init__(self, directory: Path | None = None) -> None:
        """``directory`` keeps configuration, data and log; without one a temporary one is made and removed."""
        self._own_directory = directory is None
        self._directory = directory or Path(tempfile.mkdtemp(prefix="local-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients; fixed from the first ``start`` on."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int | None:
        """The id of the server's process group while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start and wait until clients can connect, usually some 3 to 5 seconds. Raises LocalKafkaError."""
        if self.pid is not None:
            return
        java = shutil.which("java")
        if java is None:
            raise LocalKafkaError("Java is not installed; Kafka needs version 17 or newer")
        command = [java, *JAVA_OPTIONS, "-cp", f"{prepare()}/*"]
        properties = self._directory / "server.properties"
        if not properties.exists():
            self._format(command, properties)
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "kafka-guard", *command, "kafka.Kafka", str(properties)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Shut down in order and remove a temporary directory. Idempotent."""
        self._end(gently=True)
        if self._own_directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """Kill the process at once, as a crash would; the data stays."""
        self._end(gently=False)

    def __enter__(self) -> "KafkaServer":
        """Start."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _format(self, command: list[str], properties: Path) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._port, controller_port = _free_ports(2)
        text = _PROPERTIES.format(port=self._port, controller_port=controller_port, directory=self._directory)
        draft = properties.with_suffix(".draft")
        draft.write_text(text)
        arguments = ["kafka.tools.StorageTool", "format", "-t", cluster_id(), "-c", str(draft)]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=START_SECONDS_MAX, check=False
        )
        if done.returncode:
            raise LocalKafkaError(f"Kafka could not format its directory: {(done.stdout + done.stderr).strip()[-800:]}")
        draft.rename(properties)

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        trouble = f"did not come up within {START_SECONDS_MAX} s"
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                trouble = "ended while it was starting"
                break
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.05)
        lines = (self._directory / "server.log").read_text(errors="replace").splitlines()
        log = "\n".join(line for line in lines if not line.startswith("\tat "))[-800:]  # without Java's stack
        self._end(gently=False)
        raise LocalKafkaError(f"Kafka {trouble}; the end of its log: {log}")

    def _end(self, *, gently: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        if gently:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS_MAX)
        process.stdin.close()  # the guard's helper kills the server, if it still runs
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


def _signal_group(pid: int, sign: signal.Signals) -> None:
    """The group is ours alone: it was made with the process, whose id is not reused before we waited for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, sign)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
