"""People sign in at a real OpenID Connect server, and out again."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from orchestrator.identity.secrets import csrf_token
from tests.identity.bank import Bank

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:get_jwt_config"),  # the provider's package, with a newer Authlib
]

SESSION, SIGN_IN = "orchestrator-session", "orchestrator-sign-in"


def browser(bank: Bank) -> httpx2.AsyncClient:
    """A browser of its own, with its own cookies, that follows nothing by itself."""
    return httpx2.AsyncClient(
        base_url=str(bank.client.base_url), trust_env=False, timeout=30, headers={"Accept": "text/html"}
    )


async def sign_in(bank: Bank, client: httpx2.AsyncClient, sub: str, path: str = "/office/login/provider") -> str:
    """The whole way; gives where the browser ends up."""
    leaving = await client.get(path)
    assert leaving.status_code == 303, leaving.text
    back = await bank.provider.agree(leaving.headers["location"], sub)
    answer = await client.get(back)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def test_somebody_signs_in_at_the_provider_and_is_known(bank: Bank) -> None:
    """Authorisation code with PKCE: the provider refuses a code without its verifier, so it was there."""
    async with browser(bank) as client:
        leaving = await client.get("/office/login/provider?next=/office/sagas%3Fphase%3Dforward")
        asked = parse_qs(urlsplit(leaving.headers["location"]).query)
        assert asked["code_challenge_method"] == ["S256"]
        assert re.fullmatch(r"[\w-]{43}", asked["code_challenge"][0])
        assert {"state", "nonce"} <= asked.keys()
        back = await bank.provider.agree(leaving.headers["location"], "ap1")
        answer = await client.get(back)
        assert (answer.status_code, answer.headers["location"]) == (303, "/office/sagas?phase=forward")
        me = (await client.get("/v1/me")).json()
    assert me["id"] == "ap1"
    assert me["name"] == "AP1"
    assert me["roles"] == ["finance", "manager"]
    assert me["capacities"] == ["approver"]
    assert me["authentication"] == "oidc"
    assert me["tenant"] == "main"


async def test_a_session_is_kept_as_a_hash_in_a_cookie_that_no_script_reads(bank: Bank) -> None:
    """The database holds nothing that a browser could show."""
    async with browser(bank) as client:
        await sign_in(bank, client, "ap1")
        token = client.cookies[SESSION]
        stored = await bank.owner.fetch("SELECT key::text FROM sessions")
    assert len(token) == 43
    assert all(token not in row["key"] for row in stored)


async def test_the_session_of_before_is_worth_nothing_after_a_sign_in(bank: Bank) -> None:
    """A cookie that somebody planted, or knew from before, does not become a session (A17)."""
    async with browser(bank) as client:
        client.cookies.set(SESSION, "planted-by-somebody-else")
        await sign_in(bank, client, "ap1")
        first = dict(client.cookies)[SESSION] if len(client.cookies) == 1 else None
    planted = await bank.ask("GET", "/v1/me", headers={"Cookie": f"{SESSION}=planted-by-somebody-else"})
    assert planted.status == 401
    assert first != "planted-by-somebody-else"


async def test_signing_in_again_ends_the_session_of_before(bank: Bank) -> None:
    """One browser has one session; its token changes each time."""
    async with browser(bank) as client:
        await sign_in(bank, client, "ap1")
        old = client.cookies[SESSION]
        await sign_in(bank, client, "ap2")
        new = client.cookies[SESSION]
    assert old != new
    assert (await bank.ask("GET", "/v1/me", headers={"Cookie": f"{SESSION}={old}"})).status == 401
    assert (await bank.ask("GET", "/v1/me", headers={"Cookie": f"{SESSION}={new}"})).response.json()["id"] == "ap2"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda back: re.sub(r"state=[^&]*", "state=another", back), "wrong state"),
        (lambda back: re.sub(r"&?state=[^&]*", "", back), "no state"),
        (lambda back: back + "&state=twice", "state twice"),
        (lambda back: back + "&iss=https://evil.example", "another issuer"),
        (lambda back: re.sub(r"code=[^&]*", "code=guessed", back), "a code of nobody"),
        (lambda back: re.sub(r"code=[^&]*", "error=access_denied", back), "the provider says no"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_that_is_not_to_our_question_signs_nobody_in(bank: Bank, change, why) -> None:  # type: ignore[no-untyped-def]
    """Whatever of it is wrong, and only once: the right answer afterwards comes too late."""
    async with browser(bank) as client:
        leaving = await client.get("/office/login/provider")
        back = await bank.provider.agree(leaving.headers["location"], "ap1")
        wrong = await client.get(change(back))
        assert wrong.status_code == 401, why
        assert SESSION not in client.cookies
        assert "state" not in wrong.text.lower()
        again = await client.get(back)
        assert again.status_code == 401
        assert SESSION not in client.cookies


async def test_another_browser_cannot_finish_a_sign_in(bank: Bank) -> None:
    """Nobody can be signed in as somebody else by a link (login CSRF)."""
    async with browser(bank) as attacker, browser(bank) as victim:
        leaving = await attacker.get("/office/login/provider")
        back = await bank.provider.agree(leaving.headers["location"], "ap2")
        answer = await victim.get(back)
    assert answer.status_code == 401
    assert SESSION not in victim.cookies


async def test_a_nonce_of_another_sign_in_is_refused(bank: Bank) -> None:
    """The ID token must be the answer to this very question."""
    async with browser(bank) as client:
        leaving = await client.get("/office/login/provider")
        url = re.sub(r"nonce=[^&]*", "nonce=of-another-one", leaving.headers["location"])
        back = await bank.provider.agree(url, "ap1")
        assert (await client.get(back)).status_code == 401
        assert SESSION not in client.cookies


async def test_a_code_is_worth_nothing_without_its_verifier(bank: Bank) -> None:
    """The provider of these tests really checks PKCE; a challenge of somebody else does not fit."""
    async with browser(bank) as client:
        leaving = await client.get("/office/login/provider")
        url = re.sub(r"code_challenge=[^&]*", f"code_challenge={'x' * 43}", leaving.headers["location"])
        back = await bank.provider.agree(url, "ap1")
        assert (await client.get(back)).status_code == 401


@pytest.mark.parametrize(
    "next_",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/office//evil.example/..",
        "/office\\..\\evil",
        "/officeevil",
        "javascript:alert(1)",
        "/office/\r\nSet-Cookie: a=b",
        "/v1/sagas",
        "",
    ],
)
async def test_after_the_sign_in_nobody_is_sent_to_another_site(bank: Bank, next_: str) -> None:
    """Only to our own back office (E9)."""
    async with browser(bank) as client:
        params = {"next": next_}
        leaving = await client.get("/office/login/provider", params=params)
        back = await bank.provider.agree(leaving.headers["location"], "ap1")
        assert (await client.get(back)).headers["location"] == "/office"


async def test_signing_out_ends_the_session_for_everybody_who_holds_it(bank: Bank) -> None:
    """On the server, not only in this browser; it takes the form's token."""
    async with browser(bank) as client:
        await sign_in(bank, client, "ap1")
        token = client.cookies[SESSION]
        origin = {"Origin": str(bank.client.base_url).rstrip("/")}
        refused = await client.post("/office/logout", headers=origin)
        assert refused.status_code == 403
        assert (await client.get("/v1/me")).status_code == 200
        left = await client.post("/office/logout", headers=origin, data={"csrf_token": csrf_token(token)})
        assert left.status_code == 303
        assert left.headers["location"].startswith(f"{bank.provider.issuer}/oauth2/end_session")
    assert (await bank.ask("GET", "/v1/me", headers={"Cookie": f"{SESSION}={token}"})).status == 401


async def test_a_page_leads_to_the_sign_in_and_back(bank: Bank) -> None:
    """Whoever opens a link from a mail is asked who they are, and then sees what they wanted to."""
    async with browser(bank) as client:
        answer = await client.get("/office/help?x=1")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/office/login?next=%2Foffice%2Fhelp%3Fx%3D1"
        page = await client.get(answer.headers["location"])
        assert page.status_code == 200
        assert "/office/login/provider?next=%2Foffice%2Fhelp%3Fx%3D1" in page.text


async def test_whoever_is_barred_while_signed_in_is_out_at_once(bank: Bank) -> None:
    """The session ends, and no new one begins."""
    async with browser(bank) as client:
        await sign_in(bank, client, "vie")
        assert (await client.get("/v1/me")).status_code == 200
        await bank.identity.kept.bar("main", "vie", reason="test", by="adm")
        try:
            assert (await client.get("/v1/me")).status_code == 401
            leaving = await client.get("/office/login/provider")
            back = await bank.provider.agree(leaving.headers["location"], "vie")
            assert (await client.get(back)).status_code == 401
        finally:
            await bank.identity.kept.admit("main", "vie")


async def test_an_idle_session_and_an_old_one_are_over(bank: Bank) -> None:
    """By the database's clock; using it keeps it alive, but not beyond its end."""
    async with browser(bank) as client:
        await sign_in(bank, client, "aud")
        await bank.owner.execute("UPDATE sessions SET seen_at = seen_at - interval '20 minutes' WHERE person = 'aud'")
        for _ in range(2):  # what a page fetches by itself does not keep anybody signed in
            assert (await client.get("/v1/me", headers={"X-Background": "1"})).status_code == 200
        idle = await bank.owner.fetchval("SELECT clock_timestamp() - seen_at FROM sessions WHERE person = 'aud'")
        assert idle.total_seconds() > 1100
        assert (await client.get("/v1/me")).status_code == 200
        idle = await bank.owner.fetchval("SELECT clock_timestamp() - seen_at FROM sessions WHERE person = 'aud'")
        assert idle.total_seconds() < 600
        await bank.owner.execute("UPDATE sessions SET seen_at = seen_at - interval '31 minutes' WHERE person = 'aud'")
        assert (await client.get("/v1/me")).status_code == 401
        await sign_in(bank, client, "aud")
        await bank.owner.execute("UPDATE sessions SET ends_at = clock_timestamp() WHERE person = 'aud'")
        assert (await client.get("/v1/me")).status_code == 401


async def test_somebody_without_a_capacity_is_known_and_may_nothing(bank: Bank) -> None:
    """Signed in is not let in."""
    async with browser(bank) as client:
        await sign_in(bank, client, "nobody")
        answer = await client.get("/v1/me", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


# --- local users ------------------------------------------------------------------------------------------------------


async def test_a_local_user_signs_in_with_a_password(bank: Bank) -> None:
    """From this machine, from our own page."""
    origin = {"Origin": str(bank.client.base_url).rstrip("/")}
    async with browser(bank) as client:
        page = await client.get("/office/login")
        assert "Asha Rao" in page.text
        wrong = await client.post("/office/login", data={"user": "asha", "password": "open"}, headers=origin)
        assert wrong.status_code == 401
        empty = await client.post("/office/login", data={"user": "asha"}, headers=origin)
        assert empty.status_code == 401
        elsewhere = await client.post(
            "/office/login",
            data={"user": "asha", "password": "open sesame"},
            headers={"Origin": "https://evil.example"},
        )
        assert elsewhere.status_code == 403
        silent = await client.post("/office/login", data={"user": "asha", "password": "open sesame"})
        assert silent.status_code == 403
        good = await client.post("/office/login", data={"user": "asha", "password": "open sesame"}, headers=origin)
        assert (good.status_code, good.headers["location"]) == (303, "/office")
        me = (await client.get("/v1/me")).json()
    assert (me["id"], me["authentication"], me["capacities"]) == ("asha", "local-user", ["approver", "viewer"])


async def test_local_users_are_not_there_for_other_machines(bank: Bank) -> None:
    """A proxy in between makes the whole world look local."""
    headers = {"Origin": str(bank.client.base_url).rstrip("/"), "X-Forwarded-For": "10.1.2.3"}
    answer = await bank.ask("POST", "/office/login", data={"user": "asha", "password": "open sesame"}, headers=headers)
    assert answer.status == 404
    page = await bank.ask("GET", "/office/login", headers={"X-Forwarded-For": "10.1.2.3"})
    assert "Asha" not in page.response.text
