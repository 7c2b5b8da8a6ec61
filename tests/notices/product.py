"""Reading what a product told its people."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.api.conftest import Product

SECRET = b"a secret of tests, 32 bytes long"
SECONDS_MAX = 20


def mails(directory: Path, to: str = "") -> list[EmailMessage]:
    """The mails that lie there, oldest first; only those to one address, where it is given."""
    files = sorted(directory.glob("*.eml"), key=lambda file: file.stat().st_mtime_ns) if directory.is_dir() else []
    found: list[EmailMessage] = [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]
    return [mail for mail in found if to in str(mail["To"])]


async def mail_where(directory: Path, fits: Callable[[EmailMessage], bool]) -> EmailMessage:
    """The first mail that fits, once it is there. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            for mail in mails(directory):
                if fits(mail):
                    return mail
            await asyncio.sleep(0.05)


def about(saga_id: str, to: str) -> Callable[[EmailMessage], bool]:
    """Mails to somebody about a saga."""
    return lambda mail: to in str(mail["To"]) and saga_id in text_of(mail)


def text_of(mail: EmailMessage, kind: str = "plain") -> str:
    """The body of a mail."""
    body = mail.get_body((kind,))
    assert body is not None
    return str(body.get_content())


async def notices_where(
    product: Product, fits: Callable[[dict[str, Any]], bool], **filters: Any
) -> list[dict[str, Any]]:
    """The notices of a list that fit, once there is one. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS_MAX):
        while True:
            items = (await product.get("/v1/notices", limit=200, **filters)).json()["items"]
            if found := [item for item in items if fits(item)]:
                return found
            await asyncio.sleep(0.05)


async def started(product: Product, requester: str, mood: str = "") -> tuple[str, str]:
    """Starts a purchase; gives its saga id and business key once it rests."""
    key = f"P-{uuid.uuid4().hex[:8]}"
    body = {"purchase_id": key, "requester": requester, "mood": mood}
    answer = await product.post("/v1/sagas/purchase", body, actor=requester)
    assert answer.status_code == 201, answer.text
    saga_id = str(answer.json()["sagaId"])
    await product.engine.settled(saga_id, seconds_max=SECONDS_MAX, tenant="main")
    return saga_id, key


async def voted(product: Product, saga_id: str, by: str, outcome: str = "approve") -> int:
    """One vote on a saga's open task; gives the status of the answer."""
    shown = await product.task_of(saga_id)
    body = {"outcome": outcome, "subjectHash": shown["subjectHash"]}
    return (await product.post(f"/v1/tasks/{shown['id']}/decide", body, actor=by)).status_code


async def changed(product: Product, key: str) -> None:
    """The subject of a purchase changes."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": uuid.uuid4().hex,
        "ce-source": "/tests",
        "ce-type": "noticetest.PurchaseChanged",
        "X-Actor": "service:tests",
    }
    data = {"purchase_id": key, "secret": "Acme AG, 90,000 EUR"}
    answer = await product.client.post("/v1/events", json=data, headers=headers)
    assert answer.status_code == 202, answer.text
