"""From a client's CloudEvent to a message on the broker.

Only events that some installed saga starts on or waits for are taken: nobody may speak in the name of a saga that only
publishes, and a misspelt type is found by its sender.
"""

from __future__ import annotations

import asyncio

from orchestrator.api.contracts import checked_key
from orchestrator.api.problems import ProblemError
from orchestrator.api.views import CloudEvent, Published
from orchestrator.broker.contract import Broker, OutgoingMessage, Producer
from orchestrator.messages import ContractError, Envelope, Event
from orchestrator.messages.envelope import schema_urn
from orchestrator.messages.protocol import events_topic
from orchestrator.runtime.catalog import Catalog
from orchestrator.vault.keys import BrokenKeyError
from orchestrator.vault.vault import Vault


class Publisher:
    """Publishes events. Connects with the first one, so that an API can start while its broker is away."""

    def __init__(self, broker: Broker, catalog: Catalog, vault: Vault | None = None) -> None:
        self._broker = broker
        self._catalog = catalog
        self._vault = vault
        self._producer: Producer | None = None
        self._starting = asyncio.Lock()

    async def publish(self, given: CloudEvent, tenant: str, traceparent: str) -> Published:
        """Checks an event and sends it. Raises ProblemError: unknown_type, invalid, too_large, unavailable."""
        version = Envelope(given.id, given.source, given.type, dataschema=given.dataschema).version
        event = self._read(given, version)
        extensions = {name: text for name, text in given.extensions.items() if name != "traceparent"}
        hop = given.extensions.get("traceparent") or traceparent
        envelope = Envelope(
            id=given.id,
            source=given.source,
            type=given.type,
            time=given.time,
            subject=given.subject,
            dataschema=schema_urn(event.wire_name, event.wire_version),
            traceparent=hop,
            extensions={**extensions, "traceparent": hop, "tenant": tenant},
        )
        topic, key = events_topic(event.context), event.key()
        try:
            body = event.canonical() if self._vault is None else await self._vault.seal_event(tenant, event, key)
        except BrokenKeyError as error:
            raise ProblemError("unavailable", str(error)) from error
        await self._send(OutgoingMessage(topic, key.encode(), body, envelope.headers()))
        return Published(given.id, given.source, given.type, topic, key)

    async def stop(self) -> None:
        """Finishes what is under way."""
        if self._producer is not None:
            await self._producer.stop()

    def _read(self, given: CloudEvent, version: int | None) -> Event:
        routes, registry = self._catalog.routes, self._catalog.registry
        wanted = given.type in routes.starts or given.type in routes.awaiters
        contract = registry.get(given.type) if wanted and given.type in registry else None
        if contract is None or not issubclass(contract, Event):
            raise ProblemError("unknown_type", f"No saga here starts on or waits for {given.type[:80]!r}.")
        try:
            event = contract.from_plain(given.data, version)
            checked_key(event)
            event.canonical()
        except (ContractError, ValueError) as error:
            raise ProblemError("invalid", str(error)) from error
        return event

    async def _send(self, message: OutgoingMessage) -> None:
        async with self._starting:
            if self._producer is None:
                producer = self._broker.producer("api")
                await producer.start()
                self._producer = producer
        (error,) = await self._producer.send([message])
        if error is not None:
            code = "unavailable" if error.retriable else "too_large" if error.code == "too_large" else "internal"
            raise ProblemError(code, f"The broker did not take the event: {error.reason}")
