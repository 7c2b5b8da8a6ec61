"""Sections B, C and F: what people and services must not get, asked as they would ask; one table.

Of every case is asserted: the status, that nothing was written, that nothing leaks (no trace, no SQL, no path, no word
of the other tenant), and that the security log has exactly one entry naming actor, action and outcome.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.api import acts
from orchestrator.api.levels import ELSEWHERE
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.limits import Attempts
from orchestrator.kernel.inputs import Cancel, Vote
from projections.answers import Complete, ProjectionState
from tests.identity.bank import CANARY, LEAKS, Bank

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN, UNREADABLE = {403, 404}, {400, 404, 405, 413, 415, 422}


@dataclass(frozen=True)
class Objects:
    """S1/P1 open in T1, S2/P2 open in T2, P3 decided, P5 over the amount that takes a recent sign-in."""

    s1: str
    p1: dict[str, Any]
    s2: str
    p2: dict[str, Any]
    p3: dict[str, Any]
    p5: dict[str, Any]

    def fill(self, text: str) -> str:
        """A text of a case with the ids of this run."""
        names = {
            "{S1}": self.s1, "{P1}": self.p1["id"], "{H1}": self.p1["subjectHash"],
            "{S2}": self.s2, "{P2}": self.p2["id"], "{H2}": self.p2["subjectHash"],
            "{P3}": self.p3["id"], "{H3}": self.p3["subjectHash"],
            "{P5}": self.p5["id"], "{H5}": self.p5["subjectHash"],
        }  # fmt: skip
        for name, value in names.items():
            text = text.replace(name, value)
        return text


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def objects(bank: Bank) -> AsyncIterator[Objects]:
    """The things that the cases are about."""
    s1, s2, s3 = await bank.start(), await bank.start(by="adm2", requester=CANARY), await bank.start()
    s5 = await bank.start(amount="150000")
    p3 = await bank.task(s3)
    assert (await bank.decide(p3, "ap1")).status == 200
    await bank.engine.settled(s3, seconds_max=20, tenant="main")
    yield Objects(s1, await bank.task(s1), s2, await bank.task(s2, tenant="t2"), p3, await bank.task(s5))


@pytest.fixture(autouse=True)
def _forgiven(bank: Bank) -> None:
    bank.identity.attempts = Attempts()


@dataclass(frozen=True)
class Case:
    """One request that must come to nothing. `body`: JSON, or raw bytes."""

    name: str
    who: str
    method: str
    path: str
    status: set[int]
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    code: str = ""
    claims: dict[str, Any] = field(default_factory=dict)  # of the actor's token, changed


def decide(name: str, who: str, task: str, status: set[int], code: str = "", **given: Any) -> Case:
    """A decision on P1, P2, P3 or P5."""
    body = {"outcome": "approve", "subjectHash": f"{{H{task[1]}}}", **given.pop("more", {})}
    return Case(name, who, "POST", f"/v1/tasks/{{{task}}}/decide", status, body, code=code, **given)


HOUR = 3600
CASES = [
    # --- B: authorisation, and ids of others ---
    decide("B1 another group", "apB", "P1", {403}, "not_eligible"),
    decide("B1 no approver: auditor", "aud", "P1", {403}, "not_allowed"),
    decide("B1 no approver: operator", "op", "P1", {403}, "not_allowed"),
    decide("B1 no approver: viewer", "vie", "P1", {403}, "not_allowed"),
    decide("B1 no approver: administrator", "adm", "P1", {403}, "not_allowed"),
    decide("B1 another group, decided long ago", "apB", "P3", {404}, "not_found"),
    decide("B1 another group, asks for the hash", "apB", "P1", {404}, "not_found", more={"subjectHash": "x"}),
    Case("B1 another group claims what is decided", "apB", "POST", "/v1/tasks/{P3}/claim", {404}, code="not_found"),
    Case("B1 another group comments", "apB", "POST", "/v1/tasks/{P1}/comments", {404}, {"text": "x"}, code="not_found"),
    Case(
        "B1 another group attaches", "apB", "POST", "/v1/tasks/{P1}/attachments", {404},
        {"url": "https://evil.example/", "title": "Invoice"}, code="not_found",
    ),
    Case("B1 another group releases", "apB", "POST", "/v1/tasks/{P1}/release", {404}, {}, code="not_found"),
    decide("B3 another tenant's task by path", "ap1", "P2", {404}, "not_found"),
    decide("B3 own path, other body", "ap1", "P1", {422}, more={"taskId": "{P2}"}),
    decide("B3 tenant in the body", "ap1", "P2", {422}, more={"tenant": "t2"}),
    Case("B3 read by path", "ap1", "GET", "/v1/tasks/{P2}", {404}, code="not_found"),
    Case("B3 read the saga", "vie", "GET", "/v1/sagas/{S2}", {404}, code="not_found"),
    Case("B3 read its records", "aud", "GET", "/v1/sagas/{S2}/records", {404}, code="not_found"),
    Case("B3 tenant in the query", "vie", "GET", "/v1/sagas/{S2}?tenant=t2", {400, 404}),
    Case("B3 tenant in a header", "vie", "GET", "/v1/sagas/{S2}", {404}, headers={"X-Tenant": "t2", "ce-tenant": "t2"}),
    Case("B3 cancel it", "op", "POST", "/v1/sagas/{S2}/cancel", {404}, {"reason": "x"}, code="not_found"),
    Case("B3 act on it", "op", "POST", "/v1/sagas/{S2}/retry", {404}, {"place": "+x", "version": 1, "reason": "x"}),
    Case("B3 a list of it", "ap1", "GET", "/v1/tasks?saga={S2}", {404}, code="not_found"),
    Case("B5 filter by what is not there", "vie", "GET", "/v1/sagas?password=a", {400}, code="bad_request"),
    Case("B5 sort by what is not there", "vie", "GET", "/v1/sagas?sort=secret", {400}, code="bad_request"),
    Case("B5 filter of tasks", "ap1", "GET", "/v1/tasks?votes.by=ap2", {400}, code="bad_request"),
    *(
        decide(f"B7 {name} in the body", "ap1", "P1", {422}, "invalid", more={name: value})
        for name, value in {
            "status": "decided",
            "tenant": "t2",
            "actor": "adm",
            "decided_at": "2020-01-01",
            "role": "admin",
            "roles": ["manager"],
            "version": 1,
            "by": "ap2",
            "on_behalf_of": "ap2",
            "authentication": "oidc",
        }.items()
    ),
    Case("B7 start with a tenant", "op", "POST", "/v1/sagas/payout", {400, 422}, {"tenant": "t2", "requester": "x"}),
    Case("B9 dots", "ap1", "GET", "/v1/tasks/{P1}/%2e%2e/{P2}", {400, 404}),
    Case("B9 encoded slash", "ap1", "GET", "/v1/tasks/x%2f..%2f{P2}", {400, 404}),
    Case("B9 null", "ap1", "GET", "/v1/tasks/{P1}%00", {400, 404}),
    Case("B9 slash at the end", "ap1", "GET", "/v1/tasks/{P1}/", {400, 404}),
    Case("B9 two slashes", "ap1", "GET", "//v1/tasks/{P1}", {400, 404}),
    Case("B9 capitals", "ap1", "GET", "/V1/tasks/{P1}", {400, 404}),
    Case("B9 parameter of a path", "ap1", "GET", "/v1/tasks/{P1};a=b", {400, 404}),
    Case("B9 line break", "ap1", "GET", "/v1/tasks/{P1}%0d%0aX-Injected:%201", {400, 404}),
    decide("B11 one group of a strange name", "ap1", "P1", {403}, claims={"groups": "manager,finance"}),
    decide("B11 a group in capitals", "ap1", "P1", {403}, claims={"groups": ["Manager", "finance"]}),
    decide("B11 a group that looks alike", "ap1", "P1", {403}, claims={"groups": ["m\u0430nager", "finance"]}),
    decide("B11 a group with a space", "ap1", "P1", {403}, claims={"groups": ["manager ", "finance"]}),
    decide("B11 groups in an object", "ap1", "P1", {401}, claims={"groups": {"manager": True}}),
    decide("B11 groups in a list of lists", "ap1", "P1", {401}, claims={"groups": [["manager"]]}),
    Case("B13 no reason", "op", "POST", "/v1/sagas/{S1}/done", {422}, {"place": "!x", "version": 1, "reason": " "}),
    Case("B13 no operator", "ap1", "POST", "/v1/sagas/{S1}/skip", {403}, {"place": "!x", "version": 1, "reason": "x"}),
    # --- C: four eyes, and decisions that are too old ---
    decide("C1 the requester", "req", "P1", {403}, "excluded"),
    decide("C1 the requester, by a second account", "req", "P1", {403}, "excluded", claims={"client_id": "other"}),
    decide("C1 the requester, after joining groups", "req", "P1", {403}, claims={"groups": ["manager", "risk"]}),
    decide("C1 by a program with the requester's id", "req", "P1", {403}, "not_allowed", claims={"client_id": "req"}),
    Case("C1 by a key", "svc", "POST", "/v1/tasks/{P1}/decide", {403}, {"outcome": "approve", "subjectHash": "{H1}"}),
    Case(
        "C1 by somebody whom the requester sends", "req", "POST", "/v1/tasks/{P1}/delegate", {403, 422},
        {"to": "apB", "reason": "x"},
    ),
    decide("C15 another time", "ap1", "P1", {422}, more={"receivedAt": 0}),
    decide("no hash", "ap1", "P1", {422}, "subject_missing", more={"subjectHash": ""}),
    decide("another hash", "ap1", "P1", {409}, "subject_changed", more={"subjectHash": "00"}),
    decide("decided already", "ap2", "P3", {409}, "already_decided"),
    decide("C17 signed in long ago", "ap1", "P5", {401}, "reauth", claims={"auth_time": 1_700_000_000}),
    decide("C17 nobody knows when", "ap1", "P5", {401}, "reauth", claims={"auth_time": None}),
    # --- F: injection and parsing ---
    *(
        Case(f"F1 {name}", "vie", "GET", path, {200, 400, 404, 422})
        for name, path in {
            "in a filter": "/v1/sagas?businessKey=%27%20OR%201%3D1--",
            "in a name": "/v1/sagas?name=x%27;DROP%20TABLE%20records--",
            "in a cursor": "/v1/sagas?cursor=%27%20OR%20pg_sleep(5)--",
            "in an id": "/v1/sagas/%27%20OR%20%271%27=%271",
            "in a wait": "/v1/sagas?waitingFor=%25%27%20OR%20pg_sleep(5)--",
        }.items()
    ),
    Case("F3 pickle", "op", "POST", "/v1/sagas/payout", UNREADABLE, b"\x80\x04\x95\x10\x00\x00\x00"),
    Case("F3 YAML tag", "op", "POST", "/v1/sagas/payout", UNREADABLE, b"!!python/object/apply:os.system ['id']"),
    Case("F3 class in JSON", "op", "POST", "/v1/sagas/payout", UNREADABLE, {"__class__": "os", "py/object": "x"}),
    Case("F5 line break in a header", "op", "GET", "/v1/sagas/x%0aSet-Cookie:a=b", {400, 404}),
    Case("F7 two keys", "op", "POST", "/v1/sagas/payout", {400}, b'{"payout_id": "a", "payout_id": "b"}'),
    Case("F7 byte order mark", "op", "POST", "/v1/sagas/payout", {400}, b"\xef\xbb\xbf{}"),
    Case("F7 NaN", "op", "POST", "/v1/sagas/payout", {400}, b'{"amount": NaN}'),
    Case("F7 1e400", "op", "POST", "/v1/sagas/payout", {400}, b'{"amount": 1e400}'),
    Case("F7 lone surrogate", "op", "POST", "/v1/sagas/payout", {400}, b'{"payout_id": "\\ud800"}'),
    Case("F7 null character", "op", "POST", "/v1/sagas/payout", {400}, b'{"payout_id": "a\\u0000"}'),
    Case("F7 nested deeply", "op", "POST", "/v1/sagas/payout", {400}, b"[" * 100_000 + b"]" * 100_000),
    Case("F9 another type", "op", "POST", "/v1/events", {415}, b"{}", {"Content-Type": "text/plain"}),
    Case("F9 compressed", "op", "POST", "/v1/sagas/payout", {415}, b"\x1f\x8b", {"Content-Encoding": "gzip"}),
    Case("F9 a form where JSON is wanted", "op", "POST", "/v1/sagas/payout", UNREADABLE, b"a=b",
         {"Content-Type": "application/x-www-form-urlencoded"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_what_must_not_be_got_is_not_got(bank: Bank, objects: Objects, case: Case) -> None:
    """See the head of this file for what is asserted of each."""
    headers = {"Content-Type": "application/json", **case.headers} if case.body is not None else dict(case.headers)
    if case.claims:
        claims = {"groups": list(PEOPLE_GROUPS.get(case.who, ())), **case.claims}
        headers["Authorization"] = f"Bearer {bank.provider.access_token(case.who, **claims)}"
    elif case.who == "svc":
        headers["Authorization"] = f"Bearer {bank.secrets['svc']}"
    body = case.body if isinstance(case.body, bytes) else objects.fill(json.dumps(case.body)).encode()
    before = await bank.records()
    who = "anon" if "Authorization" in headers else case.who
    content = {"content": body} if case.body is not None else {}
    answer = await bank.ask(case.method, objects.fill(case.path), who, headers=headers, **content)
    assert answer.status in case.status, answer.response.text
    assert case.code in ("", answer.code), answer.response.text
    assert await bank.records() == before
    whole = answer.response.text + str(answer.response.headers)
    assert [leak for leak in LEAKS if leak in whole] == []
    (entry,) = answer.logged
    assert entry["outcome"] == ("allowed" if answer.status == 200 else "refused")
    assert entry["status"] == answer.status
    assert entry["object"].startswith("/")


PEOPLE_GROUPS = {"ap1": ("manager", "finance"), "req": ("manager", "finance")}


async def test_what_is_forbidden_and_what_is_missing_are_told_apart_by_nobody(bank: Bank, objects: Objects) -> None:
    """The same body, but for the id that was asked for."""

    async def body(path: str, id_: str, who: str) -> dict[str, Any]:
        found: dict[str, Any] = (await bank.ask("GET", path.format(id_), who)).response.json()
        told = {name: value for name, value in found.items() if name != "traceId"}
        return dict(json.loads(json.dumps(told).replace(id_[:80], "ID")))

    missing = "x" * len(objects.s2)
    for path, who in (("/v1/sagas/{}", "vie"), ("/v1/sagas/{}/records", "aud"), ("/v1/sagas/{}/undo-plan", "op")):
        assert await body(path, objects.s2, who) == await body(path, missing, who)
    other_task = objects.p2["id"].replace(objects.s2, missing)
    assert await body("/v1/tasks/{}", objects.p2["id"], "ap1") == await body("/v1/tasks/{}", other_task, "ap1")


async def test_lists_hold_nothing_of_another_tenant(bank: Bank, objects: Objects) -> None:
    """Neither sagas nor tasks nor letters nor the security log."""
    for path, who in (
        ("/v1/sagas", "vie"),
        ("/v1/tasks?state=all", "vie"),
        ("/v1/letters", "op"),
        ("/v1/security-log", "aud"),
    ):
        answer = await bank.ask("GET", path, who)
        assert answer.status == 200
        assert CANARY not in answer.response.text
        # What somebody of T1 asked for in vain is in T1's log; what T2's own people did is not.
        assert "adm2" not in answer.response.text
        if path != "/v1/security-log":
            assert objects.s2 not in answer.response.text
    theirs = await bank.ask("GET", "/v1/sagas", "adm2")
    assert objects.s2 in theirs.response.text
    assert objects.s1 not in theirs.response.text


async def test_what_belongs_to_nobody_is_told_to_the_first_tenants_people_alone(
    bank: Bank, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record of T1 stopped a read model, and a stranger asked for it by name: neither is for T2 to read."""
    stopped = ProjectionState(
        "audit", "stopped", "a", 1, 1, Complete(0, 1, None), 0, "", f"saga {objects.s1}: a house of cards", 1, None
    )

    async def states() -> list[ProjectionState]:
        return [stopped]

    monkeypatch.setattr(bank.engine.models, "states", states)
    own, other = [await bank.ask("GET", "/v1/projections", who) for who in ("op", "adm2")]
    assert objects.s1 in own.response.text
    assert objects.s1 not in other.response.text
    assert ELSEWHERE in other.response.text
    path = f"/v1/sagas/{objects.s1}"
    await bank.ask("GET", path, "anon")
    own, other = [await bank.ask("GET", "/v1/security-log?limit=500", who) for who in ("aud", "adm2")]
    assert path in own.response.text
    assert (other.status, path in other.response.text) == (200, False)


async def test_whoever_has_just_signed_in_decides_on_a_large_amount(bank: Bank, objects: Objects) -> None:
    """C17: the refusal was for the age of the sign-in alone; what is true of it is in the record."""
    answer = await bank.decide(objects.p5, "ap1")
    assert answer.status == 200, answer.response.text
    records = await bank.engine.records(objects.p5["id"].partition(":")[0], Actor("test"))
    (vote,) = [record.data["vote"] for record in records if record.type == "task.voted"]
    assert (vote["by"], vote["authentication"], vote["roles"]) == ("ap1", "oidc-token", ["finance", "manager"])


@pytest.mark.parametrize(
    ("actor", "code"),
    [
        (Actor("ap1", ("manager",), "oidc"), "not_allowed"),
        (Actor("ap1", ("manager",), "api-key", capacities=frozenset({"approver"})), "not_allowed"),
        (Actor("ap1", ("manager",), "oidc", capacities=frozenset({"approver"}), tenant="t2"), "not_found"),
    ],
    ids=["no capacity", "a key", "another tenant"],
)
async def test_past_every_route_the_write_itself_refuses(bank: Bank, objects: Objects, actor: Actor, code: str) -> None:
    """Pitfall 9: the rules are asked again in the transaction, for the saga that is loaded there."""
    before = await bank.records()
    vote = Vote("approve", actor.id, actor.roles, {"outcome": "approve"}, objects.p1["subjectHash"], 2**50)
    saga_id = objects.s1
    with pytest.raises(RefusedError) as refused:
        await acts.act(bank.runtime, saga_id, vote, acts.cause_of(actor, "/test", ""))
    assert refused.value.code == code
    with pytest.raises(RefusedError) as refused:
        await acts.act(bank.runtime, saga_id, Cancel(actor.id, "no"), acts.cause_of(actor, "/test", ""))
    assert refused.value.code == code
    assert await bank.records() == before


async def test_the_clock_of_a_client_counts_for_nothing(bank: Bank) -> None:
    """C15: neither a `Date` nor a time zone of the client is in the record."""
    saga_id = await bank.start()
    answer = await bank.decide(
        await bank.task(saga_id), "ap1", headers={"Date": "Mon, 01 Jan 2001 00:00:00 GMT", "Time-Zone": "Asia/Tokyo"}
    )
    assert answer.status == 200
    records = await bank.engine.records(saga_id, Actor("test"))
    (voted,) = [record for record in records if record.type == "task.voted"]
    received = voted.data["vote"]["received_at"]
    assert abs(received - voted.recorded_at.timestamp() * 1_000_000) < 120_000_000


@pytest.mark.parametrize(
    "statement",
    [
        f"{verb} {table}{rest}"
        for table in ("records", "records_stored", "security_log")
        for verb, rest in (
            ("UPDATE", " SET tenant = 'x'"),
            ("DELETE FROM", ""),
            ("TRUNCATE", ""),
            ("ALTER TABLE", " DISABLE TRIGGER ALL"),
            ("ALTER TABLE", " ADD COLUMN x text"),
            ("DROP TABLE", ""),
        )
    ],
)
async def test_the_application_cannot_change_what_happened(bank: Bank, statement: str) -> None:
    """B15, I3: neither the audit trail nor the security log; the database itself says no."""
    connection = await asyncpg.connect(bank.runtime.database_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_session_of_one_tenant_sees_no_row_of_another(bank: Bank, objects: Objects) -> None:
    """B15: row security is a second net below every query."""
    connection = await asyncpg.connect(bank.runtime.database_url)
    try:
        await connection.execute("SET orchestrator.tenant = 'main'")
        for table in ("records", "saga_heads", "tasks"):
            mine = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant = 'main'")
            theirs = await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant = 't2'")
            assert (mine > 0, theirs) == (True, 0)
    finally:
        await connection.close()
