"""Measured spans outlive their process: noted on disk, found by whoever comes next, sent as that process's own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.tracing import spool as spooling
from orchestrator.tracing.acting import Moved
from orchestrator.tracing.fold import Fields
from orchestrator.tracing.local import LocalSpans
from orchestrator.tracing.requests import Requests, Served, read, written
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.span import Span
from orchestrator.tracing.spool import Spool
from tests.tracing.collector import ALL, Collector, collecting
from tests.tracing.trees import UPSTREAM

RESOURCE = {"service.name": "saga-orchestrator", "service.instance.id": "survivor"}
DEAD = {"service.name": "saga-orchestrator", "service.instance.id": "dead"}
SAGA = "0f0e0d0c-0000-5000-8000-000000000001"
STARTED = Fields(1, "saga.started", "", {"name": "order", "version": 1}, "system", "m-1", UPSTREAM, 1)
SERVED = Served("POST", "/v1/x", "http", 200, 1_000, 2_000, UPSTREAM, (Moved(SAGA, 2, "pay"),), "/v1/x")

# A process that notes a span and a request, says so once both are on disk, and is killed then.
VICTIM = """
import pathlib, sys, time
from orchestrator.tracing.local import REQUEST
from orchestrator.tracing.requests import written
from orchestrator.tracing.span import Span, encoded_span
from orchestrator.tracing.spool import Spool
from tests.tracing.test_spool import DEAD, SERVED, one_span
place = pathlib.Path(sys.argv[1])
spool = Spool(place, DEAD)
spool.note("till", encoded_span(one_span()))
spool.note(REQUEST, written(SERVED))
deadline = time.monotonic() + 60
while not [p for p in place.glob("*.spans") if p.read_bytes().count(b"\\n") == 3]:
    assert time.monotonic() < deadline
    time.sleep(0.01)
print("noted", flush=True)
time.sleep(600)
"""


def one_span() -> Span:
    """A handling."""
    return Span("1" * 32, "2" * 16, "3" * 16, "process till.commands", 5, 1_000, 2_000, {"saga.id": SAGA})


async def before(_: object) -> dict[str, list[Fields]]:
    """The saga's earlier records."""
    return {SAGA: [STARTED]}


def fresh() -> Requests:
    """Requests without any."""
    return Requests(before, ALL)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector for one test."""
    with collecting() as made:
        yield made


Making = Callable[[], LocalSpans]


@pytest_asyncio.fixture
async def local(collector: Collector, place: Path) -> AsyncIterator[Making]:
    """Makes the measured spans of processes that keep them in one directory; each ends cleanly at the end."""
    made: list[tuple[Sender, Spool]] = []

    def make() -> LocalSpans:
        sender, spool = Sender(collector.settings()), Spool(place, RESOURCE)
        made.append((sender, spool))
        return LocalSpans(sender, RESOURCE, spans_max=100, requests=fresh(), spool=spool, fresh=fresh)

    yield make
    for sender, spool in made:
        sender.close()
        await spool.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where they keep them."""
    made = tmp_path / "spans"
    made.mkdir()
    return made


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for what a thread does. Raises TimeoutError."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.005)


def files(place: Path) -> list[Path]:
    """What lies there."""
    return sorted(place.glob("*.spans"))


async def ended(process: LocalSpans) -> None:
    """A clean end."""
    assert process._spool is not None
    await process._spool.close()


async def lines_on_disk(place: Path, number: int) -> None:
    """Until so many lines are in the only file; the first says whose they are."""
    await until(lambda: [path.read_bytes().count(b"\n") for path in files(place)] == [number])


async def test_what_a_killed_process_had_noted_is_sent_once_as_its_own(
    collector: Collector, local: Making, place: Path
) -> None:
    """Span and request; under its own resource, or a collector would show a span twice that had been sent."""
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, str(place), stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert victim.stdout is not None
    try:
        assert await victim.stdout.readline() == b"noted\n"
        alive = local()
        await alive._look()
        assert collector.bodies == [], "its process lives: nobody else sends what is there"
    finally:
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
    alive._look_at = 0.0
    await alive._look()
    assert sorted((span["name"], span["service"]) for span in collector.spans()) == [
        ("POST /v1/x", "saga-orchestrator"), ("process till.commands", "till"),
    ]  # fmt: skip
    assert b"dead" in collector.bodies[0]
    assert b"survivor" not in collector.bodies[0]
    assert alive.facts()["local_spans_found"] == 2
    await until(lambda: not files(place))
    alive._look_at = 0.0
    await alive._look()
    assert len(collector.bodies) == 1


async def test_what_was_sent_is_forgotten_and_a_clean_end_leaves_nothing(
    collector: Collector, local: Making, place: Path
) -> None:
    """The file does not grow, and no later process sends it again."""
    process = local()
    process.add("till", one_span())
    process.add_request(SERVED)
    await lines_on_disk(place, 3)
    assert await process.flush()
    await lines_on_disk(place, 1)
    await ended(process)
    assert not place.exists()


async def test_what_a_collector_would_not_take_outlives_a_clean_end(
    collector: Collector, local: Making, place: Path
) -> None:
    """A deploy while the collector is away costs no span."""
    collector.status = 503
    process = local()
    process.add("till", one_span())
    assert not await process.flush()
    await ended(process)
    later = local()
    await later._look()
    assert len(files(place)) == 1, "still away: it stays"
    collector.status, later._look_at = 200, 0.0
    await later._look()
    assert [span["name"] for span in collector.spans()] == ["process till.commands"]


async def test_a_torn_line_costs_itself_alone(collector: Collector, local: Making, place: Path) -> None:
    """Killed in the middle of a write; or somebody's nonsense in the directory."""
    good = b'till\t{"traceId":"' + b"1" * 32 + b'","spanId":"' + b"2" * 16 + b'","name":"whole","attributes":[]}\n'
    (place / "1-a.spans").write_bytes(b'{"service.name":"x"}\n' + good + good[: len(good) // 2])
    (place / "2-b.spans").write_bytes(b"\xff\xfe nonsense\n\n")
    (place / "3-c.spans").write_bytes(b"")
    (place / "4-d.spans").write_bytes(b'{"service.name":"x"}\n' + good.replace(b"whole", b"wh") + b"\n?request\t[]\n")
    alive = local()
    await alive._look()
    assert sorted(span["name"] for span in collector.spans()) == ["wh", "whole"]


async def test_a_disk_that_hangs_holds_up_nobody(
    collector: Collector, local: Making, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noting goes on at once, what waits is bounded, looking gives up, spans are sent."""
    thaw = threading.Event()
    real = os.write
    monkeypatch.setattr("orchestrator.tracing.spool.os.write", lambda *given: thaw.wait(60) and real(*given))
    monkeypatch.setattr(spooling, "QUEUE_BYTES_MAX", 2_000)
    monkeypatch.setattr(spooling, "LEFT_SECONDS_MAX", 0.05)
    process = local()
    began = time.process_time()
    for _ in range(100):
        process.add("till", one_span())
    assert time.process_time() - began < 5
    assert process._spool is not None
    assert process._spool._todo.qsize() < 20
    await process._look()
    assert await process.flush()
    assert process.facts()["local_spans_sent"] == 100
    thaw.set()
    await process._spool.close()


async def test_a_place_that_cannot_be_written_to_costs_the_safety_alone(
    collector: Collector, local: Making, place: Path
) -> None:
    """A file where the directory should be; said once."""
    place.rmdir()
    place.write_text("")
    process = local()
    process.add("till", one_span())
    assert process._spool is not None
    spool = process._spool
    await until(lambda: bool(spool.trouble))
    process.add("till", one_span())
    assert await process.flush()
    assert process.facts()["local_spans_sent"] == 2
    await process._spool.close()


async def test_the_file_has_a_limit(place: Path) -> None:
    """A collector that is away for long does not fill the disk."""
    small = Spool(place, RESOURCE, bytes_max=1_000)
    for _ in range(50):
        small.note("till", b'{"name":"' + b"x" * 90 + b'"}')
    await small.close()
    (path,) = files(place)
    assert 900 < path.stat().st_size < 1_200


async def test_what_many_left_is_held_in_memory_some_at_a_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that was away while processes came and went is no reason to run out of memory."""
    monkeypatch.setattr(spooling, "LEFT_BYTES_MAX", 150)
    for number in range(5):
        (place / f"{number}-dead.spans").write_bytes(b'{"service.name":"x"}\ntill\t"' + b"x" * 90 + b'"\n')
    spool = Spool(place, RESOURCE)
    seen = []
    for _ in range(3):
        found = await spool.left()
        seen.append(len(found))
        for left in found:
            spool.release(left, sent=True)
    assert seen == [2, 2, 1]
    await spool.close()


async def test_the_files_of_a_directory_have_a_limit(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies whenever it has begun does not fill the disk either."""
    monkeypatch.setattr(spooling, "LEFT_FILES_MAX", 3)
    for number in range(3):
        (place / f"{number}-dead.spans").write_bytes(b'{}\ntill\t"x"\n')
    spool = Spool(place, RESOURCE)
    spool.note("till", b'"x"')
    await spool.close()
    assert len(files(place)) == 3
    assert "3 files that wait for a collector" in spool.trouble


async def test_a_file_that_nobody_can_read_is_not_looked_at_for_ever(place: Path) -> None:
    """Its first line is garbage: it goes, and takes no place of one that can be read."""
    (place / "1-dead.spans").write_bytes(b"\xff\xfe garbage\ntill\t1\n")
    (place / "2-dead.spans").write_bytes(b'[]\ntill\t"x"\n')
    spool = Spool(place, RESOURCE)
    assert await spool.left() == []
    assert files(place) == []
    await spool.close()


def test_a_request_is_read_as_it_was_written() -> None:
    """Also with nothing moved; and what is no request is none."""
    for served in (SERVED, Served("PUT", "", "https", 500, 1, 2, "x")):
        assert read(written(served)) == served
    for line in (b"", b"[]", b"{}", b'{"method":1}'):
        assert read(line) is None
