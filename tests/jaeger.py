"""A real Jaeger for the tests, from wherever it can be had.

Order: `JAEGER_QUERY_URL` (its query API; `JAEGER_OTLP_URL` where its collector is not at port 4318 of the same host) →
a starter script beside the repository, where there is one → skipped, loudly. With `REQUIRE_JAEGER=1` a skip fails.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

UP = Path("shared/tools/jaeger/up")
PORTS = (4317, 4318, 13133, 16685, 16686)
READY_SECONDS_MAX = 60.0

__all__ = ["Jaeger", "jaeger"]


@dataclass(frozen=True)
class Jaeger:
    """`query_url`: its API and pages. `otlp_url`: where spans are sent to, without the path."""

    query_url: str
    otlp_url: str

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of a trace, with `service`, `parent`, `links` and `tags` beside what the API says; none yet: []."""
        try:
            answer = urllib.request.urlopen(f"{self.query_url}/api/traces/{trace_id}", timeout=10)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return []
            raise
        with answer:
            data = json.load(answer)["data"]
        return [_span(span, trace["processes"]) for trace in data for span in trace["spans"]]

    def until(self, trace_id: str, *wanted: str, seconds: float = 60) -> list[dict[str, Any]]:
        """The spans of a trace, once those of all these names are there."""
        deadline = time.monotonic() + seconds
        while True:
            spans = self.trace(trace_id)
            missing = set(wanted) - {span["operationName"] for span in spans}
            if spans and not missing:
                return spans
            assert time.monotonic() < deadline, f"trace {trace_id} has no {missing}: {tree(spans)}"
            time.sleep(0.1)


def _span(span: dict[str, Any], processes: dict[str, Any]) -> dict[str, Any]:
    references = span["references"]
    return span | {
        "service": processes[span["processID"]]["serviceName"],
        "parent": next((r["spanID"] for r in references if r["refType"] == "CHILD_OF"), ""),
        "links": [(r["traceID"], r["spanID"]) for r in references if r["refType"] != "CHILD_OF"],
        "tags": {tag["key"]: tag["value"] for tag in span["tags"]},
    }


def tree(spans: list[dict[str, Any]]) -> str:
    """Spans as an indented text, for people and for failing tests."""
    below: dict[str, list[dict[str, Any]]] = {}
    ids = {span["spanID"] for span in spans}
    for span in sorted(spans, key=lambda span: (span["startTime"], span["duration"])):
        below.setdefault(span["parent"] if span["parent"] in ids else "", []).append(span)

    def lines(parent: str, depth: int) -> Iterator[str]:
        for span in below.get(parent, ()):
            error = f"  ERROR {span['tags'].get('error.type')}" if span["tags"].get("error") else ""
            yield f"{'  ' * depth}{span['service']}: {span['operationName']}{error}"
            yield from lines(span["spanID"], depth + 1)

    return "\n".join(lines("", 0))


@pytest.fixture(scope="session")
def jaeger() -> Iterator[Jaeger]:
    """A Jaeger that lives as long as the run."""
    with running_jaeger() as found:
        if found is None:
            reason = f"no Jaeger for this test: JAEGER_QUERY_URL is not set, and there is no ../{UP}"
            if os.environ.get("REQUIRE_JAEGER") == "1":
                pytest.fail(f"REQUIRE_JAEGER=1, but {reason}")
            sys.stderr.write(f"\nSKIPPED for want of Jaeger: {reason}\n")
            pytest.skip(reason)
        yield found


@contextmanager
def running_jaeger() -> Iterator[Jaeger | None]:
    """A Jaeger, stopped afterwards if it was started here; None where none can be had."""
    given = os.environ.get("JAEGER_QUERY_URL", "").rstrip("/")
    script = Path(__file__).resolve().parents[2] / UP
    if given:
        host = urlsplit(given).hostname
        yield Jaeger(given, os.environ.get("JAEGER_OTLP_URL", f"http://{host}:4318").rstrip("/"))
        return
    if not script.exists():
        yield None
        return
    offset = _free_offset()
    process = subprocess.Popen(
        [str(script)], env={**os.environ, "JAEGER_OFFSET": str(offset)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        found = Jaeger(f"http://127.0.0.1:{16686 + offset}", f"http://127.0.0.1:{4318 + offset}")
        _await(f"{found.query_url}/api/services", process)
        yield found
    finally:
        process.kill()  # all is in its memory: there is nothing to finish
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, f"Jaeger ended with {process.returncode}"
            assert time.monotonic() < deadline, "Jaeger did not come up"
            time.sleep(0.1)


def _free_offset() -> int:
    """An offset at which all its ports are free now."""
    for offset in range(1_000 + os.getpid() % 997, 40_000, 997):
        taken = 0
        for port in PORTS:
            with socket.socket() as tried:
                taken += tried.connect_ex(("127.0.0.1", port + offset)) == 0
        if not taken:
            return offset
    raise AssertionError("no free ports for Jaeger")
