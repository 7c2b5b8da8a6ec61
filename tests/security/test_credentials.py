"""Section A: credentials that do not hold, each refused alike; nothing changes, nothing leaks, each is in the log."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from orchestrator.identity.limits import Attempts
from tests.identity.bank import LEAKS, Answer, Bank
from tests.identity.provider import AUDIENCE, CLIENT_ID, TestProvider

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = "/v1/definitions"  # what every capacity may


@pytest.fixture(autouse=True)
def _forgiven(bank: Bank) -> None:
    """Failures of earlier tests do not count: all come from one address."""
    bank.identity.attempts = Attempts()


def part(value: object) -> str:
    """A part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def unsigned(provider: TestProvider, algorithm: str) -> str:
    """A token with no signature, or an empty one, that says so."""
    payload = provider.access_token("ap1", ("finance",)).split(".")[1]
    return f"{part({'alg': algorithm, 'typ': 'at+jwt', 'kid': 'ours'})}.{payload}."


def with_a_shared_secret(provider: TestProvider) -> str:
    """Signed with our public key as if it were a secret that both sides know."""
    secret = json.dumps(dict(provider.key.as_dict(private=False)))
    payload = json.loads(base64.urlsafe_b64decode(provider.access_token("ap1").split(".")[1] + "=="))
    return jwt.encode({"alg": "HS256", "kid": "ours", "typ": "at+jwt"}, payload, OctKey.import_key(secret))


STRANGER = ECKey.generate_key("P-256", {"kid": "ours"})  # the same key id, another key

TOKENS: dict[str, Callable[[TestProvider], str]] = {
    "A3 none": lambda p: unsigned(p, "none"),
    "A3 None": lambda p: unsigned(p, "None"),
    "A3 nOnE": lambda p: unsigned(p, "nOnE"),
    "A3 empty signature": lambda p: p.access_token("ap1").rpartition(".")[0] + ".",
    "A3 no signature": lambda p: p.access_token("ap1").rpartition(".")[0],
    "A3 changed claims": lambda p: ".".join(
        [p.access_token("ap1").split(".")[0], part({"sub": "adm"}), p.access_token("ap1").split(".")[2]]
    ),
    "A5 shared secret": with_a_shared_secret,
    "A5 key of another algorithm": lambda p: p.access_token(
        "ap1", key=p.other_key, header={"alg": "RS256", "kid": "bound"}
    ),
    "A5 key in the header": lambda p: p.access_token(
        "ap1", key=STRANGER, header={"jwk": dict(STRANGER.as_dict(private=False))}
    ),
    "A5 a stranger's key": lambda p: p.access_token("ap1", key=STRANGER),
    "A7 wrong audience": lambda p: p.access_token("ap1", aud="https://other.example"),
    "A7 no audience": lambda p: p.access_token("ap1", aud=None),
    "A7 audiences": lambda p: p.access_token("ap1", aud=[AUDIENCE, "https://other.example"]),
    "A7 audience as prefix": lambda p: p.access_token("ap1", aud=AUDIENCE + "/"),
    "A7 wrong issuer": lambda p: p.access_token("ap1", iss="https://evil.example"),
    "A7 issuer with a slash": lambda p: p.access_token("ap1", iss=p.issuer + "/"),
    "A7 expired": lambda p: p.access_token("ap1", exp=int(time.time()) - 60),
    "A7 never expires": lambda p: p.access_token("ap1", exp=None),
    "A7 expires as text": lambda p: p.access_token("ap1", exp="2999-01-01"),
    "A7 not yet": lambda p: p.access_token("ap1", nbf=int(time.time()) + 600),
    "A7 made in the future": lambda p: p.access_token("ap1", iat=int(time.time()) + 600),
    "A9 ID token by its type": lambda p: p.access_token("ap1", header={"typ": "JWT"}),
    "A9 ID token by its audience": lambda p: p.access_token("ap1", aud=CLIENT_ID),
    "A9 ID token by its nonce": lambda p: p.access_token("ap1", nonce="n"),
    "A9 ID token by its hash": lambda p: p.access_token("ap1", at_hash="h"),
    "A9 refresh token": lambda p: p.access_token("ap1", typ="Refresh"),
    "A9 used as id": lambda p: p.access_token("ap1", token_use="id"),
    "A11 unknown key": lambda p: p.access_token("ap1", header={"kid": "unknown"}),
    "extensions that we must know": lambda p: p.access_token("ap1", header={"crit": ["b64"], "b64": True}),
    "no subject": lambda p: p.access_token("ap1", sub=None),
    "an odd subject": lambda p: p.access_token("ap1\u202e"),
    "a subject that looks alike": lambda p: p.access_token("\uff41p1"),
    "a tenant that is not here": lambda p: p.access_token("ap1", tenant="t9"),
    "groups of another form": lambda p: p.access_token("ap1", {"finance": True}),
    "barred": lambda p: p.access_token("old", ("finance", "manager")),
    "rubbish": lambda p: "not.a.token",
    "far too long": lambda p: "x" * 20_000 + ".y.z",
    "a key of nobody": lambda p: f"orc_{'a' * 12}_{'b' * 43}",
    "a key without its secret": lambda p: f"orc_{'a' * 12}",
}


def refused(answer: Answer, before: int, after: int) -> list[str]:
    """What is not as it must be of an answer to somebody who is not known."""
    whole = answer.response.text + str(answer.response.headers)
    said = [
        (answer.status == 401, f"status {answer.status}"),
        (answer.code == "unauthenticated", f"code {answer.code}"),
        (answer.response.headers.get("www-authenticate") == "Bearer", "no WWW-Authenticate"),
        (before == after, "records were written"),
        (not any(leak in whole for leak in LEAKS), "it leaks"),
        ([row["outcome"] for row in answer.logged] == ["refused"], f"log has {answer.logged}"),
        ([row["actor"] for row in answer.logged] == [""], "the log names somebody"),
    ]
    return [what for good, what in said if not good]


@pytest.mark.parametrize("case", TOKENS)
async def test_a_token_that_does_not_hold_is_refused(bank: Bank, case: str) -> None:
    """In the same words whatever is wrong with it: the reason is nobody's business."""
    before = await bank.records()
    token = TOKENS[case](bank.provider)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await bank.ask("GET", ASK, headers=headers)
    assert refused(answer, before, await bank.records()) == []
    assert answer.response.json()["detail"] in (
        "This token does not hold.",
        "This key does not hold: unknown, expired or revoked.",
    )


async def test_the_same_token_in_order_is_let_in(bank: Bank) -> None:
    """What the cases above change is what they are refused for."""
    assert (await bank.ask("GET", ASK, "ap1")).status == 200
    alone = bank.provider.access_token("ap1", ("finance",), aud=[AUDIENCE], tenant="main")
    assert (await bank.ask("GET", ASK, headers={"Authorization": f"bearer {alone}"})).status == 200


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([("Authorization", "Bearer TOKEN"), ("Authorization", "Bearer TOKEN")], ASK),
        ([("Authorization", "Basic dXNlcjpwYXNz")], ASK),
        ([("Authorization", "Bearer")], ASK),
        ([("Authorization", "Bearer TOKEN TOKEN")], ASK),
        ([("Authorization", "Bearer wrong"), ("X-Actor", "ada")], ASK),
        ([("X-Actor", "ada")], ASK),
        ([("X-Actor", "ada"), ("X-Actor-Roles", "admin")], ASK),
        ([], f"{ASK}?access_token=TOKEN"),
        ([("Authorization", "Bearer TOKEN")], f"{ASK}?token=TOKEN"),
        ([], f"{ASK}?api_key=KEY"),
    ],
)
async def test_a_credential_in_the_wrong_place_is_refused(
    bank: Bank, headers: list[tuple[str, str]], path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A13: twice, of another kind, in the address; a header that only development believes. Nothing of it is kept."""
    token = bank.provider.access_token("ap1", ("finance",), tenant="main")
    path = path.replace("TOKEN", token).replace("KEY", bank.secrets["svc"])
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    sent = [*((name, value.replace("TOKEN", token)) for name, value in headers), ("traceparent", trace)]
    answer = await bank.client.request("GET", path, headers=sent)
    assert answer.status_code == 401
    await bank.identity.log.flush()
    kept = await bank.owner.fetch("SELECT object FROM security_log ORDER BY id DESC LIMIT 20")
    shown = capfd.readouterr()
    everything = answer.text + str(answer.headers) + str(kept) + shown.out + shown.err
    assert token not in everything
    assert bank.secrets["svc"] not in everything


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_a_key_is_one_service_with_its_scope(bank: Bank) -> None:
    """A key for one action does that and nothing else, though its capacity could more."""
    headers = {"Authorization": f"Bearer {bank.secrets['svc']}"}
    event = {"payout_id": "P-none"}
    sent = {**headers, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/t", "ce-type": "apitest.PayoutNoted"}
    told = await bank.ask("POST", "/v1/events", headers=sent, json=event)
    assert told.status in (202, 422), told.response.text
    assert [row["actor"] for row in told.logged] == ["service:svc"]
    assert (await bank.ask("GET", ASK, headers=headers)).code == "not_allowed"
    assert (await bank.ask("POST", "/v1/sagas/payout", headers=headers, json={})).code == "not_allowed"


async def test_a_key_holds_until_it_is_revoked_or_expires(bank: Bank) -> None:
    """A15: revoked, expired, or changed in one character it is worth nothing."""
    kept = bank.identity.kept
    key = await kept.make_key(tenant="main", name="x", capacities=["service"], actions=[], made_by="test", seconds=600)

    async def status(text: str) -> int:
        return (await bank.ask("GET", ASK, headers={"Authorization": f"Bearer {text}"})).status

    assert await status(key) == 200
    for place in (4, 12, 17, 40, len(key) - 1):
        changed = key[:place] + ("A" if key[place] != "A" else "B") + key[place + 1 :]
        assert await status(changed) == 401
    assert await status(key + "A") == 401
    await bank.owner.execute("UPDATE api_keys SET expires_at = clock_timestamp() WHERE prefix = $1", key.split("_")[1])
    assert await status(key) == 401
    await bank.owner.execute(
        "UPDATE api_keys SET expires_at = clock_timestamp() + interval '1 hour' WHERE prefix = $1", key.split("_")[1]
    )
    assert await status(key) == 200
    assert await kept.revoke_key(key.split("_")[1], "test")
    assert not await kept.revoke_key(key.split("_")[1], "test")
    assert await status(key) == 401


async def test_a_dump_of_the_database_holds_no_usable_secret(bank: Bank) -> None:
    """Neither a key nor a session can be made of what is stored."""
    stored = str(await bank.owner.fetch("SELECT k::text FROM api_keys k"))
    stored += str(await bank.owner.fetch("SELECT u::text FROM local_users u"))
    for key in (bank.secrets["svc"], bank.secrets["key_t2"]):
        assert key not in stored
        assert key.split("_", 2)[2] not in stored
    assert "open sesame" not in stored
    assert "$argon2id$" in stored


async def test_a_key_of_another_tenant_sees_nothing_of_this_one(bank: Bank) -> None:
    """A15: T2's key reads T1's saga as one that does not exist."""
    saga_id = await bank.start()
    headers = {"Authorization": f"Bearer {bank.secrets['key_t2']}"}
    theirs = await bank.ask("GET", f"/v1/sagas/{saga_id}", headers=headers)
    missing = await bank.ask("GET", "/v1/sagas/none-of-this-id", headers=headers)
    assert (theirs.status, theirs.code) == (missing.status, missing.code) == (404, "not_found")


# --- too often --------------------------------------------------------------------------------------------------------


async def test_unknown_keys_are_asked_for_at_most_once_a_minute(bank: Bank) -> None:
    """A11: however many tokens name keys that nobody has; and whoever has a good one is still let in."""
    before = bank.provider.strict.asked.count("/jwks")
    for number in range(40):
        token = bank.provider.access_token("ap1", header={"kid": f"unknown-{number}"})
        answer = await bank.client.get(ASK, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code in (401, 429)
    assert bank.provider.strict.asked.count("/jwks") - before <= 1
    assert (await bank.ask("GET", ASK, "ap1")).status == 200


async def test_bad_keys_from_one_address_are_told_to_wait_and_nobody_else(bank: Bank) -> None:
    """A19: after some fifty; a good credential from the same address is let in."""
    answers = []
    for number in range(55):
        headers = {"Authorization": f"Bearer orc_{number:012d}_{'x' * 43}"}
        answers.append(await bank.client.get(ASK, headers=headers))
    assert {answer.status_code for answer in answers[:45]} == {401}
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0
    assert (await bank.ask("GET", ASK, "ap1")).status == 200


async def test_guesses_for_one_account_are_told_to_wait_and_nobody_else(bank: Bank) -> None:
    """A19, G7: ten for one account, then not even the hash is computed; other people sign in as before."""
    origin = {"Origin": str(bank.client.base_url).rstrip("/")}
    statuses = []
    for _ in range(14):
        form = {"user": "asha", "password": "wrong"}
        statuses.append((await bank.client.post("/office/login", data=form, headers=origin)).status_code)
    assert statuses == [401] * 10 + [429] * 4
    other = await bank.client.post("/office/login", data={"user": "nobody-else", "password": "x"}, headers=origin)
    assert other.status_code == 401
    assert (await bank.ask("GET", ASK, "ap1")).status == 200


async def test_a_flood_of_sign_ins_is_cut_off(bank: Bank) -> None:
    """G7: sixty a minute from one address, good or bad, and at most a few hashes at a time."""
    statuses = [(await bank.client.get("/office/login/provider")).status_code for _ in range(70)]
    assert set(statuses[:55]) == {303}
    assert statuses[-1] == 429
    assert (await bank.ask("GET", ASK, "ap1")).status == 200
