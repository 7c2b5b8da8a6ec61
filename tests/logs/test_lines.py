"""Lines of the log: which saga and trace they are about, and what may never be in one."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from orchestrator import logs
from orchestrator.messages import ContractError

SAGA, TRACE = "3f2c6b0e-0000-5000-8000-000000000001", "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SECRET = "canary-55d1"


class Stream(io.StringIO):
    """A stderr that says whether it is a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """As told."""
        return self._terminal

    def lines(self) -> list[dict[str, Any]]:
        """What was written, read as JSON."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


class Log:
    """Logging of a process that writes into a stream."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def configure(self, *, terminal: bool = False, production: bool = False) -> Stream:
        """As a process does at its start; gives where its lines go."""
        stream = Stream(terminal=terminal)
        self._patch.setattr(sys, "stderr", stream)
        logs.configure("info", production=production)
        return stream


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """Afterwards logging is as it was, as after every test."""
    yield Log(monkeypatch)
    monkeypatch.undo()


def raised() -> Exception:
    """What a handler raises, with somebody's data in its message."""
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise ValueError(f"no account {SECRET}") from cause
    except ValueError as error:
        return error


def test_in_production_every_line_is_json_also_on_a_terminal(log: Log) -> None:
    """Whatever stderr is, and whoever logs: ours, the standard library's, a library's."""
    terminal = log.configure(terminal=True, production=True)
    structlog.get_logger("orchestrator.test").warning("ours", number=3)
    logging.getLogger("somebody").warning("theirs %s", "too")
    ours, theirs = terminal.lines()
    assert (ours["event"], ours["number"], ours["level"], ours["logger"]) == ("ours", 3, "warning", "orchestrator.test")
    assert (theirs["event"], theirs["level"]) == ("theirs too", "warning")
    assert ours["timestamp"].endswith("Z")


def test_all_lines_inside_name_saga_and_trace(log: Log) -> None:
    """Those of libraries as well, and none after it."""
    stream = log.configure(production=True)
    with logs.concerning(SAGA, TRACEPARENT):
        logging.getLogger("a.handler").info("calling the bank")
        structlog.get_logger("orchestrator.test").info("answered")
    structlog.get_logger("orchestrator.test").info("later")
    first, second, last = stream.lines()
    for line in (first, second):
        assert (line["saga_id"], line["trace_id"]) == (SAGA, TRACE)
    assert "saga_id" not in last


@pytest.mark.parametrize(
    ("saga_id", "trace", "expected"),
    [
        (SAGA, TRACEPARENT, {"saga_id": SAGA, "trace_id": TRACE}),
        (SAGA, TRACE, {"saga_id": SAGA, "trace_id": TRACE}),
        (SAGA, "", {"saga_id": SAGA}),
        ("", TRACEPARENT, {"trace_id": TRACE}),
        (SAGA, "garbage", {"saga_id": SAGA}),
    ],
)
def test_a_trace_that_is_not_known_is_left_out(saga_id: str, trace: str, expected: dict[str, str]) -> None:
    """A wrong one would lead somebody astray."""
    assert logs.about(saga_id, trace) == expected


def test_in_production_a_traceback_has_places_and_no_words(log: Log) -> None:
    """An exception's message may hold what somebody sent; its class and its places do not. The cause is there too."""
    stream = log.configure(production=True)
    logging.getLogger("orchestrator.participants").warning("handler failed: %s", logs.said(raised()), exc_info=raised())
    structlog.get_logger("orchestrator.test").error("again", exc_info=raised())
    for line in stream.lines():
        assert line["exception"][0].startswith("ValueError at test_lines.py:")
        assert any(place.startswith("KeyError at test_lines.py:") for place in line["exception"])
        assert any("in raised" in place for place in line["exception"])
    assert SECRET not in stream.getvalue()


def test_our_own_exceptions_are_told(log: Log) -> None:
    """They name classes, fields and numbers, and say what to do."""
    log.configure(production=True)
    assert logs.said(ContractError("bank.Paid: amount is missing")) == "ContractError: bank.Paid: amount is missing"
    assert logs.said(ValueError(SECRET)) == "ValueError"
    log.configure()
    assert logs.said(ValueError(SECRET)) == f"ValueError: {SECRET}"


def test_on_a_terminal_an_exception_shows_no_variables(log: Log) -> None:
    """What a function holds are payloads."""
    terminal = log.configure(terminal=True)

    def fails(payload: str) -> None:
        raise ValueError("no")

    try:
        fails(SECRET)
    except ValueError:
        structlog.get_logger("orchestrator.test").exception("failed")
    assert "ValueError: no" in terminal.getvalue()
    assert SECRET not in terminal.getvalue()
