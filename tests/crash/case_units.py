"""What the sweep kills in sagas that banks run: a dispute that pays money back, a payment that two people approve.

Rules of this file
- As in line_units.py: the situation undisturbed, then one thing under the tracer; `finish` is the process that comes
  after, with everybody who had to decide asking again.
- Steps, participants and routes of both sagas are the shipped ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx2

from events.disputes import RmAcknowledged
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.messages.envelope import Envelope, schema_urn
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import saga_id_of
from sagas.disputes.definition import dispute
from sagas.disputes.participants import case_ai, case_desk
from sagas.payments.definition import payment_approval
from sagas.payments.participants import clearing
from tests.crash import cases
from tests.crash.line_units import Kit, Stage, key

CASE, PAYMENT = "-000007", "-000008"  # a case whose manager pays back a part, and a payment
PARTICIPANTS = (case_ai, case_desk, clearing)
TOPICS = (
    *(f"{one.name}.{way}" for one in PARTICIPANTS for way in ("commands", "replies")),
    "disputes.events",
    "bank.payments.events",
)
# Each decision: the task's step, who decides, in which role.
VOTES = {
    "manager_decision": (dispute.name, CASE, cases.MANAGER, "approver"),
    "first_approval": (payment_approval.name, PAYMENT, "pia", "payments-approver"),
    "second_approval": (payment_approval.name, PAYMENT, "sol", "payments-senior"),
}


def catalog() -> Catalog:
    """Both sagas and all that they ask."""
    return Catalog.of([dispute, payment_approval], PARTICIPANTS)


def keys(run: str) -> list[str]:
    """The business keys of a run."""
    return [f"{run}{CASE}", f"{run}{PAYMENT}"]


async def vote(stage: Stage, client: httpx2.AsyncClient, step: str) -> bool:
    """One person's decision, under a key of its own; True where the answer says that it counted."""
    saga, suffix, who, role = VOTES[step]
    saga_id = saga_id_of("main", saga, f"{stage.run}{suffix}")
    headers = {"X-Actor": who, "X-Actor-Roles": f"{role},approver,viewer"}
    page = await client.get("/v1/tasks", params={"saga": saga_id, "state": "all"}, headers=headers)
    found = [task for task in page.json().get("items", ()) if task["activity"].rpartition("/")[2] == step]
    if not found:
        return False
    (task,) = found
    body: dict[str, Any] = {"outcome": "approve", "subjectHash": task["subjectHash"]}
    if step == "manager_decision":
        body |= {
            "outcome": cases.PAID_BACK,
            "form": {"rationale": cases.GOOD, "refund_percent": cases.PERCENT},
        }
    headers["Idempotency-Key"] = f"vote-{key(stage.run, step)}"
    answer = await client.post(f"/v1/tasks/{task['id']}/decide", json=body, headers=headers)
    if answer.status_code != 200 and answer.json().get("code") not in ("key_running", "unavailable", "busy"):
        stage.tell(f"vote {step} refused: {answer.text}")
    return answer.status_code == 200


# --- situations -------------------------------------------------------------------------------------------------------


async def asked(stage: Stage, client: httpx2.AsyncClient) -> None:
    """The case lies with its manager, the payment with its first approver."""
    case, payment = keys(stage.run)
    headers = {"X-Actor": cases.CUSTOMER, "X-Actor-Roles": "approver", "Idempotency-Key": f"m-{case}"}
    raised = await client.post("/disputes", json=cases.body(case), headers=headers)
    assert raised.is_success, raised.text
    body = {
        "payment_id": payment, "requested_by": "ravi", "debtor_account": "acme-operating", "beneficiary": "Nordic",
        "beneficiary_account": "nordic-steel", "amount": "1000.00", "currency": "EUR",
    }  # fmt: skip
    headers = {"X-Actor": "shop", "Idempotency-Key": f"m-{payment}"}
    started = await client.post(f"/v1/sagas/{payment_approval.name}", json=body, headers=headers)
    assert started.is_success, started.text
    await stage.send()
    await stage.obey(case_ai, 1)
    await stage.obey(clearing, 1)
    await stage.read(2)
    await stage.send()
    await stage.obey(case_desk, 1)
    taken_on, name = RmAcknowledged(doc_id=case, acknowledged_by=cases.MANAGER), RmAcknowledged.wire_name
    envelope = Envelope(id=f"ack-{case}", source="/lines", type=name, dataschema=schema_urn(name, 1))
    await stage.publish([OutgoingMessage("disputes.events", case.encode(), taken_on.canonical(), envelope.headers())])
    await stage.read(2)
    await stage.send()


# --- units ------------------------------------------------------------------------------------------------------------


async def two_people(stage: Stage) -> None:
    """Over HTTP: the manager's finding, and both approvals of the payment, the last of which lets the money go."""
    async with stage.client() as client:
        await asked(stage, client)
        with stage.tracer:
            for step in VOTES:
                assert await vote(stage, client, step)


async def closing(stage: Stage) -> None:
    """What follows from them: the check, the refund, the case table, the letter; the release. To the end of both."""
    async with stage.client() as client:
        await asked(stage, client)
        for step in VOTES:
            assert await vote(stage, client, step)
    with stage.tracer:
        await stage.send()
        await stage.obey(case_ai, 1)
        await stage.obey(clearing, 1)
        await stage.read(2)
        for _ in range(3):  # refund, case table, letter
            await stage.send()
            await stage.obey(case_desk, 1)
            await stage.read(1)
        await stage.send()


UNITS: dict[str, Callable[[Stage], Awaitable[None]]] = {unit.__name__: unit for unit in (two_people, closing)}


async def until_ended(stage: Stage, url: str, loops: asyncio.Task[None]) -> None:
    """Everybody asks until they have an answer, and both have ended."""
    connection = await asyncpg.connect(url)
    missing = list(VOTES)
    async with stage.client() as client:
        while not loops.done():
            if missing and await vote(stage, client, missing[0]):
                del missing[0]
            ended = await connection.fetchval(
                "SELECT count(*) FROM saga_heads WHERE ended AND business_key = ANY ($1)", keys(stage.run)
            )
            unsent = await connection.fetchval("SELECT count(*) FROM outbox_unsent")
            if ended == len(keys(stage.run)) and not unsent and not missing:
                stage.tell("ended")
                os._exit(0)
            await asyncio.sleep(0.01)
    await loops


KIT = Kit("sagas.disputes,sagas.payments", catalog, UNITS, until_ended)
