"""Keys of personal values while a worker waits for something else: asked for again, before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from orchestrator.broker.contract import Broker, IncomingMessage
from orchestrator.participants import ParticipantSettings, Worker, batches
from orchestrator.participants.delivery import Delivery, read_delivery
from orchestrator.participants.progress import Progress
from orchestrator.participants.sealing import Envelope
from orchestrator.participants.testing import command_message, incoming
from orchestrator.participants.work import Pool
from tests.participants.tills import PutIn, make_till


class Minute:
    """Keys that are forgotten while something else is waited for."""

    def __init__(self) -> None:
        self.at_hand = False
        self.asked = 0

    async def ask(self, messages: Sequence[IncomingMessage]) -> None:
        self.at_hand, self.asked = True, self.asked + 1

    def refusal(self, message: IncomingMessage) -> str:
        return ""

    def open_message(self, value: bytes, tenant: str) -> tuple[bytes, Any]:
        if not self.at_hand:
            raise ValueError("it is sealed under a key that is not known here")
        return value.replace(b"personal:v1:", b""), None

    def is_of(self, about: Any, saga_id: str) -> bool:
        return True

    def sealer_of(self, key_id: str, saga_id: str, tenant: str) -> None:
        return None


@pytest.mark.parametrize("away", ["the database", "its turn"])
async def test_a_command_that_waited_longer_than_keys_are_remembered_is_not_an_invalid_one(
    away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the database away for a minute, or many slow calls before it, it would be a dead letter for nothing."""
    keys, opened = Minute(), list[bytes]()
    till = make_till()
    worker = Worker(till, cast("Broker", None), cast("Pool", None), ParticipantSettings(retry_ms=1), opening=keys)
    message = incoming(command_message(PutIn(amount=1)))
    delivery = read_delivery(message, till.handlers)
    assert isinstance(delivery, Delivery)
    delivery.envelope = Envelope.of(keys, message, "saga-1", "main")

    async def process(*_: Any) -> batches.Outcome:
        if not opened and keys.asked == 1:
            keys.at_hand = False  # a minute passes
            raise ConnectionResetError
        opened.append(delivery.opened(b"personal:v1:Anna"))
        return batches.Outcome()

    async def answer(_: Delivery) -> Any:
        opened.append(delivery.opened(b"personal:v1:Anna"))

    monkeypatch.setattr(batches, "process", process)
    monkeypatch.setattr(worker._singles, "answer", answer)
    worker._progress = Progress()
    await worker._learn([message])
    if away == "the database":
        await worker._batch([delivery], [])
    else:
        keys.at_hand = False  # a minute passes
        await worker._answer(delivery)
    assert opened == [b"Anna"]
    assert keys.asked == 2
