"""Lending: a participant that holds no key file gets the keys of the sagas that it has commands of (ADR 72).

Rules of this file
- Lent is the key of one saga of one subject, for what is left of the minute that this process itself remembers it; the
  subject's own key stays here.
- For a command alone that provably came from that saga, to a participant and of a type that the asker's API key names.
  Everything else is refused, command by command, and told to the security log.
- What was erased, or does not open, is said with its reason, so that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from orchestrator.messages.protocol import commands_topic
from orchestrator.vault import proofs
from orchestrator.vault.keys import Erased, Known
from orchestrator.vault.tokens import DataKey, ScopeKey, saga_scope
from orchestrator.vault.vault import Vault

COMMANDS_MAX = 500  # of one request
KEYS_MAX = 16  # of one command: it is sealed under one, or a few where its subject came to be known late

Code = Literal["", "not_named", "not_addressed", "not_proven"]

log = structlog.get_logger("orchestrator.vault")


@dataclass(frozen=True, slots=True)
class Asked:
    """A command as its participant shows it. `digest`: SHA-256 of its data; `keys`: ids of those it names."""

    id: str
    source: str
    type: str
    saga_id: str
    participant: str
    message_key: str
    digest: bytes
    proof: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loan:
    """A key that is lent for so long, or why not."""

    key_id: str
    seconds: float
    key: ScopeKey | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Lent:
    """What a command is answered. `sender`: by which further commands of this saga are known."""

    refused: Code
    sender: bytes = b""
    loans: tuple[Loan, ...] = ()


class Lending:
    """Lends keys of sagas."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def lend(self, tenant: str, allowed: frozenset[str], asked: Sequence[Asked]) -> list[Lent]:
        """One answer for each command. `allowed`: participants, or `participant/type`. Raises StoreError."""
        codes = [self._refusal(tenant, allowed, one) for one in asked]
        wanted = {key for one, code in zip(asked, codes, strict=True) if not code for key in one.keys}
        found = await self._vault.keys.by_id(wanted)
        return [self._lent(tenant, one, code, found) for one, code in zip(asked, codes, strict=True)]

    def _refusal(self, tenant: str, allowed: frozenset[str], one: Asked) -> Code:
        code: Code = ""
        if one.participant not in {named.partition("/")[0] for named in allowed}:
            code = "not_named"  # whatever the command is: the asker's key was made for others
        elif not allowed & {one.participant, f"{one.participant}/{one.type}"}:
            code = "not_addressed"
        elif not self._is_proven(tenant, one):
            code = "not_proven"
        if code:
            log.warning("a key is not lent", code=code, participant=one.participant[:80], command=one.id[:120])
        return code

    def _is_proven(self, tenant: str, one: Asked) -> bool:
        named = {
            "ce_tenant": tenant,
            "ce_correlationid": one.saga_id,
            "ce_source": one.source,
            "ce_type": one.type,
            "ce_id": one.id,
            proofs.HEADER: one.proof,
        }
        headers = {name: text.encode() for name, text in named.items()}
        topic = commands_topic(one.participant)
        return self._vault.prover.holds(headers, topic, one.message_key.encode(), one.digest)

    def _lent(self, tenant: str, one: Asked, code: Code, found: dict[str, Known]) -> Lent:
        if code:
            return Lent(code)
        sender = self._vault.prover.sender(tenant.encode(), one.saga_id.encode(), commands_topic(one.participant))
        scope = saga_scope(one.saga_id)
        return Lent("", sender, tuple(self._loan(tenant, key_id, scope, found.get(key_id)) for key_id in one.keys))

    def _loan(self, tenant: str, key_id: str, scope: str, key: Known | None) -> Loan:
        seconds = self._vault.keys.seconds_left(key_id)
        if key is None or key.tenant != tenant:
            return Loan(key_id, 0, why="it is sealed under a key that is not known here")
        if isinstance(key, DataKey):
            return Loan(key_id, seconds, key.scoped(scope))
        return Loan(
            key_id, seconds, why=f"it was erased under request {key.request}" if isinstance(key, Erased) else key.reason
        )
