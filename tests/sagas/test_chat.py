"""The chat over real HTTP: the whole product, the bank, and people who ask, approve, reject, withdraw and repeat."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from events.transfers import TransferRequested
from orchestrator.api.app import create_app
from orchestrator.api.engine import Engine
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.participants import open_pool
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from sagas.transfers import definition, participants
from sagas.transfers.bank_client import BankClient
from sagas.transfers.chats import Chats
from sagas.transfers.definition import transfer
from sagas.transfers.participants import accounts, chats
from sagas.transfers.settings import transfer_settings
from tests.databases import Database
from tests.sagas.banking import Way, open_bank

pytestmark = pytest.mark.asyncio(loop_scope="module")

CHECKPOINTS = [
    "validate_start",
    "validate_end",
    "prepare_start",
    "prepare_end",
    "approval_paused",
    "approval_decided",
    "execute_end",
]


@dataclass
class Office:
    """A running product with a bank, and a client of it."""

    client: httpx2.AsyncClient
    engine: Engine
    way: Way

    async def chat(
        self, message: str, user: str = "ravi", session: str | None = None, key: str | None = None, **other: str
    ) -> httpx2.Response:
        body = {"message": message, "user_id": user} | ({"session_id": session} if session else {}) | other
        headers = {"X-Actor": user, "X-Actor-Roles": "viewer"} | ({"Idempotency-Key": key} if key else {})
        return await self.client.post("/chat", json=body, headers=headers)

    async def decide(
        self, session: str, *, approved: bool = True, by: str = "maria", roles: str = "manager", **other: Any
    ) -> httpx2.Response:
        body = {"approver_id": by, "approved": approved, "reason": "looked at it"} | other
        headers = {"X-Actor": by, "X-Actor-Roles": roles}
        return await self.client.post(f"/workflow/{session}/approve", json=body, headers=headers)

    async def status(self, session: str, by: str = "ravi", roles: str = "") -> httpx2.Response:
        return await self.client.get(f"/workflow/{session}/status", headers={"X-Actor": by, "X-Actor-Roles": roles})

    async def balance(self, account: str) -> Decimal:
        found = await participants.bank.account(account, 5)
        assert found is not None
        return Decimal(found["balance"])

    async def until(self, session: str, status: str) -> dict[str, Any]:
        """The session's status once it says so."""
        async with asyncio.timeout(60):
            while True:
                found: dict[str, Any] = (await self.status(session)).json()
                if found["status"] == status:
                    return found
                await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(module_database: Database) -> AsyncIterator[Office]:
    """The product with the transfer saga alone."""
    await migrate_schema(module_database.migrate_url, [accounts.own_schema, chats])
    async with open_bank(module_database) as way:
        before, participants.bank = participants.bank, BankClient("http://bank", way)
        settings = load_settings(
            database_url=module_database.url, sagas="sagas.transfers", topic_partitions=2, stall_exit_ms=0
        )
        runtime = Runtime(settings, catalog=Catalog.of([transfer], [accounts]))
        async with runtime:
            app = create_app(runtime)
            async with ApiServer(app, "127.0.0.1", 0) as server:
                running = asyncio.create_task(runtime.run())
                async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                    await warm(client)
                    yield Office(client, app.state.engine, way)
                await server.stop()
                runtime.stop()
                await running
        participants.bank = before


async def warm(client: httpx2.AsyncClient) -> None:
    """The first transfer also pays for joining groups; it is nobody's test."""
    body = {"message": "Transfer 0.01 to Kiran", "user_id": "ravi"}
    async with asyncio.timeout(30):
        while True:
            answer = await client.post("/chat", json=body, headers={"X-Actor": "ravi", "Idempotency-Key": "warm"})
            if answer.json()["status"] == "COMPLETED":
                return


async def paused(office: Office, amount: int = 6000) -> dict[str, Any]:
    answer = await office.chat(f"Transfer {amount} to Kiran")
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING_APPROVAL"), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_small_transfer_is_done_at_once(office: Office) -> None:
    before, began = await office.balance("kiran"), time.monotonic()
    answer = await office.chat("Transfer 120.50 to Kiran")
    took = time.monotonic() - began
    found = answer.json()
    assert (answer.status_code, found["status"], found["decision"]) == (200, "COMPLETED", "auto")
    assert found["intent"] == "transfer"
    assert found["data"]["success"] is True
    assert found["approved_by"] is None
    assert "120.50 EUR to Kiran" in found["message"] or "120.5 EUR to Kiran" in found["message"]
    assert await office.balance("kiran") == before + Decimal("120.50")
    assert took < 10, f"{took:.2f} s"


async def test_a_large_transfer_waits_and_is_done_when_it_is_approved(office: Office) -> None:
    before = await office.balance("kiran")
    waiting = await paused(office)
    assert waiting["amount"] == "6000"
    assert waiting["recipient"] == "Kiran"
    assert waiting["approval_id"]
    assert waiting["paused_at"]
    assert await office.balance("kiran") == before
    done = await office.decide(waiting["session_id"])
    found = done.json()
    assert (done.status_code, found["status"], found["approved_by"]) == (200, "COMPLETED", "maria")
    assert found["data"]["success"] is True
    assert await office.balance("kiran") == before + 6000


async def test_the_status_shows_every_checkpoint_the_approval_and_what_was_said(office: Office) -> None:
    waiting = await paused(office)
    session = waiting["session_id"]
    found = (await office.status(session)).json()
    assert found["status"] == "PENDING_APPROVAL"
    pending = found["pending_approval"]
    assert {name: pending[name] for name in ("approval_id", "session_id", "workflow_type", "status", "amount")} == {
        "approval_id": waiting["approval_id"],
        "session_id": session,
        "workflow_type": "transfer",
        "status": "PENDING",
        "amount": "6000",
    }
    assert pending["request"]["user_id"] == "ravi"
    assert pending["approver_id"] is None
    await office.decide(session)
    found = await office.until(session, "COMPLETED")
    [one] = found["transfers"]
    assert [point["name"] for point in one["checkpoints"]] == CHECKPOINTS
    assert (one["approval"]["approver_id"], one["approval"]["status"]) == ("maria", "DECIDED")
    assert one["approval"]["approved_at"]
    assert found["history"][0]["text"] == "Transfer 6000 to Kiran"
    assert [line["speaker"] for line in found["history"]] == ["customer", "assistant", "assistant"]


async def test_a_rejected_transfer_moves_nothing(office: Office) -> None:
    before = await office.balance("kiran")
    waiting = await paused(office)
    answer = await office.decide(waiting["session_id"], approved=False)
    assert (answer.status_code, answer.json()["approved_by"]) == (200, None)
    found = await office.until(waiting["session_id"], "REJECTED")
    assert found["transfers"][0]["data"]["success"] is False
    assert await office.balance("kiran") == before


async def test_insufficient_funds_are_an_answer(office: Office) -> None:
    answer = await office.chat("Transfer 500 to Kiran", user="asha")
    found = answer.json()
    assert (answer.status_code, found["status"], found["data"]["success"]) == (200, "FAILED", False)
    assert "insufficient_funds" in found["message"]


async def test_an_unknown_recipient_is_an_answer(office: Office) -> None:
    answer = await office.chat("Transfer 5 to Nobody")
    assert (answer.status_code, answer.json()["status"]) == (200, "FAILED")
    assert "unknown_recipient" in answer.json()["message"]


async def test_what_is_not_understood_is_said_and_kept(office: Office) -> None:
    answer = await office.chat("Transfer 6.000 to Kiran")
    found = answer.json()
    assert (answer.status_code, found["status"], found["code"]) == (200, "NOT_UNDERSTOOD", "ambiguous_amount")
    history = (await office.status(found["session_id"])).json()["history"]
    assert [line["speaker"] for line in history] == ["customer", "assistant"]


async def test_nobody_approves_twice(office: Office) -> None:
    waiting = await paused(office)
    assert (await office.decide(waiting["session_id"])).status_code == 200
    again = await office.decide(waiting["session_id"], by="tom")
    assert (again.status_code, again.json()["code"]) == (409, "already_decided")
    assert again.headers["content-type"] == "application/problem+json"


async def test_after_its_time_an_approval_is_gone(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = transfer_settings().model_copy(update={"approval_hours": 1 / 3600})
    monkeypatch.setattr(definition, "transfer_settings", lambda: hurried)
    before = await office.balance("kiran")
    session = (await paused(office))["session_id"]
    await asyncio.sleep(1.1)
    late = await office.decide(session)
    assert (late.status_code, late.json()["code"]) == (410, "expired")
    found = await office.until(session, "EXPIRED")
    assert found["transfers"][0]["approval"]["status"] == "EXPIRED"
    assert await office.balance("kiran") == before


async def test_of_many_approvals_at_once_one_counts_and_money_moves_once(office: Office) -> None:
    before = await office.balance("kiran")
    waiting = await paused(office, 5000)
    answers = await asyncio.gather(
        *(office.decide(waiting["session_id"], by=f"manager-{number}") for number in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    await office.until(waiting["session_id"], "COMPLETED")
    assert await office.balance("kiran") == before + 5000


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"approver_id": "somebody-else"}, "not_eligible"),
        ({"roles": ""}, "not_eligible"),
        ({"by": "ravi"}, "excluded"),
    ],
    ids=["as somebody else", "without the role", "one's own transfer"],
)
async def test_who_may_not_approve_is_refused_and_nothing_happens(
    office: Office, options: dict[str, Any], code: str
) -> None:
    waiting = await paused(office)
    refused = await office.decide(waiting["session_id"], **options)
    assert (refused.status_code, refused.json()["code"]) == (403, code)
    assert (await office.status(waiting["session_id"])).json()["status"] == "PENDING_APPROVAL"
    await office.decide(waiting["session_id"], approved=False)


async def test_an_unknown_session_is_not_found(office: Office) -> None:
    assert (await office.decide("S-unknown")).status_code == 404
    assert (await office.status("S-unknown")).status_code == 404
    assert (await office.chat("Transfer 5 to Kiran", session="S-unknown")).status_code == 404


async def test_a_session_without_a_transfer_has_nothing_to_approve(office: Office) -> None:
    session = (await office.chat("hello")).json()["session_id"]
    assert (await office.decide(session)).status_code == 404


async def test_nobody_speaks_or_looks_for_somebody_else(office: Office) -> None:
    body = {"message": "Transfer 5 to Kiran", "user_id": "maria"}
    spoofed = await office.client.post("/chat", json=body, headers={"X-Actor": "ravi"})
    assert (spoofed.status_code, spoofed.json()["code"]) == (403, "not_eligible")
    session = (await office.chat("hello")).json()["session_id"]
    assert (await office.status(session, by="asha", roles="viewer")).status_code == 404
    assert (await office.chat("Transfer 5 to Kiran", user="asha", session=session)).status_code == 404
    assert (await office.status(session, by="olga", roles="auditor")).status_code == 200
    for roles, status in (("viewer", 403), ("approver,auditors,operators", 403), ("operator", 200), ("manager", 200)):
        headers = {"X-Actor": "asha", "X-Actor-Roles": roles}
        for_others = await office.client.get("/sessions", params={"user_id": "ravi"}, headers=headers)
        assert for_others.status_code == status, roles


async def test_an_approval_never_falls_on_another_transfer_than_the_one_that_was_looked_at(office: Office) -> None:
    """A customer who takes one back and asks for another in its place would have the approver's yes for both."""
    seen = await paused(office)
    session = seen["session_id"]
    assert (await office.chat("cancel it", session=session)).status_code == 200
    other = await office.chat("Transfer 9000 to Kiran", session=session)
    assert other.json()["status"] == "PENDING_APPROVAL", other.text
    blind = await office.decide(session)
    assert (blind.status_code, blind.json()["code"]) == (422, "invalid")
    assert blind.json()["facts"]["approvals"] == [other.json()["approval_id"]]
    assert (await office.decide(session, approval_id=seen["approval_id"])).status_code == 410
    assert (await office.status(session)).json()["pending_approval"]["amount"] == other.json()["amount"]
    assert (await office.decide(session, approved=False, approval_id=other.json()["approval_id"])).status_code == 200


async def test_nobody_means_401(office: Office) -> None:
    body = {"message": "Transfer 5 to Kiran", "user_id": "ravi"}
    assert (await office.client.post("/chat", json=body)).status_code == 401
    assert (await office.client.get("/sessions", params={"user_id": "ravi"})).status_code == 401


async def test_a_repeated_message_is_the_same_transfer(office: Office) -> None:
    before, key = await office.balance("kiran"), str(uuid.uuid4())
    first = (await office.chat("Transfer 10 to Kiran", key=key)).json()
    for _ in range(3):
        again = (await office.chat("Transfer 10 to Kiran", key=key)).json()
        assert (again["transfer_id"], again["session_id"]) == (first["transfer_id"], first["session_id"])
    assert await office.balance("kiran") == before + 10
    other = await office.chat("Transfer 11 to Kiran", key=key)
    assert (other.status_code, other.json()["code"]) == (409, "same_id_other_body")


async def test_a_session_holds_many_transfers_and_lists_them(office: Office) -> None:
    session = (await office.chat("Transfer 1 to Kiran", user="maria")).json()["session_id"]
    await office.chat("Transfer 2 to Kiran", user="maria", session=session)
    found = (await office.status(session, by="maria")).json()
    assert [one["status"] for one in found["transfers"]] == ["COMPLETED", "COMPLETED"]
    listed = (await office.client.get("/sessions", params={"user_id": "maria"}, headers={"X-Actor": "maria"})).json()
    [row] = [row for row in listed["sessions"] if row["session_id"] == session]
    assert (row["transfers"], row["messages"], row["phase"]) == (2, 4, "completed")


async def test_several_that_wait_must_be_named(office: Office) -> None:
    session = (await paused(office))["session_id"]
    second = (await office.chat("Transfer 5001 to Kiran", session=session)).json()
    unclear = await office.decide(session, approved=False)
    assert (unclear.status_code, len(unclear.json()["facts"]["approvals"])) == (422, 2)
    named = await office.decide(session, approved=False, approval_id=second["approval_id"])
    assert named.json()["transfer_id"] == second["transfer_id"]
    assert (await office.decide(session, approved=False)).status_code == 200


async def test_a_transfer_is_withdrawn_in_words(office: Office) -> None:
    before = await office.balance("kiran")
    session = (await paused(office))["session_id"]
    answer = (await office.chat("please cancel it", session=session)).json()
    assert answer["status"] == "WITHDRAWN", answer
    gone = await office.decide(session)
    assert (gone.status_code, gone.json()["code"]) == (410, "withdrawn")
    nothing = (await office.chat("cancel", session=session)).json()
    assert nothing["status"] == "NOTHING_TO_WITHDRAW"
    assert await office.balance("kiran") == before


async def test_a_bank_whose_answer_is_lost_is_asked_and_money_moves_once(office: Office) -> None:
    before = await office.balance("kiran")
    lost = 0

    async def lose_once(request: httpx2.Request) -> None:
        nonlocal lost
        if request.method == "POST" and lost == 0:
            lost = 1
            raise httpx2.ReadError("connection reset")

    office.way.after = lose_once
    answer = await office.chat("Transfer 77 to Kiran")
    office.way.after = None
    found = await office.until(answer.json()["session_id"], "COMPLETED")
    assert (lost, found["transfers"][0]["decision"]) == (1, "auto")
    assert await office.balance("kiran") == before + 77


async def test_a_message_whose_saga_was_never_started_is_started_when_looked_at(office: Office) -> None:
    """The process died between keeping the message and starting the saga."""
    session = (await office.chat("hello")).json()["session_id"]
    asked = TransferRequested(
        transfer_id=f"T-{uuid.uuid4()}", session_id=session, user_id="ravi", from_account="ravi", recipient="Kiran",
        amount=Decimal(3),
    )  # fmt: skip
    async with open_pool(office.engine.database_url, 1) as pool:
        await Chats(pool).ask(session, "Transfer 3 to Kiran", None, asked)
    found = await office.until(session, "COMPLETED")
    assert found["transfers"][0]["transfer_id"] == asked.transfer_id


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": "", "user_id": "ravi"},
        {"message": "x" * 2001, "user_id": "ravi"},
        {"message": "Transfer 5 to Kiran", "user_id": "ravi", "amount": 1},
        {"message": "Transfer 5 to Kiran", "user_id": ["ravi"]},
        {"message": "Transfer 5 to Kiran"},
    ],
)
async def test_a_body_that_does_not_fit_is_refused(office: Office, body: dict[str, Any]) -> None:
    answer = await office.client.post("/chat", json=body, headers={"X-Actor": "ravi"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
