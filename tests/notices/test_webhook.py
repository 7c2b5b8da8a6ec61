"""Webhooks: signed, once, over TLS to the checked address, with limits on what the other side may do to us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.notices.contract import NotSentError
from orchestrator.notices.guard import Guard
from orchestrator.notices.webhook import ANSWER_BYTES_MAX, SecretError, Webhook, secrets_of, signature
from tests.notices import certificates
from tests.notices.samples import FACTS, notice
from tests.notices.web_server import web_server

KEY = b"k" * 32


def hook(*, timeout_ms: int = 5_000, **more: object) -> Webhook:
    """A webhook channel that may speak to this machine."""
    return Webhook(Guard(["127.0.0.1", "hooks.example"]), [KEY], timeout_ms=timeout_ms, **more)  # type: ignore[arg-type]


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of Standard Webhooks, whose libraries are what receivers verify with."""
    (key,) = secrets_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_changed_both_sign() -> None:
    """A receiver with either one is content."""
    signed = signature([KEY, b"o" * 32], "id", 1, b"x")
    assert signed == f"{signature([KEY], 'id', 1, b'x')} {signature([b'o' * 32], 'id', 1, b'x')}"


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_not base64!", "whsec_c2hvcnQ=", "plain words"])
def test_a_secret_that_is_none_is_refused_without_being_shown(text: str) -> None:
    """Short ones too: they can be guessed."""
    with pytest.raises(SecretError) as caught:
        secrets_of(text)
    assert text[6:] == "" or text[6:] not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "retriable"), [(301, False), (302, False), (400, False), (404, False), (410, False), (408, True),
                              (425, True), (429, True), (500, True), (503, True)]
)  # fmt: skip
async def test_what_the_answer_means(status: int, retriable: bool) -> None:
    """A redirect is followed nowhere: it would lead past the guard."""
    async with web_server() as server:
        server.statuses, server.location = [status], f"http://127.0.0.1:{server.port}/elsewhere"
        channel = hook()
        with pytest.raises(NotSentError, match=str(status)) as caught:
            await channel.send(notice(address=f"http://127.0.0.1:{server.port}/"))
        assert caught.value.retriable is retriable
        assert len(server.posted) == 1
        await channel.rest()


async def test_what_is_posted() -> None:
    """One request with the id, the time of the attempt, and nothing of a browser or a proxy."""
    async with web_server() as server:
        channel = hook(clock=lambda: 1_700_000_000.9)
        await channel.send(notice(address=f"http://127.0.0.1:{server.port}/in?a=b", kind="escalated"))
        await channel.rest()
        (posted,) = server.posted
    assert posted.line == "POST /in?a=b HTTP/1.1"
    assert posted.headers["host"] == f"127.0.0.1:{server.port}"
    assert (posted.headers["webhook-id"], posted.headers["webhook-timestamp"]) == ("n-1", "1700000000")
    assert posted.headers["webhook-signature"] == signature([KEY], "n-1", 1_700_000_000, posted.body)
    assert not {"cookie", "authorization", "referer"} & posted.headers.keys()
    assert json.loads(posted.body) == {"type": "task.escalated", "id": "n-1", "tenant": "main", "data": FACTS}


async def test_over_tls_the_name_is_checked_although_the_address_is_connected_to(tmp_path: Path) -> None:
    """The certificate must be the host's, not the address's; its name is also sent as SNI."""
    good, other = certificates.make(tmp_path, "hooks.example"), certificates.make(tmp_path, "other.example")
    for certificate, fits in ((good, True), (other, False)):
        async with web_server(certificate.server()) as server:

            async def resolve(host: str, port: int) -> list[str]:
                return ["127.0.0.1"]

            channel = Webhook(Guard(["hooks.example"], resolve), [KEY], timeout_ms=5_000, tls=certificate.client())
            sending = channel.send(notice(address=f"https://hooks.example:{server.port}/"))
            if fits:
                await sending
                assert server.posted[0].headers["host"] == f"hooks.example:{server.port}"
            else:
                with pytest.raises(NotSentError, match=r"(?i)certificate"):
                    await sending
                assert not server.posted
            assert server.server_names == ["hooks.example"]
            await channel.rest()


async def test_an_answer_without_end_is_cut() -> None:
    """The status counts; nobody makes us read a gigabyte."""
    async with web_server() as server:
        server.flood = True
        channel = hook()
        server.statuses = [500]
        with pytest.raises(NotSentError):
            await channel.send(notice(address=f"http://127.0.0.1:{server.port}/"))
        await channel.rest()
        assert server.sent_bytes < 50 * 1024 * 1024 > ANSWER_BYTES_MAX


async def test_a_receiver_that_says_nothing_is_given_up_in_time() -> None:
    """As trouble that may pass."""
    async with web_server() as server:
        server.hang = True
        channel = hook(timeout_ms=300)
        with pytest.raises(NotSentError, match="no answer") as caught:
            await channel.send(notice(address=f"http://127.0.0.1:{server.port}/"))
        assert caught.value.retriable
        await channel.rest()


async def test_nobody_there_is_trouble_that_may_pass_and_a_forbidden_place_is_not() -> None:
    """Refused connections heal; a private address does not become public."""
    channel = hook()
    with pytest.raises(NotSentError) as caught:
        await channel.send(notice(address="http://127.0.0.1:9/"))
    assert caught.value.retriable
    with pytest.raises(NotSentError, match="refused") as refused:
        await channel.send(notice(address="https://[::1]:9/"))
    assert not refused.value.retriable
    with pytest.raises(NotSentError, match="bytes") as large:
        await channel.send(notice(address="http://127.0.0.1:9/", facts={"x": "y" * 70_000}))
    assert not large.value.retriable
    await channel.rest()
