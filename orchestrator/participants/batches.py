"""Many commands in one transaction: the fast path.

Rules of this file
- Commands that share a key (their own, one that they undo, one of an earlier round) are taken in the order in which
  they came; all others may be taken together, by type.
- What needs more than this transaction is handed to the slow path: effects outside the database, keys that were started
  and have no outcome, and whatever comes after such a one on the same keys.
- A batch is first done without savepoints, where no more than one command could need one. When something fails then,
  all of it is rolled back and done again with them: two round trips less for a lone command, and for the failing ones
  what a lost race (InboxConflict) costs.
- Nothing else retries here: who calls does, and falls back to one command at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from orchestrator.broker.contract import Assignment
from orchestrator.participants.answers import Answer
from orchestrator.participants.decide import FromRow, Resolve, Row, RowKey, Run, next_act
from orchestrator.participants.delivery import Delivery, Unreadable
from orchestrator.participants.inbox import Inbox, Transaction
from orchestrator.participants.participant import Handler
from orchestrator.participants.running import HandlerFailed, run_all, run_unguarded
from orchestrator.participants.settling import answer_of_run, settle_without_running

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What a batch led to. `answered`: with a flag whether the answer was there before. `slow`: for the slow path."""

    answered: list[tuple[Delivery, Answer, bool]] = field(default_factory=list)
    slow: list[Delivery] = field(default_factory=list)


async def process(
    inbox: Inbox,
    deliveries: Sequence[Delivery],
    unreadable: Sequence[Unreadable],
    positions: Mapping[Assignment, int],
    reply_bytes_max: int,
) -> Outcome:
    """One transaction for all: effects, inbox rows, answers, dead letters, and the progress of earlier batches.

    Raises InboxConflict when another process took one of the keys meanwhile: do it again.
    """
    try:
        return await _process(inbox, deliveries, unreadable, positions, reply_bytes_max, guarded=False)
    except (HandlerFailed, asyncpg.InFailedSQLTransactionError):
        # The second: a handler has swallowed the error of a statement, so the next one of this transaction failed.
        return await _process(inbox, deliveries, unreadable, positions, reply_bytes_max, guarded=True)


async def _process(
    inbox: Inbox,
    deliveries: Sequence[Delivery],
    unreadable: Sequence[Unreadable],
    positions: Mapping[Assignment, int],
    reply_bytes_max: int,
    *,
    guarded: bool,
) -> Outcome:
    wanted = dict.fromkeys(key for delivery in deliveries for key in delivery.keys)
    async with inbox.transaction(wanted) as transaction:
        batch = _Batch(transaction, reply_bytes_max, guarded=guarded)
        for wave in waves(deliveries):
            await batch.take(wave)
        for bad in unreadable:
            message = bad.message
            logger.error("dead letter: %s[%s] at %s: unreadable", message.topic, message.partition, message.offset)
            await transaction.keep_dead_letter(bad.message, "unreadable", bad.detail)
        await transaction.add(list(batch.new.values()), positions)
        return batch.outcome


def waves(deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
    """The deliveries in rounds: within one no key is shared, and each key's commands keep their order."""
    last: dict[RowKey, int] = {}
    found: list[list[Delivery]] = []
    for delivery in deliveries:
        place = 1 + max((last.get(key, -1) for key in delivery.keys), default=-1)
        for key in delivery.keys:
            last[key] = place
        if place == len(found):
            found.append([])
        found[place].append(delivery)
    return found


class _Batch:
    """The state of one transaction: rows as read and as this batch adds to them."""

    def __init__(self, transaction: Transaction, reply_bytes_max: int, *, guarded: bool) -> None:
        self.rows: dict[RowKey, Row] = dict(transaction.found)
        self.new: dict[RowKey, Row] = {}
        self.outcome = Outcome()
        self._transaction = transaction
        self._reply_bytes_max = reply_bytes_max
        self._guarded = guarded
        self._busy: set[RowKey] = set()  # keys handed to the slow path

    async def take(self, wave: Sequence[Delivery]) -> None:
        """Decides each command of a wave and runs what is to run, by type."""
        to_run: dict[int, tuple[Handler, list[tuple[Delivery, Run]]]] = {}
        for delivery in wave:
            if self._busy and not self._busy.isdisjoint(delivery.keys):
                self._hand_over(delivery)
                continue
            act = next_act(delivery.wanted, self.rows)
            handler = delivery.handler
            runs_outside = isinstance(act, Run) and handler is not None and handler.policy is not None
            if runs_outside or isinstance(act, Resolve):
                self._hand_over(delivery)
            elif isinstance(act, Run) and handler is not None:
                to_run.setdefault(id(handler), (handler, []))[1].append((delivery, act))
            else:
                answer = await settle_without_running(self._transaction, delivery, act, self._add)
                self.outcome.answered.append((delivery, answer, isinstance(act, FromRow)))
        alone = sum(len(planned) for handler, planned in to_run.values() if handler.many is None)
        run = run_all if self._guarded or alone > 1 else run_unguarded
        for handler, planned in to_run.values():
            results = await run(self._transaction, handler, [d for d, _ in planned], self._reply_bytes_max)
            for (delivery, act), result in zip(planned, results, strict=True):
                answer = await answer_of_run(self._transaction, delivery, act, result, self._add)
                self.outcome.answered.append((delivery, answer, False))

    def _hand_over(self, delivery: Delivery) -> None:
        self._busy.update(delivery.keys)
        self.outcome.slow.append(delivery)

    def _add(self, row: Row) -> None:
        self.rows[row.tenant, row.key] = row
        self.new[row.tenant, row.key] = row
