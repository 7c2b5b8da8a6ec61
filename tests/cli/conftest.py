"""The command line against a whole running product."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator.cli.main import run
from tests.api.conftest import Product, product

__all__ = ["Product", "product"]


@dataclass
class Said:
    """What one command line printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON object."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """Standard output as JSON Lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Cli = Callable[..., Awaitable[Said]]


@pytest.fixture
def cli(product: Product, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command line as "op", without a terminal, beside the product's event loop."""
    monkeypatch.setenv("ORCHESTRATOR_API_URL", product.url)
    monkeypatch.setenv("ORCHESTRATOR_ACTOR", "op")
    monkeypatch.setenv("ORCHESTRATOR_SAGAS", "tests.api")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    async def called(*arguments: str, **environment: str) -> Said:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        code = await asyncio.to_thread(run, arguments)
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return called
