"""A whole product: what happens to a task reaches the people whom it concerns, and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.api.conftest import Product
from tests.notices.product import SECRET, about, changed, mail_where, mails, notices_where, started, text_of, voted
from tests.notices.web_server import web_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_candidates_are_told_and_only_they(telling: Product, mailbox: Path) -> None:
    """People and groups, but not the requester, who may not decide; and nothing of the case stands in the mail."""
    saga_id, key = await started(telling, "ravi")
    task = await telling.task_of(saga_id)
    for who in ("maria", "noel", "manager"):
        mail = await mail_where(mailbox, about(saga_id, who))
        assert str(mail["Subject"]) == "To decide: Buy"
        assert f"https://office.bank.example/office/tasks/{task['id']}" in unquote(text_of(mail))
        assert mail["Auto-Submitted"] == "auto-generated"
        for body in (text_of(mail), text_of(mail, "html"), str(mail["Subject"])):
            assert "Acme" not in body
            assert key not in body
    assert not mails(mailbox, "ravi@")
    listed = await notices_where(telling, lambda item: item["state"] == "sent", saga=saga_id, who="role:manager")
    assert [(item["kind"], item["channel"], item["address"]) for item in listed] == [
        ("opened", "mail", "manager@bank.example")
    ]


async def test_a_ladder_reminds_first_and_then_tells_the_next_level(telling: Product, mailbox: Path) -> None:
    """The reminder goes to the candidates, the escalation to its level alone."""
    saga_id, _ = await started(telling, "ravi", "slow")
    await mail_where(mailbox, about(saga_id, "director"))
    await notices_where(telling, lambda item: item["kind"] == "reminded" and item["who"] == "person:noel", saga=saga_id)
    items = (await telling.get("/v1/notices", saga=saga_id, limit=100)).json()["items"]
    told = sorted((item["kind"], item["who"]) for item in items if item["who"] != "system")
    assert told == [
        ("escalated", "role:director"),
        ("opened", "person:maria"),
        ("opened", "person:noel"),
        ("reminded", "person:maria"),
        ("reminded", "person:noel"),
    ]


async def test_voters_hear_of_a_change_and_the_requester_of_the_end(telling: Product, mailbox: Path) -> None:
    """Whoever voted must look again; whoever asked hears what became of it."""
    saga_id, key = await started(telling, "ravi")
    assert await voted(telling, saga_id, "maria") == 200
    await changed(telling, key)
    mail = await mail_where(mailbox, lambda mail: saga_id in text_of(mail) and "Changed" in str(mail["Subject"]))
    assert "maria" in str(mail["To"])
    for who in ("maria", "noel"):
        assert await voted(telling, saga_id, who) == 200
    mail = await mail_where(mailbox, about(saga_id, "ravi@"))
    assert str(mail["Subject"]) == "Decided: Buy"
    assert "approve" in text_of(mail)
    items = (await telling.get("/v1/notices", saga=saga_id, limit=100)).json()["items"]
    assert [item["who"] for item in items if item["kind"] == "amended" and item["who"] != "system"] == ["person:maria"]


async def test_a_contact_of_the_address_book_is_told_there(telling: Product) -> None:
    """A group's chat by webhook: signed, under the notice's id, without the business key."""
    async with web_server() as server:
        body = {"who": "role:director", "channel": "webhook", "address": f"http://127.0.0.1:{server.port}/hook/secret"}
        answer = await telling.post("/v1/notice-contacts", body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["address"] == "http://127.0.0.1/…", "such an address may hold a secret"
        saga_id, key = await started(telling, "ravi", "slow")
        (item,) = await notices_where(telling, lambda item: item["state"] == "sent", saga=saga_id, who="role:director")
        (posted,) = server.posted
        assert item["channel"] == "webhook"
        headers = posted.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + posted.body
        expected = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        said = json.loads(posted.body)
        assert (said["type"], said["data"]["saga_id"], said["data"]["level"]) == ("task.escalated", saga_id, 1)
        assert key not in posted.body.decode()
    gone = await telling.post("/v1/notice-contacts/remove", {"who": "role:director", "channel": "webhook"})
    assert gone.status_code == 200
    assert (await telling.post("/v1/notice-contacts/remove", {"who": "role:nobody"})).status_code == 404


async def test_what_cannot_be_sent_is_seen_and_sent_again(telling: Product) -> None:
    """Given up after its attempts, with the reason; an operator sends it again, once, and under its old id."""
    async with web_server() as server:
        server.statuses = [500, 500]
        body = {"who": "role:director", "channel": "webhook", "address": f"http://127.0.0.1:{server.port}/"}
        await telling.post("/v1/notice-contacts", body)
        saga_id, _ = await started(telling, "ravi", "slow")
        (failed,) = await notices_where(telling, lambda item: item["state"] == "failed", saga=saga_id)
        assert (failed["reason"], failed["attempts"]) == ("the receiver answered 500", 2)
        path = f"/v1/notices/{failed['id']}"
        assert (await telling.post(f"{path}/retry", {"reason": ""})).status_code == 422
        assert (await telling.post(f"{path}/retry", {"reason": "mended"})).status_code == 202
        await notices_where(telling, lambda item: item["state"] == "sent", saga=saga_id, who="role:director")
        assert len({posted.headers["webhook-id"] for posted in server.posted}) == 1
        assert len(server.posted) == 3
        assert (await telling.post(f"{path}/retry", {"reason": "again"})).status_code == 409
        assert (await telling.get(path)).json()["state"] == "sent"
    await telling.post("/v1/notice-contacts/remove", {"who": "role:director", "channel": "webhook"})


async def test_people_choose_when_they_are_told_but_not_where(telling: Product) -> None:
    """noel wants a digest: nothing comes at once; his address stays the operators' matter."""
    mine = (await telling.get("/v1/notice-preferences", actor="noel")).json()["items"]
    assert [(item["channel"], item["delivery"], item["updatedAt"]) for item in mine] == [("mail", "at_once", None)]
    wish = {"delivery": "digest", "digestAt": "07:30", "zone": "Asia/Kolkata", "language": "en-IN"}
    answer = await telling.post("/v1/notice-preferences", wish, actor="noel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["who"] == "person:noel"
    assert (await telling.post("/v1/notice-preferences", {"channel": "webhook"}, actor="noel")).status_code == 422
    for wrong in ({"zone": "Mars"}, {"digestAt": "25:00"}, {"address": "noel@evil.example"}, {"delivery": "never"}):
        assert (await telling.post("/v1/notice-preferences", wrong, actor="noel")).status_code == 422
    await telling.post("/v1/notice-preferences", {"delivery": "escalations"}, actor="noel")
    saga_id, _ = await started(telling, "ravi")
    await notices_where(telling, lambda item: item["who"] == "person:maria", saga=saga_id)
    assert not (await telling.get("/v1/notices", saga=saga_id, who="person:noel")).json()["items"]
    await telling.post("/v1/notice-contacts/remove", {"who": "person:noel"})


async def test_only_operators_see_notices_and_addresses(telling: Product) -> None:
    """An approver sees neither whom else the product tells, nor where."""
    for path in ("/v1/notices", "/v1/notices/1", "/v1/notice-contacts"):
        headers = {"X-Actor": "maria", "X-Actor-Roles": "approver"}
        assert (await telling.client.get(path, headers=headers)).status_code == 403
    for address in ("nobody", "a@b\r\nBcc: x@y.example", "a b@c.example", "a@-b.example"):
        answer = await telling.post("/v1/notice-contacts", {"who": "person:x", "address": address})
        assert answer.status_code == 422, address
    for address in ("https://10.0.0.1:x/", "ftp://x/", "https://user:pw@host/"):
        body = {"who": "person:x", "channel": "webhook", "address": address}
        assert (await telling.post("/v1/notice-contacts", body)).status_code == 422, address
    assert (await telling.get("/v1/notices", cursor="bad")).status_code == 400
    assert (await telling.get("/v1/notices/999999999")).status_code == 404


async def test_lists_are_pages_that_meet(telling: Product) -> None:
    """Every notice once, newest first: three people and the event."""
    saga_id, _ = await started(telling, "ravi")
    await notices_where(telling, lambda item: item["who"] == "system", saga=saga_id)
    whole = [item["id"] for item in (await telling.get("/v1/notices", saga=saga_id)).json()["items"]]
    first = (await telling.get("/v1/notices", saga=saga_id, limit=3)).json()
    rest = (await telling.get("/v1/notices", saga=saga_id, limit=3, cursor=first["next"])).json()
    assert [item["id"] for item in (*first["items"], *rest["items"])] == whole == sorted(whole, reverse=True)
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (3, 1, "")


async def test_health_tells_what_notices_do(telling: Product) -> None:
    """Both loops are watched, and what they did is counted."""
    health = telling.runtime.health()
    assert {"notices-plan", "notices-send"} <= {loop.name for loop in health.loops if loop.ready}
    assert health.facts["notices_sent"] > 0
    assert health.facts["notices_channels_away"] == 0
