"""The project's imports point inward, and these checks notice when they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.tidy.dependencies import cycles, door_violations, driver_violations, layer_violations
from tests.tidy.source import Source, read_sources


@pytest.mark.parametrize("check", [layer_violations, driver_violations, door_violations])
def test_imports_point_inward(check: Callable[[Iterable[Source]], Iterator[str]]) -> None:
    """Whoever needs an exception writes an ADR and changes the rule, not the import."""
    found = list(check(read_sources()))
    assert not found, "\n".join(found)


def test_no_modules_import_each_other() -> None:
    """Counted honestly: hiding an import in a function or under TYPE_CHECKING does not untie a knot."""
    knots = [" <-> ".join(knot) for knot in cycles(read_sources(["orchestrator", "events", "sagas", "projections"]))]
    assert not knots, "\n".join(knots)


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("orchestrator/kernel/x.py", "import asyncio", "may not import asyncio: it is pure"),
        ("orchestrator/kernel/x.py", "def f():\n    import time", "may not import time"),
        ("orchestrator/kernel/x.py", "from os import path", "may not import os"),
        ("orchestrator/kernel/x.py", "import orjson", "of other packages it may import pydantic"),
        ("orchestrator/kernel/x.py", "from ..store import contract", "may not import orchestrator.store"),
        ("orchestrator/kernel/x.py", "from datetime import datetime\ndatetime.now()", "may not call datetime.now()"),
        ("orchestrator/kernel/x.py", "import datetime\ndatetime.datetime.now(tz=None)", "may not call datetime.now()"),
        ("orchestrator/kernel/x.py", "import uuid\nuuid.uuid4()", "may not call uuid.uuid4()"),
        ("orchestrator/messages/x.py", "import asyncpg", "orchestrator.messages may not import asyncpg"),
        ("orchestrator/messages/x.py", "import orchestrator.kernel.state", "may not import orchestrator.kernel.state"),
        (
            "orchestrator/definition/x.py",
            "from orchestrator.runtime import relay",
            "may not import orchestrator.runtime",
        ),
        (
            "orchestrator/definition/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from orchestrator.store import contract",
            "may not import orchestrator.store",
        ),
        ("orchestrator/kernel/x.py", "from orchestrator import Saga", "may not import orchestrator:"),
    ],
)
def test_a_planted_layer_violation_is_found(path: str, text: str, expected: str) -> None:
    """Each line here once was the whole check."""
    assert expected in "\n".join(layer_violations([Source(path, text)]))


def test_what_a_layer_may_import_is_left_alone() -> None:
    """Otherwise people would learn to ignore the check."""
    fine = "import hashlib, uuid\nimport pydantic\nfrom . import state\nuuid.uuid5(a, b)\n"
    assert not list(layer_violations([Source("orchestrator/kernel/x.py", fine)]))
    assert not list(layer_violations([Source("orchestrator/runtime/x.py", "import asyncio, asyncpg, time")]))


@pytest.mark.parametrize(
    ("path", "text", "is_allowed"),
    [
        ("orchestrator/store/postgres.py", "import asyncpg", True),
        ("orchestrator/broker/postgres_log.py", "from asyncpg import Pool", True),
        ("orchestrator/participants/ledger.py", "import asyncpg", True),
        ("orchestrator/broker/kafka_consumer.py", "from aiokafka.errors import KafkaError", True),
        ("orchestrator/runtime/relay.py", "import asyncpg", False),
        ("orchestrator/runtime/relay.py", "def f():\n    from aiokafka import AIOKafkaProducer", False),
        ("orchestrator/broker/postgres.py", "import aiokafka", False),
        ("sagas/transfer/routes.py", "from asyncpg.exceptions import DataError", False),
        ("projections/inbox.py", "import asyncpg", False),
    ],
)
def test_drivers_stay_in_their_files(path: str, text: str, is_allowed: bool) -> None:
    """Changing the broker or the store must not mean changing the product."""
    assert (not list(driver_violations([Source(path, text)]))) is is_allowed


@pytest.mark.parametrize(
    ("path", "text", "is_allowed"),
    [
        ("sagas/transfer/definition.py", "from orchestrator import Saga, step", True),
        ("sagas/transfer/participants.py", "from orchestrator.participants import Participant", True),
        ("sagas/transfer/routes.py", "from orchestrator.api.engine import EngineOf", True),
        ("sagas/transfer/definition.py", "from events.transfer import TransferRequested", True),
        ("sagas/transfer/definition.py", "from orchestrator.definition import Saga", False),
        ("sagas/transfer/definition.py", "def f():\n    import orchestrator.store.contract", False),
        ("sagas/transfer/definition.py", "from orchestrator.testing import given", False),
        ("events/transfer.py", "from orchestrator import Event", True),
        ("events/transfer.py", "from orchestrator.messages import Event", False),
        ("events/transfer.py", "from orchestrator.messages.contract import Event", False),
        ("events/transfer.py", "from orchestrator.participants import Participant", False),
        ("tests/sagas/test_transfer.py", "from orchestrator.testing import given", True),
    ],
)
def test_saga_packages_come_in_through_public_doors(path: str, text: str, is_allowed: bool) -> None:
    """What they import is a promise; the rest may be rearranged."""
    sources = [
        Source(path, text),
        Source("orchestrator/messages/__init__.py", ""),
        Source("orchestrator/__init__.py", ""),
    ]
    assert (not list(door_violations(sources))) is is_allowed


@pytest.mark.parametrize(
    "back",
    [
        "from a import first",
        "def f():\n    from a.first import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a.first",
        "from . import first",
    ],
)
def test_a_planted_cycle_is_found_however_it_is_hidden(back: str) -> None:
    """first -> second -> third -> first."""
    sources = [
        Source("a/__init__.py", ""),
        Source("a/first.py", "import a.second"),
        Source("a/second.py", "from a.third import y"),
        Source("a/third.py", back),
        Source("a/apart.py", "import a.first"),
    ]
    assert cycles(sources) == [["a.first", "a.second", "a.third"]]
