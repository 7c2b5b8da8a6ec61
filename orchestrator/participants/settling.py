"""From a decision to an answer, inside a transaction: the part that fast and slow path share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from orchestrator.messages import ContractError
from orchestrator.participants import answers
from orchestrator.participants.answers import Answer
from orchestrator.participants.decide import (
    Act,
    Fenced,
    FromRow,
    NothingToUndo,
    OtherBody,
    Row,
    Run,
    UnderEarlier,
    Wanted,
    without_body_hash,
)
from orchestrator.participants.delivery import Delivery
from orchestrator.participants.inbox import Transaction
from orchestrator.participants.running import Result, row_of

logger = logging.getLogger(__name__)

AddRow = Callable[[Row], None]


async def settle_without_running(transaction: Transaction, delivery: Delivery, act: Act, add: AddRow) -> Answer:
    """The answer to a command for which no handler runs. New rows go to `add`; dead letters are written at once."""
    wanted = delivery.wanted
    match act:
        case FromRow(row):
            return answers.from_row(row, wanted.purpose)
        case UnderEarlier(row, close):
            _close(wanted, close, add)
            own = _under(delivery, row)
            add(own)
            return answers.from_row(own, wanted.purpose)
        case NothingToUndo(close):
            _close(wanted, close, add)
            command = delivery.handler.command if delivery.handler is not None else None
            own = row_of(delivery, answers.nothing_to_undo(command), answers.SMALL_BYTES_MAX, starts=0)
            add(own)
            return answers.from_row(own, wanted.purpose)
        case Fenced(close):
            _close(wanted, close, add)
            return answers.not_done()
        case OtherBody(row):
            detail = f"key {wanted.wire_key} came before with another body, as {row.type} under {row.wire_key}"
            return await _dead_letter(transaction, delivery, "other_body", detail)
        case Run():
            detail = f"nobody here handles {delivery.header.type}"
            return await _dead_letter(transaction, delivery, "unknown_type", detail)
    raise AssertionError(f"{act} needs more than this")


async def answer_of_run(transaction: Transaction, delivery: Delivery, act: Run, result: Result, add: AddRow) -> Answer:
    """The answer to a command whose handler ran in this transaction."""
    if isinstance(result, Row):
        _close(delivery.wanted, act.close, add)
        add(result)
        return answers.from_row(result, delivery.purpose)
    if isinstance(result, ContractError):
        return await _dead_letter(transaction, delivery, "invalid", str(result))
    return answers.error(delivery.told(answers.failure(result)))


def closed_rows(wanted: Wanted, close: Iterable[str]) -> list[Row]:
    """Rows that refuse these keys for ever."""
    rows = []
    for wire_key in close:
        own = wire_key == wanted.wire_key
        rows.append(
            Row(
                wanted.tenant,
                without_body_hash(wire_key),
                wire_key,
                body_hash=wanted.body_hash if own else None,
                closed="fenced",
            )
        )
    return rows


def _close(wanted: Wanted, close: Iterable[str], add: AddRow) -> None:
    for row in closed_rows(wanted, close):
        add(row)


def _under(delivery: Delivery, done: Row) -> Row:
    """The row of a command that was done under the key of an earlier round."""
    wanted = delivery.wanted
    return Row(
        wanted.tenant,
        wanted.key,
        wanted.wire_key,
        delivery.header.type,
        delivery.header.version,
        wanted.body_hash,
        outcome=done.outcome,
        reply=done.reply,
        reply_type=done.reply_type,
        reply_schema=done.reply_schema,
        under=done.under or done.wire_key,
    )


async def _dead_letter(transaction: Transaction, delivery: Delivery, reason: str, detail: str) -> Answer:
    message = delivery.message
    with delivery.concerning():
        logger.error("dead letter: %s[%s] at %s: %s", message.topic, message.partition, message.offset, reason)
    await transaction.keep_dead_letter(message, reason, detail)
    return answers.error(f"{reason}: {detail}"[: answers.REASON_CHARACTERS_MAX])
