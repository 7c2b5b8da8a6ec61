"""Stored answers: one key, one request, one answer, also after a crash and with many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.store import answers as module
from orchestrator.store.answers import Answers, StoredAnswer
from orchestrator.store.connections import ConnectionLimits, Pools
from tests.databases import Database

ANSWER = StoredAnswer(201, {"location": "/v1/sagas/1"}, b'{"sagaId":"1"}')


@pytest_asyncio.fixture
async def answers(database: Database) -> AsyncIterator[Answers]:
    """The port on a database of its own."""
    pools = Pools(database.url, ConnectionLimits(read_connections=8), "test")
    yield Answers(pools)
    await pools.close()


async def test_a_finished_request_gives_its_answer_again(answers: Answers) -> None:
    """The same key and request: the stored bytes, as they were."""
    claim = await answers.claim("s", "k", b"f")
    assert (claim.fate, claim.again) == ("mine", False)
    await answers.finish("s", "k", claim, ANSWER)
    again = await answers.claim("s", "k", b"f")
    assert (again.fate, again.answer) == ("done", ANSWER)


async def test_another_request_under_the_same_key_is_told_so(answers: Answers) -> None:
    """Before and after the first one has its answer."""
    claim = await answers.claim("s", "k", b"f")
    assert (await answers.claim("s", "k", b"other")).fate == "reused"
    await answers.finish("s", "k", claim, ANSWER)
    assert (await answers.claim("s", "k", b"other")).fate == "reused"


async def test_another_scope_has_its_own_keys(answers: Answers) -> None:
    """Nobody gets the answer of another person, tenant or route."""
    await answers.finish("s", "k", await answers.claim("s", "k", b"f"), ANSWER)
    assert (await answers.claim("s2", "k", b"f")).fate == "mine"


async def test_of_many_at_once_one_carries_the_request_out(answers: Answers) -> None:
    """The primary key decides, not a look beforehand."""
    fates = [claim.fate for claim in await asyncio.gather(*(answers.claim("s", "k", b"f") for _ in range(30)))]
    assert sorted(fates) == ["mine"] + ["running"] * 29


async def test_a_claim_left_by_a_dead_process_is_taken_over_and_fenced(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the claim's time another process carries the request out; the first one's late answer changes nothing."""
    monkeypatch.setattr(module, "CLAIM_SECONDS", 0.05)
    dead = await answers.claim("s", "k", b"f")
    assert (await answers.claim("s", "k", b"f")).fate == "running"
    await asyncio.sleep(0.1)
    heir = await answers.claim("s", "k", b"f")
    assert (heir.fate, heir.again) == ("mine", True)
    await answers.finish("s", "k", dead, StoredAnswer(500, {}, b"late"))
    await answers.release("s", "k", dead)
    await answers.finish("s", "k", heir, ANSWER)
    assert (await answers.claim("s", "k", b"f")).answer == ANSWER


async def test_a_released_key_is_free_at_once(answers: Answers) -> None:
    """A request that was not carried out must not block its own retry."""
    await answers.release("s", "k", await answers.claim("s", "k", b"f"))
    claim = await answers.claim("s", "k", b"f")
    assert (claim.fate, claim.again) == ("mine", False)


async def test_old_keys_are_forgotten(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table does not grow for ever; the lifetime is published."""
    await answers.finish("s", "k", await answers.claim("s", "k", b"f"), ANSWER)
    monkeypatch.setattr(module, "KEPT_SECONDS", 0.0)
    claim: Any = await answers.claim("s", "k", b"f")
    assert claim.fate == "mine"
