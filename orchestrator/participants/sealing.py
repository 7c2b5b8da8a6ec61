"""Personal values in commands and replies: opened for the handler, sealed again in everything that leaves it (ADR 60).

Rules of this file
- A command names its subject's key in `ce_subjectkey`, also where nothing in it is personal: its reply may be.
- What cannot be opened (altered, moved, erased), or may not be, is an invalid command; the handler never sees a sealed
  value. What cannot be asked for now waits.
- What failures say is sealed like any reply, in the answer and in the log.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any, Protocol

from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages import ContractError, Reply, canonical_bytes
from orchestrator.messages.personal import PREFIX, sealing, subject_key

_BYTES = PREFIX.encode()


class Sealer(Protocol):
    """Seals what one saga's participant writes."""

    def note(self, value: Any) -> None:
        """This value is personal."""

    def form(self, plain: Any) -> Any:
        """A plain value as it may be written."""


class Opening(Protocol):
    """Whoever has the keys of subjects: the vault of a process with the key file, or keys on loan (lent.py)."""

    async def ask(self, messages: Sequence[IncomingMessage]) -> None:
        """Asks for the keys of these commands. Raises what is to be tried again: commands wait for it."""

    def refusal(self, message: IncomingMessage) -> str:
        """Why a command that was asked about is not obeyed, "" where it is."""

    def open_message(self, value: bytes, tenant: str) -> tuple[bytes, Any]:
        """The data of a tenant's message with everything opened, and what that was. Raises ValueError."""

    def is_of(self, about: Any, saga_id: str) -> bool:
        """Was everything that was opened in a message sealed for this saga?"""

    def sealer_of(self, key_id: str, saga_id: str, tenant: str) -> Sealer | None:
        """What seals for a saga under a key that was asked for; None where that key is no more."""


class Envelope:
    """How one command was sealed. `refused`: why it is not obeyed at all."""

    def __init__(self, opening: Opening, key_id: str, saga_id: str, tenant: str, refused: str = "") -> None:
        self._opening = opening
        self._saga_id, self._tenant = saga_id, tenant
        self.sealer = opening.sealer_of(key_id, saga_id, tenant) if key_id and not refused else None
        if key_id and self.sealer is None and not refused:
            refused = (
                f"key {key_id[:16]}, under which it is to be answered, is erased, does not open, or is not its own"
            )
        self._refused = refused

    @staticmethod
    def of(opening: Opening, message: IncomingMessage, saga_id: str, tenant: str) -> Envelope:
        """The envelope of a command that was asked about."""
        return Envelope(opening, subject_key(message.headers), saga_id, tenant, opening.refusal(message))

    def opened(self, body: bytes) -> bytes:
        """A body with what is sealed in it opened. Raises ContractError."""
        if self._refused:
            raise ContractError(self._refused)
        if _BYTES not in body:
            return body
        try:
            plain, about = self._opening.open_message(body, self._tenant)
        except ValueError as error:
            raise ContractError(f"a personal value cannot be read: {error}") from None
        if not self._opening.is_of(about, self._saga_id):
            raise ContractError("it holds personal values of another saga")
        if self.sealer is not None:
            for text in about.texts:
                self.sealer.note(text)
        return plain

    def reply(self, reply: Reply) -> bytes:
        """The bytes of a reply, sealed."""
        if self.sealer is None:
            return reply.canonical()
        with sealing(self.sealer):
            type(reply).model_validate(reply.model_dump())
        return canonical_bytes(self.sealer.form(reply.plain()))

    def body(self, plain: dict[str, str]) -> dict[str, str]:
        """The body of any other answer, sealed."""
        return self.sealer.form(plain) if self.sealer is not None else plain

    def text(self, text: str) -> str:
        """What is said of a command in the log."""
        return str(self.sealer.form(text)) if self.sealer is not None else text

    def traceback(self, error: BaseException) -> BaseException | None:
        """An error whose traceback may be logged; None where it, or what it was raised from, tells of somebody."""
        text = "".join(traceback.format_exception(error))
        return error if self.text(text) == text else None
