"""One transfer as its customer and its approver see it: derived from the saga's records, nothing else is stored.

The seven checkpoints are records of the saga: a process that dies at any of them goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from events.transfers import TransferRequested
from orchestrator.api.engine import RecordView, SagaView, TaskView
from sagas.transfers.definition import AUTO, EXPIRED, REJECTED, WITHDRAWN

WORKFLOW_TYPE = "transfer"

# Record type and step (the end of the activity's id) to the checkpoint that it is.
_CHECKPOINTS = {
    ("step.requested", "validate_transfer"): "validate_start",
    ("step.succeeded", "validate_transfer"): "validate_end",
    ("step.refused", "validate_transfer"): "validate_end",
    ("step.requested", "hold_funds"): "prepare_start",
    ("step.succeeded", "hold_funds"): "prepare_end",
    ("step.refused", "hold_funds"): "prepare_end",
    ("task.opened", "manager_approval"): "approval_paused",
    ("task.decided", "manager_approval"): "approval_decided",
    ("task.expired", "manager_approval"): "approval_decided",
    ("step.succeeded", "execute_transfer"): "execute_end",
    ("step.refused", "execute_transfer"): "execute_end",
}
_TURNED_BACK = {REJECTED: "REJECTED", EXPIRED: "EXPIRED", WITHDRAWN: "WITHDRAWN"}


@dataclass(frozen=True, slots=True)
class Transfer:
    """Where a transfer stands. `status`: PROCESSING, PENDING_APPROVAL, COMPLETED, FAILED, REJECTED, EXPIRED, WITHDRAWN
    or STUCK (an operator looks at it). `decision`: auto, or who decided; empty while that is open.
    """

    request: TransferRequested
    saga: SagaView
    status: str
    message: str
    decision: str
    reference: str
    checkpoints: tuple[tuple[str, datetime], ...]
    task: TaskView | None

    @property
    def over(self) -> bool:
        """Nothing more will happen."""
        return self.status not in ("PROCESSING", "PENDING_APPROVAL", "STUCK")

    def result(self) -> dict[str, Any]:
        """What the end of a transfer looks like to who asked for it."""
        by_person = self.decision not in ("", AUTO) and self.status != "REJECTED"
        return {
            "intent": WORKFLOW_TYPE,
            "status": self.status,
            "data": {"success": self.status == "COMPLETED", "message": self.message, "reference": self.reference},
            "decision": self.decision,
            "approved_by": self.decision if by_person else None,
            "transfer_id": self.request.transfer_id,
            "saga_id": self.saga.saga_id,
            "session_id": self.request.session_id,
        }

    def approval(self) -> dict[str, Any] | None:
        """The approval as it stands, open or closed; None where none was needed."""
        if self.task is None:
            return None
        return {
            "approval_id": self.task.id,
            "session_id": self.request.session_id,
            "workflow_type": WORKFLOW_TYPE,
            "request": self.request.plain(),
            "status": {"open": "PENDING"}.get(self.task.state, self.task.state.upper()),
            "amount": str(self.request.amount),
            "currency": self.request.currency,
            "recipient": self.request.recipient,
            "requested_at": _text(self.task.opened_at),
            "due": _text(self.task.due),
            "approver_id": self.decision if self.decision not in ("", AUTO) else None,
            "approved_at": _at(self.checkpoints, "approval_decided"),
            "subject_hash": self.task.subject_hash,
        }

    def paused(self) -> dict[str, Any]:
        """What a transfer that waits for approval looks like."""
        assert self.task is not None
        return self.result() | {
            "message": self.message,
            "approval_id": self.task.id,
            "amount": str(self.request.amount),
            "recipient": self.request.recipient,
            "paused_at": _text(self.task.opened_at),
        }


def read_transfer(
    request: TransferRequested, saga: SagaView, records: Sequence[RecordView], tasks: Sequence[TaskView]
) -> Transfer:
    """A transfer from its saga's records. `tasks`: of this saga, open or closed."""
    checkpoints = []
    reason, reference, decision = "", "", ""
    for record in records:
        step = record.activity.rpartition("/")[2]
        name = _CHECKPOINTS.get((record.type, step))
        if name is not None:
            checkpoints.append((name, record.recorded_at))
        if record.type == "compensation.started":
            reason = _reason(record.data)
        elif name == "execute_end" and record.type == "step.succeeded":
            reference = str(record.data["result"]["reference"])
            decision = decision or AUTO
        elif record.type == "task.decided":
            decision = _decided_by(record.data)
    task = tasks[0] if tasks else None
    status = _status(saga, task, reason)
    message = _message(request, status, reason, reference)
    return Transfer(request, saga, status, message, decision, reference, tuple(checkpoints), task)


def _status(saga: SagaView, task: TaskView | None, reason: str) -> str:
    if saga.phase == "completed":
        return "COMPLETED"
    if reason:
        over = saga.ended
        return _TURNED_BACK.get(reason, "FAILED") if over else ("STUCK" if saga.stuck else "PROCESSING")
    if saga.stuck:
        return "STUCK"
    return "PENDING_APPROVAL" if task is not None and task.state == "open" else "PROCESSING"


def _message(request: TransferRequested, status: str, reason: str, reference: str) -> str:
    what = f"{request.amount} {request.currency} to {request.recipient}"
    return {
        "COMPLETED": f"Transferred {what} (reference {reference}).",
        "PENDING_APPROVAL": f"The transfer of {what} waits for approval.",
        "PROCESSING": f"The transfer of {what} is under way.",
        "STUCK": f"The transfer of {what} is held up; somebody is looking at it.",
        "REJECTED": f"The transfer of {what} was rejected by the approver.",
        "EXPIRED": f"Nobody approved the transfer of {what} in time.",
        "WITHDRAWN": f"The transfer of {what} was withdrawn.",
    }.get(status, f"The transfer of {what} was not made: {reason}")


def _reason(data: Mapping[str, Any]) -> str:
    found = data.get("reason") or data.get("failure") or ""
    return str(found.get("reason", "")) if isinstance(found, Mapping) else str(found)


def _decided_by(data: Mapping[str, Any]) -> str:
    by = data["decision"]["by"]
    return str(by["id"] if isinstance(by, Mapping) else by)


def _at(checkpoints: Sequence[tuple[str, datetime]], wanted: str) -> str | None:
    return next((_text(at) for name, at in checkpoints if name == wanted), None)


def _text(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant is not None else None
