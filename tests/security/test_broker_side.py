"""Section H: what somebody who can write to a topic cannot do by it; each message becomes a letter, no saga moves.

Which principal may write to which topic is the broker's to say (its ACLs); here is what holds whatever it says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.broker.contract import OutgoingMessage, Producer
from tests.identity.bank import Bank

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENTS, REPLIES, LETTER_SECONDS_MAX = "apitest.events", "apitest-desk.replies", 30


@dataclass(frozen=True)
class Target:
    """A saga that waits for its approval, and what speaks to the broker."""

    saga_id: str
    task: dict[str, Any]
    producer: Producer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(bank: Bank) -> AsyncIterator[Target]:
    """S1 with P1 open."""
    saga_id = await bank.start()
    producer = bank.runtime.broker.producer("somebody")
    await producer.start()
    yield Target(saga_id, await bank.task(saga_id), producer)
    await producer.stop()


def message(topic: str, key: str, body: Any, **headers: str) -> OutgoingMessage:
    """A CloudEvent in binary mode."""
    said: Mapping[str, str] = {"specversion": "1.0", "source": "/somebody", **headers}
    named = [(f"ce_{name}", value.encode()) for name, value in said.items()]
    return OutgoingMessage(
        topic, key.encode(), json.dumps(body).encode(), (*named, ("content-type", b"application/json"))
    )


def answer(saga_id: str, id_: str, **changed: str) -> OutgoingMessage:
    """A reply to the step `pay`, which nobody has asked for yet."""
    told = {
        "id": id_, "type": "orchestrator.Done", "correlationid": saga_id, "activity": "pay", "round": "1",
        "attempt": "1", "purpose": "do", "outcome": "ok", "participant": "apitest-desk", **changed,
    }  # fmt: skip
    return message(REPLIES, saga_id, {}, **told)


async def letter_of(bank: Bank, id_: str) -> dict[str, Any]:
    """The dead letter that a message became."""
    async with asyncio.timeout(LETTER_SECONDS_MAX):
        while True:
            items = (await bank.ask("GET", "/v1/letters?limit=500", "op")).response.json()["items"]
            for item in items:
                if item["messageId"].endswith(id_):
                    return dict(item)
            await asyncio.sleep(0.05)


CASES: dict[str, tuple[Any, str]] = {
    "H1 under another participant's name": (
        lambda t: answer(t.saga_id, "h1-a", participant="treasury"),
        "unauthorised_source",
    ),
    "H1 for a step that was not asked": (
        lambda t: answer(t.saga_id, "h1-b"),
        "unknown_activity",
    ),
    "H3 a decision as an event": (
        lambda t: message(
            EVENTS, t.saga_id, {"outcome": "approve", "by": "ap1"}, id="h3-a", type="task.decided",
            correlationid=t.saga_id, activity="approve",
        ),
        "unknown_type",
    ),
    "H3 a vote as an event": (
        lambda t: message(
            EVENTS, t.saga_id, {"by": "ap1", "outcome": "approve"}, id="h3-b", type="apitest.PayoutApproved",
            authid="ap1", authtype="user",
        ),
        "unknown_type",
    ),
    "H3 a vote as a reply": (
        lambda t: answer(t.saga_id, "h3-c", activity="approve"),
        "unknown_activity",
    ),
    "H3 another tenant": (
        lambda t: message(EVENTS, "x", {"payout_id": "x"}, id="h3-d", type="apitest.PayoutNoted", tenant="strangers"),
        "wrong_tenant",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_a_forged_message_becomes_a_letter_and_nothing_else(bank: Bank, target: Target, case: str) -> None:
    """The saga still waits for its approval, and none of its records came of this."""
    make, reason = CASES[case]
    forged = make(target)
    before = [record.type for record in await bank.engine.records(target.saga_id, _system())]
    (error,) = await target.producer.send([forged])
    assert error is None
    letter = await letter_of(bank, dict(forged.headers)["ce_id"].decode())
    assert letter["reason"] == reason, letter
    assert [record.type for record in await bank.engine.records(target.saga_id, _system())] == before
    assert (await bank.engine.saga(target.saga_id, _system())).waiting_for.startswith("task ")


async def test_the_same_id_with_another_body_becomes_a_letter(bank: Bank, target: Target) -> None:
    """H5: the first one counts, the second is kept and told."""
    for body in ({"payout_id": "p-h5"}, {"payout_id": "p-other"}):
        sent = message(EVENTS, "p-h5", body, id="h5", type="apitest.PayoutNoted")
        assert await target.producer.send([sent]) == [None]
    assert (await letter_of(bank, "h5"))["reason"] == "other_body"


async def test_a_letter_that_is_driven_again_passes_every_check_anew(bank: Bank, target: Target) -> None:
    """H7: by an operator alone, and what was refused is refused again."""
    (error,) = await target.producer.send([answer(target.saga_id, "h7", participant="treasury")])
    assert error is None
    letter = await letter_of(bank, "h7")
    path = f"/v1/letters/{letter['id']}/redrive"
    for who, status in (("aud", 403), ("ap1", 403), ("vie", 403), ("adm2", 404)):
        refused = await bank.ask("POST", path, who, json={"reason": "again"})
        assert refused.status == status, refused.response.text
    again = await bank.ask("POST", path, "op", json={"reason": "again"})
    assert again.status == 202, again.response.text
    assert again.response.json()["fate"] == "dead"
    assert "step.succeeded" not in [
        record.type for record in await bank.engine.records(target.saga_id, _system()) if record.activity == "pay"
    ]


def _system() -> Any:
    from orchestrator.api.views import Actor

    return Actor("system")
