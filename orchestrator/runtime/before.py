"""Messages from before sealed ones carried proofs: whether the saga that they name has sent them, the outbox says.

Rules of this file
- Believed is what the outbox holds to the byte: topic, key, data, and every header that a proof would cover. So it is
  for as long as the outbox keeps what was sent; older ones are dead letters (ADR 73).
- Nothing is asked for a message that carries a proof, or holds nothing sealed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256

from orchestrator.broker.contract import IncomingMessage
from orchestrator.store.operations import SentMessage
from orchestrator.vault.proofs import COVERED, HEADER

KNOWN_MAX = 10_000  # far more than the lanes of a process hold between asking and routing

Sent = Callable[[str, str, int], Awaitable[SentMessage | None]]
"""The message that followed from a record: tenant, saga, version."""


class SentBefore:
    """Looks messages up. `tenant`: of messages that name none."""

    def __init__(self, sent: Sent, tenant: str) -> None:
        self._sent = sent
        self._tenant = tenant
        self._known: OrderedDict[bytes, None] = OrderedDict()

    async def learn(self, messages: Iterable[IncomingMessage]) -> None:
        """Looks up those of them that carry no proof. Raises StoreError."""
        for message in messages:
            headers = dict(message.headers)
            saga_id, _, number = headers.get("ce_id", b"").decode(errors="replace").rpartition("/")
            named = headers.get("ce_correlationid", b"").decode(errors="replace")
            if HEADER in headers or not saga_id or saga_id != named or not number.isdecimal() or len(number) > 9:
                continue
            tenant = headers.get("ce_tenant", b"").decode(errors="replace") or self._tenant
            if "\0" in saga_id or "\0" in tenant:
                continue  # no column holds it: asked for, it would fail whenever this partition is read
            found = await self._sent(tenant, saga_id, int(number))
            if found is not None and _same(found, message, headers):
                self._known[_print(message)] = None
                if len(self._known) > KNOWN_MAX:
                    self._known.popitem(last=False)

    def knows(self, message: IncomingMessage) -> bool:
        """Was this message found as it is?"""
        return _print(message) in self._known


def _same(found: SentMessage, message: IncomingMessage, headers: dict[str, bytes]) -> bool:
    sent = dict(found.headers)
    return (found.topic, found.key.encode(), found.value) == (message.topic, message.key, message.value) and all(
        sent.get(name) == headers.get(name) for name in COVERED
    )


def _print(message: IncomingMessage) -> bytes:
    """What is the same for one message alone, wherever in its topic it lies."""
    told = [message.topic.encode(), message.key or b"", message.value or b""]
    headers = dict(message.headers)
    told += [headers.get(name, b"") for name in COVERED]
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in told)).digest()
