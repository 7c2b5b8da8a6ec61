"""What one test sets up in logging is gone in the next, or a line of the next lands on a stream that is closed."""

from __future__ import annotations

import io
import logging
import sys

import pytest
import structlog

from orchestrator import logs
from tests.logging_kept import logging_kept


def test_logging_that_a_test_set_up_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Handlers, levels and structlog are as before, and a closed stream of before is written to by nobody."""
    levels = {name: logging.getLogger(name).level for name in ("", *logs.QUIET)}
    known, configured = structlog.get_config(), structlog.is_configured()
    with logging_kept(), monkeypatch.context() as patch:
        gone = io.StringIO()
        patch.setattr(sys, "stderr", gone)
        logs.configure("debug", production=True)
        gone.close()
    assert {name: logging.getLogger(name).level for name in ("", *logs.QUIET)} == levels
    assert (structlog.get_config(), structlog.is_configured()) == (known, configured)
    assert logs.said(ValueError("told")) == "ValueError: told", "production has ended too"
    structlog.get_logger("orchestrator.security").error("refused")
    logging.getLogger("orchestrator.security").error("refused")
    assert "Logging error" not in capfd.readouterr().err
