"""Mail over SMTP: one connection while there is something to send, closed when there is not.

Rules of this file
- `smtps://` speaks TLS from the first byte, `smtp+starttls://` begins it before anything else and goes no further
  without it; `smtp://` is plain, and never carries a password.
- A refusal for good (5xx about this mail) is told apart from trouble (4xx, the network), and trouble of the server from
  trouble with one mail.
- A mail whose answer was lost is "not sent": it goes out again under the same Message-ID.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTPRecipientRefused, SMTPRecipientsRefused, SMTPResponseException, SMTPSenderRefused

from orchestrator.notices.contract import Notice, NotSentError
from orchestrator.notices.mail import mail_of

PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
SENT_OVER_ONE_CONNECTION_MAX = 100


class MailSettingError(ValueError):
    """The mail server's URL cannot be used; the text says why, without the password."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails go. security: smtp, smtp+starttls or smtps."""

    security: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str, password: str = "") -> MailServer:
        """From `smtps://user@host:port`. Raises MailSettingError."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise MailSettingError("the mail server's port is no number") from None
        if parts.scheme not in PORTS or not parts.hostname:
            raise MailSettingError(f"a mail server is {', '.join(f'{name}://host' for name in PORTS)}, not this URL")
        secret = password or unquote(parts.password or "")
        if secret and parts.scheme == "smtp":
            raise MailSettingError("smtp:// is not encrypted and takes no password; use smtp+starttls:// or smtps://")
        return cls(parts.scheme, parts.hostname, port or PORTS[parts.scheme], unquote(parts.username or ""), secret)


class SmtpMail:
    """The mail channel over SMTP."""

    def __init__(self, server: MailServer, sender: Address, *, ca_file: str = "", timeout_ms: int = 20_000) -> None:
        self._server, self._sender = server, sender
        self._timeout = timeout_ms / 1000
        self._tls = ssl.create_default_context(cafile=ca_file or None) if server.security != "smtp" else None
        self._open: aiosmtplib.SMTP | None = None
        self._sent = 0
        self._turn = asyncio.Lock()

    async def send(self, notice: Notice) -> None:
        """Hands one mail to the server. Raises NotSentError."""
        mail = mail_of(notice, self._sender)
        async with self._turn:
            client = await self._connected()
            try:
                async with asyncio.timeout(self._timeout):
                    await client.send_message(
                        mail, sender=self._sender.addr_spec, recipients=[mail["To"].addresses[0].addr_spec]
                    )
            except (SMTPRecipientsRefused, SMTPRecipientRefused) as error:
                await self._reset(client)
                raise _refused(error.recipients[0] if isinstance(error, SMTPRecipientsRefused) else error) from error
            except SMTPResponseException as error:
                await self._reset(client)
                raise _refused(error) from error
            except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
                await self._close()
                raise NotSentError(_said(error), retriable=True) from error
            except BaseException:
                await self._close()  # cancelled half-way: the next mail must not follow on the same connection
                raise
            self._sent += 1
            if self._sent >= SENT_OVER_ONE_CONNECTION_MAX:
                await self._close()

    async def rest(self) -> None:
        """Says goodbye to the server."""
        async with self._turn:
            await self._close()

    async def _connected(self) -> aiosmtplib.SMTP:
        if self._open is not None and self._open.is_connected:
            return self._open
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            timeout=self._timeout,
            use_tls=server.security == "smtps",
            start_tls=server.security == "smtp+starttls",
            tls_context=self._tls,
            username=(server.username or None) if server.password else None,
            password=server.password or None,
        )
        try:
            async with asyncio.timeout(self._timeout):
                await client.connect()
                if server.security == "smtp":  # the others have said it before they encrypted or signed in
                    await client.ehlo()
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            client.close()
            where = f"{server.host}:{server.port}"
            raise NotSentError(
                f"no mail server at {where}: {_said(error)}", retriable=True, channel_down=True
            ) from error
        except BaseException:
            client.close()
            raise
        self._open, self._sent = client, 0
        return client

    async def _reset(self, client: aiosmtplib.SMTP) -> None:
        """After a refusal the connection is good for the next mail, once the server has forgotten this one."""
        try:
            async with asyncio.timeout(self._timeout):
                await client.rset()
        except (aiosmtplib.SMTPException, OSError, TimeoutError):
            await self._close()

    async def _close(self) -> None:
        client, self._open = self._open, None
        if client is None:
            return
        with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            async with asyncio.timeout(min(self._timeout, 2.0)):
                await client.quit()
        client.close()


def _refused(error: SMTPRecipientRefused | SMTPResponseException) -> NotSentError:
    """4xx: later. 5xx: never. A refused sender is a matter of the server's settings, not of this mail."""
    ours = isinstance(error, SMTPSenderRefused)
    return NotSentError(
        f"{error.code} {_one_line(error.message)}", retriable=error.code < 500 or ours, channel_down=ours
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {_one_line(str(error))}" if str(error) else type(error).__name__


def _one_line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:200]
