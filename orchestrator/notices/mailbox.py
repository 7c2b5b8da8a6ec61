"""Mails as files in a directory: the mail channel of a laptop and a demonstration. `file:///path/to/directory`."""

from __future__ import annotations

import asyncio
import os
from email.headerregistry import Address
from pathlib import Path

from orchestrator.notices.contract import Notice, NotSentError
from orchestrator.notices.mail import mail_of


class Mailbox:
    """Writes `<id>.eml`, whole or not at all; the same notice again is the same file."""

    def __init__(self, directory: Path, sender: Address) -> None:
        self._directory, self._sender = directory, sender

    async def send(self, notice: Notice) -> None:
        """Writes one mail. Raises NotSentError."""
        mail = mail_of(notice, self._sender)
        try:
            await asyncio.to_thread(self._write, f"{notice.id}.eml", mail.as_bytes())
        except OSError as error:
            reason = f"the mailbox cannot be written: {error.strerror or type(error).__name__}"
            raise NotSentError(reason, retriable=True, channel_down=True) from error

    async def rest(self) -> None:
        """Nothing is open."""

    def _write(self, name: str, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._directory / f".{name}.{os.getpid()}"
        unfinished.write_bytes(content)
        unfinished.replace(self._directory / name)
