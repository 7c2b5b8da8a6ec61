"""An upstream service as all benches have one: it sends messages and hears one topic from its beginning."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Self

from orchestrator.broker.contract import Broker, IncomingMessage, OutgoingMessage
from orchestrator.cli.output import CliError, ExitCode
from orchestrator.messages import Contract, Envelope
from orchestrator.messages.envelope import schema_urn


class Upstream:
    """Use it as `async with`. `topic`: what it hears; it is empty when the bench begins."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._producer = broker.producer("bench")
        self._consumer = broker.consumer(f"bench-{uuid.uuid4().hex[:6]}", [topic], _beginning)

    async def __aenter__(self) -> Self:
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._producer.stop()

    async def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Sends. Raises CliError where the broker does not take one of them."""
        for error in await self._producer.send(messages):
            if error is not None:
                raise CliError(ExitCode.UNREACHABLE, f"the broker did not take a message: {error}")

    async def hear(self, messages_max: int) -> list[IncomingMessage]:
        """What has come; waits for a moment where there is nothing."""
        return await self._consumer.fetch(messages_max, 20)


async def _beginning(wanted: frozenset[tuple[str, int]]) -> Mapping[tuple[str, int], int | None]:
    return dict.fromkeys(wanted)


def event(contract: type[Contract], topic: str, key: str, data: Mapping[str, Any]) -> OutgoingMessage:
    """An event of a contract, with a new id. Raises ContractError for data that does not fit."""
    envelope = Envelope(
        id=str(uuid.uuid4()),
        source="/bench",
        type=contract.wire_name,
        dataschema=schema_urn(contract.wire_name, contract.wire_version),
    )
    return OutgoingMessage(topic, key.encode(), contract.from_plain(data).canonical(), envelope.headers())
