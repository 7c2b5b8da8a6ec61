"""The contract of the port, on every implementation: real SMTP, files, real HTTP, real brokers."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.broker.contract import TopicSpec, open_broker
from orchestrator.messages.envelope import read
from orchestrator.notices.contract import Notice, Notifier, NotSentError
from orchestrator.notices.events import TOPIC, Events, TaskOpened
from orchestrator.notices.guard import Guard
from orchestrator.notices.mail import sender_of
from orchestrator.notices.mailbox import Mailbox
from orchestrator.notices.smtp import MailServer, SmtpMail
from orchestrator.notices.webhook import Webhook
from tests.contracts.brokers import QUICK
from tests.databases import Database
from tests.notices.samples import FACTS, notice
from tests.notices.smtp_server import smtp_server
from tests.notices.web_server import web_server

SENDER = sender_of("Approvals <approvals@bank.example>")


@dataclass
class Place:
    """One implementation, its address for a recipient, and what has arrived: (id, kind, text) each."""

    notifier: Notifier
    address: str
    arrived: Callable[[], Awaitable[list[tuple[str, str]]]]
    break_down: Callable[[], Awaitable[None]]
    bad: dict[str, Any] | None = None  # facts that are refused

    def notice(self, **changes: Any) -> Notice:
        """A notice for this implementation."""
        return notice(address=self.address, **changes)


def _mail(raw: bytes) -> tuple[str, str]:
    mail = message_from_bytes(raw, policy=policy.default)
    return str(mail["Message-ID"]).strip("<>").partition("@")[0], str(mail.get_body(("plain",)).get_content())  # type: ignore[union-attr]


async def smtp(stack: AsyncExitStack, _: Path, __: Any) -> Place:
    server = await stack.enter_async_context(smtp_server())
    mail = SmtpMail(MailServer.of(f"smtp://{server.host}:{server.port}"), SENDER, timeout_ms=5_000)
    stack.push_async_callback(mail.rest)

    async def arrived() -> list[tuple[str, str]]:
        return [_mail(taken.raw) for taken in server.taken]

    async def break_down() -> None:
        server.refuse_sender = "451 not now"

    return Place(mail, "maria@bank.example", arrived, break_down)


async def files(_: AsyncExitStack, directory: Path, __: Any) -> Place:
    folder = directory / "mailbox"

    async def arrived() -> list[tuple[str, str]]:
        return [
            _mail(file.read_bytes()) for file in sorted(folder.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns)
        ]

    async def break_down() -> None:
        folder.mkdir(exist_ok=True)
        folder.rename(directory / "gone")
        folder.write_text("a file where the directory was")

    return Place(Mailbox(folder, SENDER), "maria@bank.example", arrived, break_down)


async def webhook(stack: AsyncExitStack, _: Path, __: Any) -> Place:
    server = await stack.enter_async_context(web_server())
    hook = Webhook(Guard(["127.0.0.1"]), [b"k" * 32], timeout_ms=5_000)
    stack.push_async_callback(hook.rest)

    async def arrived() -> list[tuple[str, str]]:
        return [(posted.headers["webhook-id"], json.loads(posted.body)["data"]["title"]) for posted in server.posted]

    async def break_down() -> None:
        server.statuses += [503]

    return Place(hook, f"http://127.0.0.1:{server.port}/hook", arrived, break_down)


async def on_broker(stack: AsyncExitStack, url: str) -> Place:
    broker = open_broker(url, settings=QUICK)
    stack.push_async_callback(broker.close)
    await broker.ensure_topics([TopicSpec(TOPIC, partitions=2)])
    events = Events(broker)
    known: list[tuple[str, str]] = []

    async def begin(wanted: Any) -> Any:
        return dict.fromkeys(wanted)

    consumer = broker.consumer("test-notices", [TOPIC], begin)
    await consumer.start()

    async def arrived() -> list[tuple[str, str]]:
        async with asyncio.timeout(30):
            while True:
                for message in await consumer.fetch(10, 50):
                    envelope, body = read(message.headers, message.value)
                    known.append((envelope.id, TaskOpened.from_bytes(body, envelope.version).title))
                if consumer.settled():
                    ends, at = await consumer.end_offsets(), consumer.positions()
                    if ends and all(at.get(place, 0) >= end for place, end in ends.items()):
                        break
        return known

    async def break_down() -> None:
        """A broker is not broken for one test; it refuses what is too large."""

    return Place(events, "", arrived, break_down, bad={**FACTS, "link": "x" * 2_000_000})


async def on_postgres(stack: AsyncExitStack, _: Path, database: Database) -> Place:
    return await on_broker(stack, database.url)


async def on_kafka(stack: AsyncExitStack, _: Path, bootstrap: str) -> Place:
    return await on_broker(stack, f"kafka://{bootstrap}")


# Each implementation, and the fixture that it needs.
PLACES = {
    "smtp": (smtp, ""),
    "files": (files, ""),
    "webhook": (webhook, ""),
    "postgres": (on_postgres, "database"),
    "kafka": (on_kafka, "kafka"),
}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.kafka) if name == "kafka" else name for name in PLACES])
def wanted(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Which implementation, and what it needs."""
    make, needs = PLACES[request.param]
    return make, request.getfixturevalue(needs) if needs else None


@pytest_asyncio.fixture
async def place(wanted: tuple[Any, Any], tmp_path: Path) -> AsyncIterator[Place]:
    """One implementation, for one test."""
    make, needed = wanted
    async with AsyncExitStack() as stack:
        yield await make(stack, tmp_path, needed)


async def test_a_notice_arrives_once_with_its_id_and_its_words(place: Place) -> None:
    """What every channel is for."""
    id_ = f"n-once-{uuid.uuid4().hex}"
    await place.notifier.send(place.notice(id=id_))
    ((arrived, words),) = [found for found in await place.arrived() if found[0] == id_]
    assert arrived == id_
    assert "decision is waiting" in words or words == "Approval"


async def test_the_same_notice_again_has_the_same_id(place: Place) -> None:
    """So that whoever remembers ids takes it once, also after our crash."""
    for _ in range(2):
        await place.notifier.send(place.notice(id="n-same"))
    assert {id_ for id_, _ in await place.arrived() if id_ == "n-same"} == {"n-same"}


async def test_several_at_once_all_arrive(place: Place) -> None:
    """Tasks of one sender share a channel."""
    await asyncio.gather(*(place.notifier.send(place.notice(id=f"n-many-{n}")) for n in range(5)))
    arrived = [id_ for id_, _ in await place.arrived() if id_.startswith("n-many-")]
    assert sorted(arrived) == [f"n-many-{n}" for n in range(5)]


async def test_after_a_rest_the_channel_works_on(place: Place) -> None:
    """Connections are closed when there is nothing to send, and opened again."""
    for n in range(2):
        await place.notifier.send(place.notice(id=f"n-rest-{n}"))
        await place.notifier.rest()
    assert [id_ for id_, _ in await place.arrived() if id_.startswith("n-rest-")] == ["n-rest-0", "n-rest-1"]


async def test_what_could_not_be_sent_says_so(place: Place) -> None:
    """Nothing is taken for sent that was not; most trouble passes."""
    await place.notifier.rest()
    await place.break_down()
    with pytest.raises(NotSentError) as caught:
        await place.notifier.send(place.notice(id="n-broken", **({"facts": place.bad} if place.bad else {})))
    assert caught.value.reason
    assert "n-broken" not in [id_ for id_, _ in await _quietly(place)]


async def _quietly(place: Place) -> list[tuple[str, str]]:
    """What arrived, where the broken place can still be asked; a webhook's request came, but was refused."""
    if isinstance(place.notifier, Mailbox | Webhook):
        return []
    return await place.arrived()
