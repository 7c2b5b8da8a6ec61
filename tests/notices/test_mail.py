"""Mails: headers that nobody else can write, and SMTP as servers really are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.notices.contract import NotSentError
from orchestrator.notices.mail import mail_of, sender_of
from orchestrator.notices.smtp import MailServer, MailSettingError, SmtpMail
from orchestrator.notices.words import AddressError, line, mail_address
from tests.notices import certificates
from tests.notices.samples import notice
from tests.notices.smtp_server import SmtpServer, smtp_server

SENDER = sender_of("Approvals <approvals@bank.example>")


class TestHeaders:
    @settings(max_examples=40)
    @given(st.text(max_size=200), st.text(max_size=40))
    def test_nothing_in_a_name_or_title_becomes_a_header(self, subject: str, name: str) -> None:
        """Whatever stands in them, the mail has its own headers and no others."""
        found = message_from_bytes(
            mail_of(notice(subject=f"To decide: {subject}\r\nBcc: eve@evil.example {name}"), SENDER).as_bytes(),
            policy=policy.default,
        )
        assert sorted(found.keys()) == sorted(
            ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress",
             "MIME-Version", "Content-Type"]
        )  # fmt: skip
        assert str(found["To"]) == "maria@bank.example"
        assert "\n" not in str(found["Subject"])

    def test_the_same_notice_is_the_same_mail(self) -> None:
        """Message-ID and Date come from the notice, not from the attempt."""
        first, second = (mail_of(notice(), SENDER) for _ in range(2))
        assert first["Message-ID"] == second["Message-ID"] == "<n-1@bank.example>"
        assert first["Date"] == second["Date"] == "Sat, 22 Nov 2025 08:30:00 +0000"
        assert str(first["From"]) == "Approvals <approvals@bank.example>"

    def test_text_and_html_are_alternatives(self) -> None:
        """Readers without HTML lose nothing."""
        mail = mail_of(notice(), SENDER)
        assert mail.get_content_type() == "multipart/alternative"
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]

    @pytest.mark.parametrize(
        "address",
        [
            "", "maria", "@bank.example", "maria@", "a b@bank.example", "maria@bank example", "mariá@bank.example",
            "maria@bank.example\r\nX: y", "maria@bank.example,eve@evil.example",
            "<maria@bank.example>",
            "a..b@bank.example", '"m a"@bank.example', "maria@-bank.example", "maria@bank..example",
            "x" * 65 + "@bank.example",
            "maria@" + "x" * 250,
        ],
    )  # fmt: skip
    def test_what_is_no_address_is_refused_for_good(self, address: str) -> None:
        """Never repaired: who knows whom it would reach."""
        with pytest.raises(AddressError):
            mail_address(address)
        with pytest.raises(NotSentError) as caught:
            mail_of(notice(address=address), SENDER)
        assert not caught.value.retriable

    def test_a_domain_of_other_letters_is_written_in_ascii(self) -> None:
        """As mail servers want it."""
        assert mail_address("maria@bänk.example") == "maria@xn--bnk-qla.example"

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a\r\nb\tc", "a b c"),
            ("pay\N{RIGHT-TO-LEFT OVERRIDE}gnp", "pay\N{REPLACEMENT CHARACTER}gnp"),
            ("zero\N{ZERO WIDTH SPACE}width\x1b[31m\x00", "zero�width�[31m�"),
            ("\ud800", "�"),
            ("x" * 400, "x" * 299 + "…"),
        ],
    )
    def test_what_hides_or_turns_text_becomes_visible(self, text: str, expected: str) -> None:
        """E7 of the security cases: the reader sees that something is odd."""
        assert line(text) == expected


class TestServer:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("smtps://bot@mail.example", ("smtps", "mail.example", 465, "bot", "pw")),
            ("smtp+starttls://bot%40x@mail.example:2525", ("smtp+starttls", "mail.example", 2525, "bot@x", "pw")),
        ],
    )
    def test_a_server_is_a_url(self, url: str, expected: tuple[str, str, int, str, str]) -> None:
        """With the port that goes with it."""
        found = MailServer.of(url, "pw")
        assert (found.security, found.host, found.port, found.username, found.password) == expected
        assert "pw" not in repr(found)

    @pytest.mark.parametrize("url", ["smtp://a:pw@mail.example", "http://mail.example", "smtps://", "smtps://x:port"])
    def test_a_url_that_cannot_be_used_is_refused_without_its_password(self, url: str) -> None:
        """A password over a plain line most of all."""
        with pytest.raises(MailSettingError) as caught:
            MailServer.of(url)
        assert "pw" not in str(caught.value)


@asynccontextmanager
async def talking(
    tmp_path: Path, security: str, *, trusted: bool = True, user: tuple[str, str] | None = None, password: str = ""
) -> AsyncIterator[tuple[SmtpServer, SmtpMail]]:
    """A server that speaks like this, and a client of it."""
    own = certificates.make(tmp_path, "localhost")
    other = certificates.make(tmp_path, "other.example")
    tls = own.server()
    async with smtp_server(
        smtps=tls if security == "smtps" else None, starttls=tls if security == "smtp+starttls" else None, user=user
    ) as server:
        where = MailServer(security, "localhost", server.port, user[0] if user else "", password)
        client = SmtpMail(where, SENDER, ca_file=str((own if trusted else other).file), timeout_ms=5_000)
        yield server, client
        await client.rest()


@pytest.mark.parametrize("security", ["smtp", "smtp+starttls", "smtps"])
async def test_each_way_to_speak_to_a_server(tmp_path: Path, security: str) -> None:
    """Several mails over one connection, encrypted where it was said so, each line of a length that servers take."""
    async with talking(tmp_path, security) as (server, client):
        for n in range(3):
            await client.send(notice(id=f"n-{n}", subject=f"Ünïcode {n} " + "long " * 40, text="x" * 3_000 + "\n.\n.."))
        assert server.connections == 1
        assert [taken.encrypted for taken in server.taken] == [security != "smtp"] * 3
        taken = server.taken[2]
        assert (taken.sender, taken.recipients) == ("approvals@bank.example", ["maria@bank.example"])
        assert str(taken.mail["Subject"]).startswith("Ünïcode 2 long long")
        body = taken.mail.get_body(("plain",))
        assert body is not None
        assert body.get_content().replace("\r\n", "\n") == "x" * 3_000 + "\n.\n..\n"


@pytest.mark.parametrize("security", ["smtp+starttls", "smtps"])
async def test_a_certificate_that_nobody_vouches_for_gets_no_mail_and_no_password(
    tmp_path: Path, security: str
) -> None:
    """The whole channel is in trouble, and says so."""
    async with talking(tmp_path, security, trusted=False, user=("bot", "pw"), password="pw") as (server, client):
        with pytest.raises(NotSentError, match=r"(?i)certificate") as caught:
            await client.send(notice())
        assert (caught.value.channel_down, caught.value.retriable, server.taken) == (True, True, [])


async def test_starttls_that_is_not_offered_is_not_done_without(tmp_path: Path) -> None:
    """Somebody in between may have taken the offer away."""
    async with smtp_server() as server:
        client = SmtpMail(MailServer("smtp+starttls", "localhost", server.port), SENDER, timeout_ms=5_000)
        with pytest.raises(NotSentError) as caught:
            await client.send(notice())
        await client.rest()
        assert caught.value.channel_down
        assert not server.taken


async def test_a_password_is_said_over_tls_and_a_wrong_one_stops_the_channel(tmp_path: Path) -> None:
    """The right one is taken; nothing of it stands in the reason of the wrong one."""
    async with talking(tmp_path, "smtps", user=("bot", "secret-one"), password="secret-one") as (server, client):
        await client.send(notice())
        assert server.taken[0].user == "bot"
    async with talking(tmp_path, "smtps", user=("bot", "secret-one"), password="secret-two") as (server, client):
        with pytest.raises(NotSentError) as caught:
            await client.send(notice())
        assert caught.value.channel_down
        assert not re.search("secret", caught.value.reason)


async def test_a_refused_recipient_is_this_mails_trouble_and_the_next_goes_out(tmp_path: Path) -> None:
    """5xx for good, 4xx for now; the connection stays."""
    async with talking(tmp_path, "smtp") as (server, client):
        server.refuse = {"gone@bank.example": "550 5.1.1 no such user", "full@bank.example": "452 4.2.2 mailbox full"}
        for address, retriable in (("gone@bank.example", False), ("full@bank.example", True)):
            with pytest.raises(NotSentError) as caught:
                await client.send(notice(address=address))
            assert (caught.value.retriable, caught.value.channel_down) == (retriable, False)
        await client.send(notice())
        assert [taken.recipients for taken in server.taken] == [["maria@bank.example"]]
        assert server.connections == 1


async def test_a_refused_sender_is_the_channels_trouble(tmp_path: Path) -> None:
    """Otherwise one wrong setting would fail every notice for good."""
    async with talking(tmp_path, "smtp") as (server, client):
        server.refuse_sender = "550 5.7.1 not you"
        with pytest.raises(NotSentError) as caught:
            await client.send(notice())
        assert (caught.value.channel_down, caught.value.retriable) == (True, True)
        server.refuse_sender = ""
        await client.send(notice())


async def test_an_answer_that_is_lost_means_not_sent_and_the_next_attempt_is_the_same_mail(tmp_path: Path) -> None:
    """The server took it and went away before saying so."""
    async with talking(tmp_path, "smtp") as (server, client):
        server.silent_after_data = 1
        with pytest.raises(NotSentError) as caught:
            await client.send(notice())
        assert caught.value.retriable
        await client.send(notice())
        first, second = server.taken
        assert first.mail["Message-ID"] == second.mail["Message-ID"]


async def test_a_server_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    """And one that is not there."""
    async with smtp_server() as server:
        server.hang = True
        client = SmtpMail(MailServer("smtp", "localhost", server.port), SENDER, timeout_ms=300)
        with pytest.raises(NotSentError) as caught:
            await client.send(notice())
        assert caught.value.channel_down
        await client.rest()
    gone = SmtpMail(MailServer("smtp", "localhost", 9), SENDER, timeout_ms=2_000)
    with pytest.raises(NotSentError, match="no mail server") as caught:
        await gone.send(notice())
    assert caught.value.channel_down
