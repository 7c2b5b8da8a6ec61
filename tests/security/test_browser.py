"""Sections E and G: what a browser may be made to do by others, and what floods and odd requests come to."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from orchestrator.api.body import StrictBody
from orchestrator.api.views import Actor
from orchestrator.identity.limits import Attempts
from orchestrator.identity.secrets import csrf_token
from tests.identity.bank import Bank
from tests.security.wire import answered, status

pytestmark = pytest.mark.asyncio(loop_scope="module")

SESSION = "orchestrator-session"
EVIL = ("null", "https://evil.example", "http://127.0.0.1.evil.example", "http://evil-127.0.0.1", "http://localhost")


@pytest.fixture(autouse=True)
def _forgiven(bank: Bank) -> None:
    bank.identity.attempts = Attempts()


def own_origin(bank: Bank) -> str:
    """Where our own pages are."""
    return str(bank.client.base_url).rstrip("/")


async def session_of(bank: Bank, who: str = "ap1", roles: tuple[str, ...] = ("manager",)) -> str:
    """The token of a session that somebody just began."""
    from orchestrator.identity.local import actor_of_user, local_user

    user = local_user(who, who.upper(), capacities=["approver", "viewer"], roles=roles)
    return await bank.identity.kept.begin_session(actor_of_user(user), seconds=600)


# Headers of the request beside the cookie, whether the right token is with it, and how the body is sent.
CROSS_SITE: dict[str, tuple[dict[str, str], bool, str]] = {
    "E1 a form of another site": ({"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, False, "form"),
    "E1 JSON as text": ({"Origin": "https://evil.example", "Content-Type": "text/plain"}, False, "json"),
    "E1 nobody says where from": ({}, True, "json"),
    "E1 another site that knows the token": ({"Origin": "https://evil.example"}, True, "json"),
    "E1 a site beside ours": ({"Sec-Fetch-Site": "same-site"}, True, "json"),
    "E1 no page at all": ({"Sec-Fetch-Site": "none"}, True, "json"),
    "E1 a sandbox": ({"Origin": "null"}, True, "json"),
    "E1 our page, no token": ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, False, "json"),
    "E1 our page's form, no token": ({"Origin": "OWN"}, False, "form"),
    "E1 says both": ({"Origin": "OWN", "Sec-Fetch-Site": "cross-site"}, True, "json"),
}


@pytest.mark.parametrize("case", CROSS_SITE)
async def test_a_page_of_another_site_decides_nothing(bank: Bank, case: str) -> None:
    """E1: whatever it sends with the cookie that the browser adds."""
    headers, with_token, kind = CROSS_SITE[case]
    task = await bank.task(await bank.start())
    token = await session_of(bank)
    sent = {name: value.replace("OWN", own_origin(bank)) for name, value in headers.items()}
    sent["Cookie"] = f"{SESSION}={token}"
    if with_token:
        sent["X-CSRF-Token"] = csrf_token(token)
    before = await bank.records()
    body = {"outcome": "approve", "subjectHash": task["subjectHash"]}
    given: dict[str, Any] = {"data": body} if kind == "form" else {"json": body}
    answer = await bank.ask("POST", f"/v1/tasks/{task['id']}/decide", headers=sent, **given)
    assert (answer.status, answer.code) == (403, "cross_site"), answer.response.text
    assert await bank.records() == before
    assert [(row["outcome"], row["actor"]) for row in answer.logged] == [("refused", "ap1")]


@pytest.mark.parametrize("said", [{"Origin": "OWN"}, {"Sec-Fetch-Site": "same-origin"}])
async def test_our_own_page_decides(bank: Bank, said: dict[str, str]) -> None:
    """With the token of its session, from our own origin: what the cases above lack."""
    task = await bank.task(await bank.start())
    token = await session_of(bank)
    headers = {name: value.replace("OWN", own_origin(bank)) for name, value in said.items()}
    headers |= {"Cookie": f"{SESSION}={token}", "X-CSRF-Token": csrf_token(token)}
    answer = await bank.decide(task, "anon", headers=headers)
    assert answer.status == 200, answer.response.text
    assert [(row["actor"], row["authentication"]) for row in answer.logged] == [("ap1", "local-user")]


async def test_a_token_of_another_session_is_none(bank: Bank) -> None:
    """A form that somebody else opened does not fit."""
    task = await bank.task(await bank.start())
    token, other = await session_of(bank), await session_of(bank, "ap2")
    headers = {"Origin": own_origin(bank), "Cookie": f"{SESSION}={token}", "X-CSRF-Token": csrf_token(other)}
    assert (await bank.decide(task, "anon", headers=headers)).code == "cross_site"


@pytest.mark.parametrize("origin", EVIL)
async def test_no_other_origin_is_ever_let_read(bank: Bank, origin: str) -> None:
    """E3: there is no CORS here, for nobody, with or without credentials."""
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Actor"}
    for method, path in (("GET", "/v1/sagas"), ("OPTIONS", "/v1/sagas"), ("GET", "/office/login")):
        answer = await bank.ask(method, path, "vie" if method == "GET" else "anon", headers=asked)
        assert not [name for name in answer.response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    "path", ["/office/login", "/office/help", "/v1/sagas", "/healthz", "/nowhere", "/problems/expired"]
)
async def test_every_answer_says_what_a_browser_may_make_of_it(bank: Bank, path: str) -> None:
    """E5: no inline script or style, in no frame, nothing sniffed, nothing kept."""
    headers = (await bank.ask("GET", path, "vie")).response.headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] in ("same-origin", "no-referrer")
    if path.startswith(("/office", "/v1")):
        assert headers["cache-control"] == "no-store"


async def test_over_https_browsers_are_told_to_stay_there() -> None:
    """E5: HSTS, where browsers reach us over https; not on a laptop, where it would lock them out."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    for secure in (True, False):
        transport = httpx2.ASGITransport(app=StrictBody(application, 1000, secure))
        async with httpx2.AsyncClient(transport=transport, base_url="https://bank.example") as client:
            answer = await client.get("/")
        assert ("strict-transport-security" in answer.headers) == secure


async def test_pages_and_cookies_over_https_are_bound_to_this_host(bank: Bank) -> None:
    """The cookie's name makes browsers refuse it from anywhere else, and over http."""
    from orchestrator.identity.gate import Identity
    from tests.identity.bank import bank_settings

    settings = bank_settings(bank.runtime.database_url, bank.provider.issuer, public_url="https://bank.example")
    identity = Identity(settings, bank.runtime.store.pools, tenant="main", tenants=frozenset({"main"}))
    assert identity.cookie == "__Host-session"
    usual, bank.app.state.identity = bank.app.state.identity, identity
    try:
        leaving = await bank.client.get("/office/login/provider")
    finally:
        bank.app.state.identity = usual
        await identity.close()
    cookie = leaving.headers["set-cookie"].lower()
    assert cookie.startswith("__host-sign-in=")
    assert all(word in cookie for word in ("secure", "httponly", "path=/", "samesite=lax"))
    assert "domain" not in cookie
    assert "redirect_uri=https%3A%2F%2Fbank.example%2Foffice%2Fcallback" in leaving.headers["location"]


# --- G: floods and odd requests ---------------------------------------------------------------------------------------


def raw(method: str, path: str, headers: list[str], body: bytes = b"") -> bytes:
    """A request as bytes."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode() + body


async def test_a_body_over_the_limit_is_refused_before_it_is_read(bank: Bank) -> None:
    """G1: by its declared length, without a byte of it; and by its true one."""
    declared = raw("POST", "/v1/sagas/payout", ["Content-Length: 9999999999", "Content-Type: application/json"])
    head = await answered(str(bank.client.base_url), declared, half=True)
    assert status(head) == 413
    assert b"connection: close" in head.lower()
    chunk = b"%x\r\n%s\r\n" % (600_000, b" " * 600_000)
    chunked = raw("POST", "/v1/sagas/payout", ["Transfer-Encoding: chunked", "Content-Type: application/json"])
    assert status(await answered(str(bank.client.base_url), chunked + chunk * 2, half=True)) == 413


@pytest.mark.parametrize(
    "request_",
    [
        raw("POST", "/v1/events", ["Content-Length: 4", "Transfer-Encoding: chunked"], b"0\r\n\r\n"),
        raw("POST", "/v1/events", ["Content-Length: 4", "Content-Length: 5"], b"aaaaa"),
        raw("POST", "/v1/events", ["Transfer-Encoding: chunked"], b"zz\r\n\r\n"),
        raw("POST", "/v1/events", ["Content-Length: -1"]),
        raw("GET", "/v1/events", ["X-Folded: a\r\n b"]),
        b"GET /v1/sagas HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /v1/sagas\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["CL and TE", "two lengths", "chunk size", "negative", "folded", "two hosts", "null"],
)
async def test_what_two_parsers_would_read_differently_is_refused(bank: Bank, request_: bytes) -> None:
    """G9: 4xx, and the connection is of no more use."""
    answer = await answered(str(bank.client.base_url), request_)
    assert status(answer) in (400, 401, 404), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_ranges_without_number_cost_nothing(bank: Bank) -> None:
    """G3: nothing here is served in ranges, so a header of thousands of them is read by nobody."""
    ranges = "bytes=" + ",".join(f"{number}-{number + 1}" for number in range(1, 4_000))
    began = time.process_time()
    for path in ("/v1/sagas", "/office/help", "/healthz"):
        answer = await bank.ask("GET", path, "vie", headers={"Range": ranges})
        assert answer.status in (200, 400, 431)
        assert "content-range" not in answer.response.headers
    assert time.process_time() - began < 10


async def test_a_form_of_ten_thousand_parts_is_refused(bank: Bank) -> None:
    """F9: before anybody makes fields of it."""
    boundary = "x" * 20
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    body = (part * 10_000 + f"--{boundary}--\r\n").encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Origin": own_origin(bank)}
    answer = await bank.ask("POST", "/office/login", headers=headers, content=body)
    assert answer.status in (400, 413, 422)


async def test_a_hundred_repeats_of_a_decision_are_one(bank: Bank) -> None:
    """C5: the same key and person: the same answer and one record; another person with that key has an own answer."""
    task = await bank.task(await bank.start())
    before = await bank.records()
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"outcome": "approve", "subjectHash": task["subjectHash"]}
    headers = {**bank.bearer("ap1"), **key}
    path = f"/v1/tasks/{task['id']}/decide"
    first = await bank.client.post(path, json=body, headers=headers)
    repeats = await asyncio.gather(*(bank.client.post(path, json=body, headers=headers) for _ in range(100)))
    assert first.status_code == 200
    assert {(answer.status_code, answer.text) for answer in repeats} == {(200, first.text)}
    other = await bank.client.post(path, json={**body, "reason": "another"}, headers=headers)
    assert other.status_code == 422
    somebody = await bank.client.post(path, json=body, headers={**bank.bearer("ap2"), **key})
    assert (somebody.status_code, somebody.json()["code"]) == (409, "already_decided")
    votes = await bank.engine.records(task["id"].partition(":")[0], Actor("test"))
    assert [record.type for record in votes].count("task.voted") == 1
    assert await bank.records() > before


@pytest.mark.parametrize(
    ("path", "headers", "back"),
    [
        ("/office/inbox/rows?tab=me", {"HX-Current-URL": "http://any/office/inbox?tab=me"}, "/office/inbox?tab=me"),
        ("/office/inbox/rows?tab=me", {"HX-Current-URL": "http://[bad"}, "/office"),
        ("/office/inbox/rows?tab=me", {}, "/office"),
        ("/office/inbox?text=" + "x" * 2_000, None, "/office/inbox"),
    ],
    ids=["a part leads to its page", "no address", "no page named", "too long to be kept"],
)
async def test_whoever_signs_in_anew_comes_back_to_a_page(
    bank: Bank, path: str, headers: dict[str, str] | None, back: str
) -> None:
    """Not to a part of one, and not to a bad request because the address was long."""
    part = {} if headers is None else {"HX-Request": "true", **headers}
    answer = (await bank.ask("GET", path, headers={"Accept": "text/html", **part})).response
    target = answer.headers["location" if headers is None else "hx-redirect"]
    assert parse_qs(urlsplit(target).query)["next"] == [back]
    assert (await bank.ask("GET", target)).status == 200
