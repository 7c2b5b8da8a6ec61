"""Conversations: sessions and what was said in them, in the schema `chats`.

Rules of this file
- A message is committed before the transfer that it asks for is started, with all that the start needs: whoever finds a
  message without its saga starts it, and the start is the same one.
- A message with a key is one message, however often it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.transfers import TransferRequested
from orchestrator.participants import Pool, load_queries
from sagas.transfers.participants import chats

SQL = load_queries("sagas.transfers", "chats.sql")

HISTORY_MESSAGES_MAX = 200
TRANSFERS_MAX = 50
SESSIONS_MAX = 50


class OtherMessageError(Exception):
    """The key of a message belongs to another message."""


@dataclass(frozen=True, slots=True)
class Session:
    """A conversation with one customer."""

    session_id: str
    user_id: str
    opened_at: datetime


class Chats:
    """Reads and writes conversations. Methods raise what the database driver raises."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self, session_id: str, tenant: str, user_id: str) -> None:
        """Opens a session; nothing where it is open already."""
        async with chats.transaction(self._pool) as connection:
            await connection.execute(SQL["open_session"], session_id, tenant, user_id)

    async def session(self, session_id: str, tenant: str) -> Session | None:
        """One session, or None."""
        async with chats.transaction(self._pool) as connection:
            row = await connection.fetchrow(SQL["session"], session_id, tenant)
        return Session(row["session_id"], row["user_id"], row["opened_at"]) if row is not None else None

    async def sessions_of(self, user_id: str, tenant: str) -> Sequence[Mapping[str, Any]]:
        """A customer's sessions, the liveliest first."""
        async with chats.transaction(self._pool) as connection:
            return [dict(row) for row in await connection.fetch(SQL["sessions_of"], tenant, user_id, SESSIONS_MAX)]

    async def ask(
        self, session_id: str, text: str, key: str | None, request: TransferRequested | None
    ) -> TransferRequested | None:
        """Keeps what the customer said; gives the transfer it asks for: of a repeated message the first one's.

        Raises OtherMessageError where the key belongs to another text.
        """
        transfer_id = request.transfer_id if request is not None else None
        body = request.canonical().decode() if request is not None else None
        async with chats.transaction(self._pool) as connection:
            arguments = (session_id, "customer", text, key, transfer_id, body)
            if await connection.fetchval(SQL["say"], *arguments) is not None:
                return request
            said = await connection.fetchrow(SQL["said"], session_id, key)
        assert said is not None
        if said["text"] != text:
            raise OtherMessageError
        return _request(said["request"])

    async def answer(self, session_id: str, text: str, key: str | None, transfer_id: str | None) -> None:
        """Keeps what the assistant said; once per key."""
        async with chats.transaction(self._pool) as connection:
            await connection.fetchval(SQL["say"], session_id, "assistant", text, key, transfer_id, None)

    async def history(self, session_id: str) -> list[Mapping[str, Any]]:
        """What was said, oldest first, at most HISTORY_MESSAGES_MAX of the latest messages."""
        async with chats.transaction(self._pool) as connection:
            rows = await connection.fetch(SQL["history"], session_id, HISTORY_MESSAGES_MAX)
        return [dict(row) for row in reversed(rows)]

    async def transfers(self, session_id: str) -> list[TransferRequested]:
        """The transfers that a session asked for, newest first."""
        async with chats.transaction(self._pool) as connection:
            rows = await connection.fetch(SQL["transfers"], session_id, TRANSFERS_MAX)
        return [found for row in rows if (found := _request(row["request"])) is not None]


def _request(stored: str | None) -> TransferRequested | None:
    return TransferRequested.from_bytes(stored.encode()) if stored is not None else None
