"""The chat: "Transfer 6000 to Kiran" over HTTP, approvals, and where everything stands.

Rules of this file
- Each transfer of a session is a saga of its own; its id is in the message that asked for it, so a repeated message
  (same `Idempotency-Key`) is the same transfer, and a message whose saga was never started is started when looked at.
- Who acts is who calls (`X-Actor`). A body that claims to be somebody else is refused.
- An approval is decided and committed in its request; what may not be decided is answered as the engine says it: 403,
  409, 410. Whatever a business says no to is an answer, not an error.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from events.transfers import TransferRequested, TransferWithdrawn
from orchestrator.api.engine import Acting, Actor, Engine, EngineOf, RefusedError, TaskView, may
from orchestrator.participants import open_pool
from sagas.transfers.chats import Chats, OtherMessageError, Session
from sagas.transfers.understand import NotUnderstood, Wish, Withdrawal, understand
from sagas.transfers.workflow import WORKFLOW_TYPE, Transfer, read_transfer

SAGA = "transfer"
ANSWER_SECONDS_MAX = 3.0  # how long a request waits for its transfer; then it is under way
POLL_SECONDS = 0.05
CONNECTIONS_MAX = 4
TEXT_CHARACTERS_MAX = 2_000
MANAGERS, OVERSEERS = "manager", frozenset({"auditor", "operator"})  # a group that decides; capacities that look

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s\x00-\x1f][^\x00-\x1f]*$")]
MessageKey = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with open_pool(app.state.engine.database_url, CONNECTIONS_MAX) as pool:
        app.state.chats = Chats(pool)
        yield


router = APIRouter(tags=["transfers"], lifespan=_lifespan)


class ChatBody(BaseModel):
    """One sentence of a customer."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=TEXT_CHARACTERS_MAX)
    user_id: Name
    session_id: Name | None = None


class ApproveBody(BaseModel):
    """An approver's decision. `approval_id`: which one, where a session has asked for several."""

    model_config = ConfigDict(extra="forbid")

    approver_id: Name
    approved: bool
    reason: str = Field(default="", max_length=TEXT_CHARACTERS_MAX)
    approval_id: str | None = Field(default=None, max_length=600)


@router.post("/chat", dependencies=[may("own")])
async def chat(
    body: ChatBody, request: Request, response: Response, engine: EngineOf, actor: Acting, key: MessageKey = None
) -> dict[str, Any]:
    """Understands a sentence. 200: done, refused, or not understood; 202: it waits for an approval, or takes longer."""
    _is_self(actor, body.user_id, "user_id")
    key = key.strip('"') if key else None  # a structured field's string, or a bare token
    understood = understand(body.message)
    if isinstance(understood, Wish):
        with engine.starting():  # refused here, nothing was written yet; a withdrawal is never refused
            return await _chat(body, understood, request, response, engine, actor, key)
    return await _chat(body, understood, request, response, engine, actor, key)


async def _chat(
    body: ChatBody,
    understood: Wish | Withdrawal | NotUnderstood,
    request: Request,
    response: Response,
    engine: Engine,
    actor: Actor,
    key: str | None,
) -> dict[str, Any]:
    chats = _chats(request)
    session = await _open(chats, body, actor, key)
    wish = _request(understood, session, actor) if isinstance(understood, Wish) else None
    try:
        asked = await chats.ask(session.session_id, body.message, key, wish)
    except OtherMessageError as error:
        raise RefusedError("same_id_other_body", "This Idempotency-Key belongs to another message.") from error
    if isinstance(understood, NotUnderstood):
        answer = _plain(session, "NOT_UNDERSTOOD", understood.text, understood.code)
    elif isinstance(understood, Withdrawal):
        answer = await _withdraw(engine, chats, session, actor)
    else:
        assert asked is not None
        transfer = await _run(engine, asked, actor)
        answer = transfer.paused() if transfer.status == "PENDING_APPROVAL" else transfer.result()
        answer |= {"message": transfer.message}
        response.status_code = 200 if transfer.over else 202
    await chats.answer(session.session_id, answer["message"], f"{key}/answer" if key else None, answer["transfer_id"])
    return answer


@router.post("/workflow/{session_id}/approve", dependencies=[may("task.decide")])
async def approve(
    session_id: str, body: ApproveBody, request: Request, engine: EngineOf, actor: Acting
) -> dict[str, Any]:
    """Decides what waits for approval in a session: 200 with what came of it, 403, 404, 409 or 410."""
    _is_self(actor, body.approver_id, "approver_id")
    chats = _chats(request)
    session = await chats.session(session_id, actor.tenant)
    if session is None:
        raise RefusedError("not_found", "There is no such session.")
    asked, task = await _to_decide(engine, chats, session, actor, body.approval_id)
    answer = {"outcome": "approve" if body.approved else "reject", "reason": body.reason}
    await engine.vote(task.id, answer, task.subject_hash, actor, reason=body.reason)
    await engine.settled(task.saga_id, seconds_max=ANSWER_SECONDS_MAX, tenant=actor.tenant)
    transfer = await _transfer(engine, asked, actor)
    await chats.answer(session_id, transfer.message, f"{asked.transfer_id}/decided", asked.transfer_id)
    return transfer.result() | {"approved_by": actor.id if body.approved else None}


@router.get("/workflow/{session_id}/status", dependencies=[may("own")])
async def status(session_id: str, request: Request, engine: EngineOf, actor: Acting) -> dict[str, Any]:
    """Where a session stands: its transfers with their checkpoints, what waits for approval, and what was said."""
    chats = _chats(request)
    session = await _own(chats, session_id, actor)
    transfers = [await _transfer(engine, asked, actor) for asked in await chats.transfers(session_id)]
    pending = [transfer for transfer in transfers if transfer.status == "PENDING_APPROVAL"]
    history = await chats.history(session_id)
    return {
        "session_id": session_id,
        "user_id": session.user_id,
        "workflow_type": WORKFLOW_TYPE,
        "status": transfers[0].status if transfers else "IDLE",
        "pending_approval": pending[0].approval() if pending else None,
        "transfers": [
            transfer.result()
            | {
                "approval": transfer.approval(),
                "checkpoints": [{"name": name, "at": at.isoformat()} for name, at in transfer.checkpoints],
            }
            for transfer in transfers
        ],
        "history": [
            {"speaker": row["speaker"], "text": row["text"], "at": row["said_at"].isoformat()} for row in history
        ],
    }


@router.get("/sessions", dependencies=[may("own")])
async def sessions(
    request: Request, engine: EngineOf, actor: Acting, user_id: Annotated[str, Query(min_length=1, max_length=200)]
) -> dict[str, Any]:
    """A customer's sessions, the liveliest first: one's own, or anybody's for managers, auditors and operators."""
    if user_id != actor.id and not _oversees(actor):
        raise RefusedError("not_eligible", "These are somebody else's sessions.")
    found = []
    for row in await _chats(request).sessions_of(user_id, actor.tenant):
        saga = await engine.find(row["last_transfer"], SAGA, tenant=actor.tenant) if row["last_transfer"] else None
        found.append(
            {
                "session_id": row["session_id"],
                "user_id": row["user_id"],
                "opened_at": row["opened_at"].isoformat(),
                "last_message_at": row["last_at"].isoformat() if row["last_at"] else None,
                "messages": row["messages"],
                "transfers": row["transfers"],
                "phase": saga.phase if saga is not None else None,
            }
        )
    return {"user_id": user_id, "sessions": found}


# --- one transfer -----------------------------------------------------------------------------------------------------


async def _run(engine: Engine, asked: TransferRequested, actor: Actor) -> Transfer:
    """Starts a transfer (or finds it started) and waits a moment for what comes of it."""
    started = await engine.start(SAGA, asked, actor, promised=True, action="own")
    await engine.settled(started.saga_id, seconds_max=ANSWER_SECONDS_MAX, tenant=actor.tenant)
    return await _transfer(engine, asked, actor)


async def _transfer(engine: Engine, asked: TransferRequested, actor: Actor) -> Transfer:
    """A transfer as it stands. One whose process died before the start is started now."""
    saga = await engine.find(asked.transfer_id, SAGA, tenant=actor.tenant)
    if saga is None:
        # In the name of whoever asked, by the right of whoever asks now: it was allowed, and kept, when it was asked.
        asker = replace(actor, id=asked.user_id, name=asked.user_id)
        await engine.start(SAGA, asked, asker, promised=True, action="own")
        saga = await engine.saga(asked.transfer_id, actor)
    records = await engine.records(saga.saga_id, actor)
    return read_transfer(asked, saga, records, await engine.tasks(saga_id=saga.saga_id, state=None, tenant=saga.tenant))


async def _until_over(engine: Engine, asked: TransferRequested, actor: Actor) -> Transfer:
    """Waits a moment for the end of a transfer; an event takes its way through the broker."""
    over_at = time.monotonic() + ANSWER_SECONDS_MAX
    while True:
        transfer = await _transfer(engine, asked, actor)
        if transfer.over or time.monotonic() >= over_at:
            return transfer
        await asyncio.sleep(POLL_SECONDS)


async def _withdraw(engine: Engine, chats: Chats, session: Session, actor: Actor) -> dict[str, Any]:
    """Withdraws the newest transfer that has not ended."""
    for asked in await chats.transfers(session.session_id):
        transfer = await _transfer(engine, asked, actor)
        if transfer.over:
            continue
        reason = "withdrawn in the chat"
        event_id = f"{asked.transfer_id}/withdrawn"
        await engine.emit(TransferWithdrawn(transfer_id=asked.transfer_id, reason=reason), actor, event_id=event_id)
        transfer = await _until_over(engine, asked, actor)
        return transfer.result() | {"message": transfer.message}
    return _plain(session, "NOTHING_TO_WITHDRAW", "No transfer of this session is under way.", "nothing_to_withdraw")


async def _to_decide(
    engine: Engine, chats: Chats, session: Session, actor: Actor, approval_id: str | None
) -> tuple[TransferRequested, TaskView]:
    """The approval that is meant: the one named, the one that waits, or the newest one that was closed.

    Where another one was taken back, the approver may have looked at that one: then they say which they mean, else a
    customer could put a transfer in another's place while somebody reads.
    """
    closed: tuple[TransferRequested, TaskView] | None = None
    waiting: list[tuple[TransferRequested, TaskView]] = []
    is_swapped = False
    for asked in await chats.transfers(session.session_id):
        task = (await _transfer(engine, asked, actor)).task
        if task is None:
            continue
        if task.id == approval_id:
            return asked, task
        is_swapped = is_swapped or task.state in ("withdrawn", "expired")
        if task.state == "open":
            waiting.append((asked, task))
        closed = closed or (asked, task)
    if approval_id is None and len(waiting) == 1 and not is_swapped:
        return waiting[0]
    if approval_id is None and waiting:
        facts = {"approvals": [task.id for _, task in waiting]}
        raise RefusedError(
            "invalid", "This session has asked for several approvals: name the one you mean as approval_id.", facts
        )
    if approval_id is None and closed is not None:
        return closed  # the engine says why it can no longer be decided
    raise RefusedError("not_found", "Nothing in this session waits for approval.")


# --- sessions and people ----------------------------------------------------------------------------------------------


async def _open(chats: Chats, body: ChatBody, actor: Actor, key: str | None) -> Session:
    """The session that is meant, or a new one: with a key always the same new one."""
    if body.session_id is not None:
        session = await chats.session(body.session_id, actor.tenant)
        if session is None or session.user_id != actor.id:
            raise RefusedError("not_found", "There is no such session.")
        return session
    number = uuid5(NAMESPACE_URL, "\n".join(("session", actor.tenant, actor.id, key))) if key else uuid4()
    await chats.open(f"S-{number}", actor.tenant, actor.id)
    session = await chats.session(f"S-{number}", actor.tenant)
    assert session is not None
    return session


def _request(wish: Wish, session: Session, actor: Actor) -> TransferRequested:
    return TransferRequested(
        transfer_id=f"T-{uuid4()}",  # of a repeated message the first one's counts, see Chats.ask
        session_id=session.session_id,
        user_id=actor.id,
        from_account=actor.id,
        recipient=wish.recipient,
        amount=wish.amount,
        currency=wish.currency,
    )


def _oversees(actor: Actor) -> bool:
    """May they look at other people's sessions? A group of some name gives no capacity."""
    return MANAGERS in actor.roles or bool(OVERSEERS & actor.capacities)


async def _own(chats: Chats, session_id: str, actor: Actor) -> Session:
    """A session that this actor may see. Somebody else's is not there."""
    session = await chats.session(session_id, actor.tenant)
    if session is None or (session.user_id != actor.id and not _oversees(actor)):
        raise RefusedError("not_found", "There is no such session.")
    return session


def _is_self(actor: Actor, claimed: str, field: str) -> None:
    if claimed != actor.id:
        raise RefusedError("not_eligible", f"{field} is not who calls.", {"field": field})


def _chats(request: Request) -> Chats:
    chats: Chats = request.app.state.chats
    return chats


def _plain(session: Session, status: str, message: str, code: str) -> dict[str, Any]:
    """An answer that no transfer stands behind."""
    return {
        "intent": None,
        "status": status,
        "code": code,
        "message": message,
        "data": {"success": False, "message": message},
        "session_id": session.session_id,
        "transfer_id": None,
    }
