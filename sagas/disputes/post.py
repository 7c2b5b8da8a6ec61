"""The postman: takes the letters that lie at the case desk to the mail server, in order, and notes that they have left.

    python -m sagas.disputes.post            # goes on until it is stopped; --once: until no letter is left

Customers are written to through the print shop's mailbox, the regulator through its own; both are settings.

Rules of this file
- A letter is noted as delivered when the mail server has taken it. Where the answer was lost it goes out again, under
  the same Message-ID, so that whoever gets it can tell.
- One postman at a time: a second one finds nothing to do. A letter that the server refuses holds up no other; it stays
  undelivered, is said, and is tried again on the next round.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Annotated, Any

import aiosmtplib
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.participants import Connection, Pool, open_pool
from sagas.disputes.participants import SQL, case_desk

SEND_SECONDS_MAX = 30.0
PAUSE_SECONDS = 10.0
CONNECTIONS_MAX = 2

Mailbox = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)]


class PostSettings(BaseSettings):
    """Prefix ORCHESTRATOR_POST_. HOST, PORT: the mail server; SECURITY: starttls, tls, or plain (this machine only);
    USER, PASSWORD: where it wants them. SENDER: who writes. LETTERS_TO: the print shop. REGULATOR_TO: the regulator."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_POST_", frozen=True)

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65_535)
    security: str = Field(default="starttls", pattern=r"^(starttls|tls|plain)$")
    user: str = ""
    password: SecretStr = SecretStr("")
    sender: Mailbox
    letters_to: Mailbox
    regulator_to: Mailbox

    def model_post_init(self, context: Any) -> None:
        """Letters about complaints leave this machine under encryption only."""
        if self.security == "plain" and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("ORCHESTRATOR_POST_SECURITY=plain is for a mail server on this machine only")


class Postman:
    """Delivers letters. `pool`: of the product's database, as the application's role."""

    def __init__(self, pool: Pool, settings: PostSettings) -> None:
        self._pool, self._settings = pool, settings
        self.refused: dict[str, str] = {}  # letters that the server would not take, and why

    async def round(self) -> int:
        """Delivers what lies there; gives how many letters left. Raises where the mail server cannot be reached."""
        after, left = 0, 0
        self.refused.clear()
        while (number := await self._one(after)) is not None:
            after = abs(number)
            left += number > 0
        return left

    async def _one(self, after: int) -> int | None:
        """The next letter's number, negative where it was refused; None where there is none, or it is not our turn."""
        own = case_desk.own_schema
        async with own.transaction(self._pool, seconds_max=2 * SEND_SECONDS_MAX) as connection:
            letter = await self._taken(connection, after)
            if letter is None:
                return None
            try:
                await self._send(mail_of(letter, self._settings))
            except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPDataError) as error:
                self.refused[letter["letter_id"]] = f"{type(error).__name__}: {error}"[:300]
                return -int(letter["number"])
            await connection.execute(SQL["delivered"], letter["letter_id"])
        return int(letter["number"])

    async def _taken(self, connection: Connection, after: int) -> Mapping[str, Any] | None:
        if not await connection.fetchval(SQL["take_turn"]):
            return None
        row = await connection.fetchrow(SQL["next_letter"], after)
        return dict(row) if row is not None else None

    async def _send(self, mail: EmailMessage) -> None:
        settings = self._settings
        async with asyncio.timeout(SEND_SECONDS_MAX):
            await aiosmtplib.send(
                mail,
                hostname=settings.host,
                port=settings.port,
                use_tls=settings.security == "tls",
                start_tls=settings.security == "starttls",
                username=settings.user or None,
                password=settings.password.get_secret_value() or None,
                timeout=SEND_SECONDS_MAX,
            )


def mail_of(letter: Mapping[str, Any], settings: PostSettings) -> EmailMessage:
    """A letter as a mail. Its Message-ID is the letter's, whenever it goes out."""
    mail = EmailMessage()
    mail["From"] = settings.sender
    mail["To"] = settings.regulator_to if letter["recipient"] == "regulator" else settings.letters_to
    mail["Subject"] = letter["subject"]
    mail["Date"] = format_datetime(letter["written_at"])
    mail["Message-ID"] = f"<{letter['letter_id']}@{settings.sender.rpartition('@')[2]}>"
    mail["X-Case"] = letter["doc_id"]
    mail.set_content(letter["body"])
    return mail


async def deliver(url: str, settings: PostSettings, *, once: bool) -> int:
    """Delivers until stopped, or until no letter is left. Gives how many were refused in the last round."""
    async with open_pool(url, CONNECTIONS_MAX) as pool:
        await case_desk.own_schema.check(pool)
        postman = Postman(pool, settings)
        while True:
            try:
                left = await postman.round()
                sys.stderr.write(f"{left} letters delivered\n" if left else "")
                sys.stderr.writelines(f"{letter}: {why}\n" for letter, why in postman.refused.items())
            except (OSError, TimeoutError, aiosmtplib.SMTPException) as error:
                sys.stderr.write(f"the mail server: {type(error).__name__}: {error}\n")
                if once:
                    return 1
            if once:
                return len(postman.refused)
            await asyncio.sleep(PAUSE_SECONDS)


def main() -> None:
    """Delivers letters; ends with 1 where one was refused or the server was away (with --once)."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--once", action="store_true")
    once: bool = parser.parse_args().once
    refused = asyncio.run(deliver(os.environ["ORCHESTRATOR_DATABASE_URL"], PostSettings(), once=once))
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
