"""Running handlers whose effect is in the database, so that a failed one leaves nothing behind.

Rules of this file
- Guarded, each call has a savepoint of its own. Unguarded, there is none, which is for the common case that nothing
  fails: what fails takes its transaction with it, and all of it is done again, guarded.
- `Refused` is an outcome: what the handler wrote before raising it is undone, the refusal is stored.
- Any other exception stores nothing: the answer is `error`, and the coordinator alone asks again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import asyncpg

from orchestrator import logs
from orchestrator.messages import Command, Refused, Reply
from orchestrator.messages.envelope import schema_urn
from orchestrator.messages.protocol import REFUSED_TYPE
from orchestrator.participants.answers import refusal_body
from orchestrator.participants.decide import Row
from orchestrator.participants.delivery import Delivery
from orchestrator.participants.inbox import Transaction
from orchestrator.participants.participant import Handler
from orchestrator.participants.sealing import Envelope
from orchestrator.participants.tracing import Handling, handling, process_traceparent
from orchestrator.participants.work import Asked, ManyWork, ParticipantError, Work

logger = logging.getLogger(__name__)

Result = Row | Exception

# Nobody's fault: two transactions met. The whole one is done again, and no attempt of the coordinator is spent on it.
TRY_AGAIN = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class HandlerFailed(Exception):
    """Of a handler without a savepoint: its transaction is to be rolled back and done again, guarded."""


def row_of(delivery: Delivery, answer: Reply | Refused, reply_bytes_max: int, *, starts: int = 1) -> Row:
    """The settled row of a command. Raises ParticipantError for a reply that is too large to be sent."""
    wanted = delivery.wanted
    outcome, body, reply_type, schema = outcome_of(answer, reply_bytes_max, delivery.envelope)
    return Row(
        wanted.tenant,
        wanted.key,
        wanted.wire_key,
        delivery.header.type,
        delivery.header.version,
        wanted.body_hash,
        starts=starts,
        outcome="ok" if outcome == "ok" else "refused",
        reply=body,
        reply_type=reply_type,
        reply_schema=schema,
    )


def outcome_of(
    answer: Reply | Refused, reply_bytes_max: int, envelope: Envelope | None = None
) -> tuple[str, bytes, str, str]:
    """Outcome, body, type and schema as they are stored. Raises ParticipantError for a reply that cannot be sent."""
    if isinstance(answer, Refused):
        return "refused", refusal_body(answer, envelope), REFUSED_TYPE, ""
    body = answer.canonical() if envelope is None else envelope.reply(answer)
    if len(body) > reply_bytes_max:
        raise ParticipantError(
            f"the reply {answer.wire_name} has {len(body)} bytes, more than reply_bytes_max = {reply_bytes_max}: "
            "send a reference to where the data lies"
        )
    return "ok", body, answer.wire_name, schema_urn(answer.wire_name, answer.wire_version)


def check_reply(handler: Handler, answer: Any) -> Reply:
    """The reply, if it is what the command's contract promises. Raises ParticipantError."""
    if not isinstance(answer, handler.command.reply_type):
        raise ParticipantError(
            f"the handler of {handler.command.wire_name} gave a {type(answer).__name__}; its contract promises "
            f"{handler.command.reply_type.__name__}"
        )
    return answer


async def run_all(
    transaction: Transaction, handler: Handler, deliveries: Sequence[Delivery], reply_bytes_max: int
) -> list[Result]:
    """One result per delivery, in order: the settled row, or why there is none."""
    if handler.many is None or len(deliveries) == 1:
        return [await run_one(transaction, handler, delivery, reply_bytes_max) for delivery in deliveries]
    try:
        async with transaction.savepoint():
            return await _run_many(transaction, handler, deliveries, reply_bytes_max)
    except TRY_AGAIN:
        raise
    except Exception as error:
        logger.warning(
            "%s commands %s at once failed, trying each alone: %s",
            len(deliveries),
            handler.command.wire_name,
            type(error).__name__,
        )
        return [await run_one(transaction, handler, delivery, reply_bytes_max) for delivery in deliveries]


async def run_unguarded(
    transaction: Transaction, handler: Handler, deliveries: Sequence[Delivery], reply_bytes_max: int
) -> list[Result]:
    """As `run_all`, without savepoints; one command at most where the handler takes one. Raises HandlerFailed."""
    try:
        if handler.many is not None:
            return await _run_many(transaction, handler, deliveries, reply_bytes_max)
        [delivery] = deliveries
        try:
            command = delivery.command()
        except Exception as error:
            return [error]
        return [row_of(delivery, await _call_one(handler, command, delivery, transaction), reply_bytes_max)]
    except TRY_AGAIN:
        raise
    except Exception as error:
        raise HandlerFailed from error


async def _run_many(
    transaction: Transaction, handler: Handler, deliveries: Sequence[Delivery], reply_bytes_max: int
) -> list[Result]:
    results: list[Result | None] = []
    asked: list[Asked[Any]] = []
    for delivery in deliveries:
        try:
            asked.append(_asked(delivery, delivery.command()))
            results.append(None)
        except Exception as error:  # a body that does not fit is that command's failure alone
            results.append(error)
    first = next((delivery.handling for delivery in deliveries if delivery.handling is not None), None)
    given = iter(await _call_many(handler, asked, transaction, first))
    return [
        row_of(delivery, next(given), reply_bytes_max) if result is None else result
        for delivery, result in zip(deliveries, results, strict=True)
    ]


async def run_one(transaction: Transaction, handler: Handler, delivery: Delivery, reply_bytes_max: int) -> Result:
    """The settled row of one command, or why there is none. Raises only when the transaction itself is lost."""
    try:
        command = delivery.command()
        try:
            async with transaction.savepoint():
                reply = await _call_one(handler, command, delivery, transaction)
                return row_of(delivery, reply, reply_bytes_max)
        except Refused as refusal:
            return row_of(delivery, refusal, reply_bytes_max)
    except TRY_AGAIN:
        raise
    except Exception as error:
        if transaction.connection.is_closed():
            raise
        failed(handler, delivery, error)
        return error


def failed(handler: Handler, delivery: Delivery, error: Exception) -> None:
    """Says in the log that a handler raised; with the traceback where that tells nothing of a person."""
    trace = delivery.traceback(error)
    with delivery.concerning():
        told = delivery.told(logs.said(error))
        logger.warning("handler of %s failed: %s", handler.command.wire_name, told, exc_info=trace)


async def _call_one(handler: Handler, command: Command[Any], delivery: Delivery, transaction: Transaction) -> Reply:
    if handler.one is None:
        answers = await _call_many(handler, [_asked(delivery, command)], transaction, delivery.handling)
        if isinstance(answers[0], Refused):
            raise answers[0]
        return answers[0]
    # What the handler logs names its saga too.
    with delivery.concerning(), handling(delivery.handling, transaction.connection):
        reply = await handler.one(command, work_for(delivery, transaction))
    return check_reply(handler, reply)


async def _call_many(
    handler: Handler, asked: list[Asked[Any]], transaction: Transaction, first: Handling | None
) -> list[Reply | Refused]:
    """`first`: of the sampled ones, the one whose span gets the statements: they were made for all together."""
    assert handler.many is not None
    if not asked:
        return []
    with handling(first, transaction.connection):
        answers = await handler.many(asked, ManyWork(transaction.connection, transaction.now))
    if len(answers) != len(asked):
        raise ParticipantError(
            f"the handler of many {handler.command.wire_name} was asked {len(asked)} and gave {len(answers)} answers: "
            "one each, in order"
        )
    return [answer if isinstance(answer, Refused) else check_reply(handler, answer) for answer in answers]


def work_for(delivery: Delivery, transaction: Transaction) -> Work:
    """What a handler inside the database's transaction is given."""
    header = delivery.header
    return Work(
        header.key,
        header.saga_id,
        header.tenant,
        header.activity,
        header.attempt,
        transaction.now,
        process_traceparent(header),
        _connection=transaction.connection,
    )


def _asked(delivery: Delivery, command: Command[Any]) -> Asked[Any]:
    header = delivery.header
    return Asked(
        command, header.key, header.saga_id, header.tenant, header.activity, header.attempt, process_traceparent(header)
    )
