"""Commands that only read: nothing is stored, a repeated one is simply answered anew (kernel rule 13, `reads=True`)."""

from __future__ import annotations

import asyncio
import logging

from orchestrator.messages import ContractError, Refused, Reply
from orchestrator.participants import answers
from orchestrator.participants.answers import Answer
from orchestrator.participants.decide import FENCES
from orchestrator.participants.delivery import Delivery
from orchestrator.participants.inbox import Inbox, uncancelled
from orchestrator.participants.participant import Handler
from orchestrator.participants.running import check_reply, failed, outcome_of, work_for
from orchestrator.participants.tracing import handling, process_traceparent
from orchestrator.participants.work import Work, elapsed_seconds

logger = logging.getLogger(__name__)


async def answer_reading(inbox: Inbox, delivery: Delivery, reply_bytes_max: int) -> Answer:
    """The answer of a handler with `reads=True`. Raises what the database raises."""
    handler = delivery.handler
    assert handler is not None
    assert handler.one is not None
    if delivery.purpose in FENCES:
        return answers.not_done()
    try:
        read = _outside if handler.reads_outside else _inside
        reply = await read(inbox, handler, delivery)
        outcome_of(reply, reply_bytes_max, delivery.envelope)
    except Refused as refusal:
        return answers.refused(refusal, delivery.envelope)
    except ContractError as error:
        async with inbox.transaction() as transaction:
            await transaction.keep_dead_letter(delivery.message, "invalid", str(error))
        return answers.error(f"invalid: {error}"[: answers.REASON_CHARACTERS_MAX])
    except Exception as error:
        if not handler.reads_outside and not await inbox.answers():
            raise
        failed(handler, delivery, error)
        return answers.error(delivery.told(answers.failure(error)))
    return answers.ok(reply, delivery.envelope)


async def _inside(inbox: Inbox, handler: Handler, delivery: Delivery) -> Reply:
    """Reads from this database, in a transaction that cannot write."""

    async def run() -> Reply:
        assert handler.one is not None
        async with inbox.transaction(readonly=True) as transaction:
            command = delivery.command()
            with handling(delivery.handling, transaction.connection):
                reply = await handler.one(command, work_for(delivery, transaction))
            return check_reply(handler, reply)

    return await uncancelled(run())


async def _outside(inbox: Inbox, handler: Handler, delivery: Delivery) -> Reply:
    """Reads from somewhere else, within the handler's limit."""
    assert handler.one is not None
    header = delivery.header
    limit_seconds = handler.limit.total_seconds()
    command = delivery.command()
    work = Work(
        header.key,
        header.saga_id,
        header.tenant,
        header.activity,
        header.attempt,
        await inbox.clock(),
        process_traceparent(header),
        _over_at=elapsed_seconds() + limit_seconds,
    )
    async with asyncio.timeout(limit_seconds):
        with handling(delivery.handling):
            return check_reply(handler, await handler.one(command, work))
