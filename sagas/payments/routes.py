"""Payments over HTTP: where one stands, and how its requester takes it back.

Payments come as events (`bank.payments.approval_required`), and are decided as tasks, like everything else that people
decide. What is here is for the people and systems at the other end, who know a payment id and nothing of sagas.

Rules of this file
- A payment is seen by its requester and by those who work on payments; to anybody else it is not there.
- Only its requester withdraws a payment. Whether the withdrawal came in time, the saga decides, not the clock here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from events.payments import ApprovalRequired, ApprovalWithdrawn
from orchestrator.api.engine import Acting, Actor, Engine, EngineOf, RecordView, RefusedError, SagaView, TaskView, may
from sagas.payments.definition import PaymentState

SAGA = "payment-approval"
ANSWER_SECONDS_MAX = 3.0  # how long a withdrawal waits for what comes of it
POLL_SECONDS = 0.05
# Groups that work on payments, and capacities that may look at anybody's; their holders see every payment.
GROUPS = frozenset({"payments-approver", "payments-senior", "payments-supervisor", "treasury-committee"})
STAFF = frozenset({"viewer", "operator", "auditor"})
_WORDS = {
    PaymentState.PENDING.value: "waits for the first approval",
    PaymentState.FIRST_APPROVED.value: "waits for the second approval",
    PaymentState.RELEASED.value: "released",
    PaymentState.DENIED.value: "not released",
}

router = APIRouter(prefix="/payments", tags=["payments"])

PaymentId = Annotated[str, Path(min_length=1, max_length=200)]


class WithdrawBody(BaseModel):
    """Why the payment is taken back."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=500)


@router.get("/{payment_id}", dependencies=[may("own")])
async def status(payment_id: PaymentId, engine: EngineOf, actor: Acting) -> dict[str, Any]:
    """Where a payment stands: its state in words, who has approved, until when the next approval is waited for."""
    saga, request, records = await _own(engine, payment_id, actor)
    return await _shown(engine, saga, request, records)


@router.post("/{payment_id}/withdraw", dependencies=[may("own")])
async def withdraw(payment_id: PaymentId, body: WithdrawBody, engine: EngineOf, actor: Acting) -> dict[str, Any]:
    """Takes a payment back while it waits; 409 once that is too late. The answer says what came of it."""
    saga, request, _ = await _own(engine, payment_id, actor)
    if actor.id != request.requested_by:
        raise RefusedError("not_eligible", "Only whoever asked for a payment withdraws it.")
    if saga.ended:
        raise RefusedError("ended", "This payment is over; it can no longer be withdrawn.", saga_id=saga.saga_id)
    event = ApprovalWithdrawn(payment_id=payment_id, withdrawn_by=actor.id, reason=body.reason)
    await engine.emit(event, actor, event_id=f"{saga.saga_id}/withdrawn")
    over = await _over(engine, saga, actor)
    return await _shown(engine, over, request, await engine.records(saga.saga_id, actor))


async def _over(engine: Engine, saga: SagaView, actor: Actor) -> SagaView:
    """The payment once it is over, or as it is when that takes too long; an event goes through the broker."""
    over_at = time.monotonic() + ANSWER_SECONDS_MAX
    while True:
        found = await engine.saga(saga.saga_id, actor)
        if found.ended or time.monotonic() >= over_at:
            return found
        await asyncio.sleep(POLL_SECONDS)


async def _own(
    engine: Engine, payment_id: str, actor: Actor
) -> tuple[SagaView, ApprovalRequired, Sequence[RecordView]]:
    """A payment that this actor may see. Somebody else's is not there."""
    saga = await engine.find(payment_id, SAGA, tenant=actor.tenant)
    if saga is not None:
        records = await engine.records(saga.saga_id, actor)
        request = ApprovalRequired.from_plain(records[0].data["data"])
        if actor.id == request.requested_by or GROUPS & set(actor.roles) or STAFF & actor.capacities:
            return saga, request, records
    raise RefusedError("not_found", "There is no such payment.")


async def _shown(
    engine: Engine, saga: SagaView, request: ApprovalRequired, records: Sequence[RecordView]
) -> dict[str, Any]:
    """One payment, for people who know nothing of sagas."""
    states = [record.data["state"] for record in records if record.type == "state.entered"]
    state = str(states[-1]) if states else PaymentState.PENDING.value
    tasks = sorted(await engine.tasks(saga_id=saga.saga_id, state=None, tenant=saga.tenant), key=_opened)
    waiting = next((task for task in tasks if task.state == "open"), None)
    told = next((record.data["event"]["body"] for record in records if record.type == "event.published"), None)
    return {
        "payment_id": request.payment_id,
        "status": state,
        "message": _WORDS.get(state, state) if not saga.stuck else "held up; somebody is looking at it",
        "amount": f"{request.amount:.2f}",
        "currency": request.currency,
        "beneficiary": request.beneficiary,
        "requested_by": request.requested_by,
        "approvals": [
            {"by": vote["by"], "outcome": vote["outcome"], "reason": vote["reason"], "step": _step(task)}
            for task in tasks
            for vote in task.votes
        ],
        "waits_until": waiting.due.isoformat() if waiting is not None and waiting.due is not None else None,
        "reference": told.get("reference") if told else None,
        "reason": told.get("reason") if told else None,
    }


def _step(task: TaskView) -> str:
    return task.activity.rpartition("/")[2]


def _opened(task: TaskView) -> str:
    return task.opened_at.isoformat()
