"""A small SMTP server: enough of RFC 5321, 3207 and 4954 for a client to be tried on, and switches to misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage

LINE_BYTES_MAX = 1_000


@dataclass
class Taken:
    """A mail as it came: envelope and content."""

    sender: str
    recipients: list[str]
    raw: bytes
    encrypted: bool
    user: str

    @property
    def mail(self) -> EmailMessage:
        """The parsed mail."""
        found = email.message_from_bytes(self.raw, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        return found


@dataclass
class SmtpServer:
    """What it has taken, and how it misbehaves.

    refuse: answers by recipient. refuse_sender: answer to every MAIL. silent_after_data: takes a mail and closes the
    connection instead of saying so. hang: says nothing any more.
    """

    host: str = "127.0.0.1"
    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    connections: int = 0
    refuse: dict[str, str] = field(default_factory=dict)
    refuse_sender: str = ""
    silent_after_data: int = 0
    hang: bool = False
    tls: ssl.SSLContext | None = None  # STARTTLS is offered
    user: tuple[str, str] | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await _Talk(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self.tasks.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(writer.wait_closed(), 0.5)


class _Talk:
    def __init__(self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.sender, self.recipients, self.user = "", list[str](), ""

    async def run(self) -> None:
        await self.say("220 test ready")
        while line := await self.reader.readline():
            assert len(line) <= LINE_BYTES_MAX + 2, "a line longer than RFC 5321 allows"
            if self.server.hang:
                await asyncio.sleep(3600)
            verb, _, rest = line.decode().rstrip("\r\n").partition(" ")
            if verb.upper() == "QUIT":
                await self.say("221 bye")
                return
            if not await self.obey(verb.upper(), rest):
                return

    async def obey(self, verb: str, rest: str) -> bool:
        server = self.server
        if verb == "EHLO":
            extensions = ["test", "8BITMIME", "SIZE 1000000"]
            if server.tls is not None and not self.encrypted:
                extensions.append("STARTTLS")
            if server.user is not None:
                extensions.append("AUTH PLAIN")
            for n, text in enumerate(extensions):
                await self.say(f"250{' ' if n == len(extensions) - 1 else '-'}{text}")
        elif verb == "STARTTLS" and server.tls is not None:
            await self.say("220 go ahead")
            await self.writer.start_tls(server.tls)
        elif verb == "AUTH":
            _, user, password = base64.b64decode(rest.partition(" ")[2]).decode().split("\0")
            self.user = user if (user, password) == server.user else ""
            await self.say("235 welcome" if self.user else "535 wrong password")
        elif verb == "MAIL":
            self.sender, self.recipients = _address(rest), []
            await self.say(server.refuse_sender or "250 ok")
        elif verb == "RCPT":
            answer = server.refuse.get(_address(rest), "250 ok")
            if answer.startswith("250"):
                self.recipients.append(_address(rest))
            await self.say(answer)
        elif verb == "DATA":
            return await self.data()
        elif verb in ("RSET", "NOOP"):
            await self.say("250 ok")
        else:
            await self.say("502 not here")
        return True

    async def data(self) -> bool:
        await self.say("354 go on")
        lines = []
        while (line := await self.reader.readline()) != b".\r\n":
            assert line.endswith(b"\r\n"), "a bare line end"
            lines.append(line[1:] if line.startswith(b"..") else line)
        taken = Taken(self.sender, self.recipients, b"".join(lines), self.encrypted, self.user)
        self.server.taken.append(taken)
        if self.server.silent_after_data:
            self.server.silent_after_data -= 1
            return False
        await self.say("250 taken")
        return True

    @property
    def encrypted(self) -> bool:
        return self.writer.get_extra_info("ssl_object") is not None

    async def say(self, line: str) -> None:
        self.writer.write(f"{line}\r\n".encode())
        await self.writer.drain()


def _address(rest: str) -> str:
    return rest.partition("<")[2].partition(">")[0]


@asynccontextmanager
async def smtp_server(
    *, smtps: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, user: tuple[str, str] | None = None
) -> AsyncIterator[SmtpServer]:
    """A server on a free port of this machine. smtps: TLS from the first byte."""
    found = SmtpServer(tls=starttls, user=user)
    listening = await asyncio.start_server(found.serve, found.host, 0, ssl=smtps)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()
        for task in list(found.tasks):
            task.cancel()
        if found.tasks:
            await asyncio.wait(set(found.tasks), timeout=5)
        await listening.wait_closed()
