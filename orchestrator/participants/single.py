"""One command at a time: the slow path, for effects outside the database and for whatever a batch could not take.

How one command goes (kernel rule 13)
    look      lock its rows and decide; what needs no call ends here, in one transaction
    start     note `started` with a lease and commit, before anything is sent
    call      check the lease again, then call, for at most the time that the lease has left
    settle    store the outcome; a refusal only if no other call can have had another one
    resolve   whoever finds `started` without outcome looks it up, repeats an idempotent call, waits, or says never
After each of them the rows are read anew: another delivery may have moved them. A crash anywhere leaves either nothing
or a `started` row, which the next delivery resolves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator import logs
from orchestrator.messages import Command, ContractError, Refused, Reply
from orchestrator.participants import answers, decide
from orchestrator.participants.answers import Answer
from orchestrator.participants.decide import FENCES, InDoubt, OutsidePolicy, Purpose, Resolve, Row, Run, next_act
from orchestrator.participants.delivery import Delivery
from orchestrator.participants.inbox import Inbox, InboxConflict, uncancelled
from orchestrator.participants.participant import Handler
from orchestrator.participants.running import TRY_AGAIN, check_reply, outcome_of, run_one
from orchestrator.participants.settling import answer_of_run, closed_rows, settle_without_running
from orchestrator.participants.tracing import handling, process_traceparent
from orchestrator.participants.work import NotSent, Work, elapsed_seconds

logger = logging.getLogger(__name__)

LOOKS_MAX = 20  # times that other deliveries may move the rows under one delivery before it answers error
NO_HANDLER_WAIT = timedelta(seconds=60)  # until a key is asked about again whose handler is not installed


@dataclass(frozen=True, slots=True)
class _Started:
    """A call that was noted and may now be made. `before`: the row before this start, None for the first."""

    row: Row
    before: Row | None
    start: int
    sent_at: datetime
    over_at: float


@dataclass(frozen=True, slots=True)
class _Found:
    """A row to be resolved, and when it was read."""

    row: Row
    purpose: Purpose
    now: datetime


class Singles:
    """The slow path of one participant. `clock`: seconds that pass also while the process or the machine sleeps."""

    def __init__(
        self,
        inbox: Inbox,
        handlers: Mapping[str, Handler],
        reply_bytes_max: int,
        clock: Callable[[], float] = elapsed_seconds,
    ) -> None:
        self._inbox = inbox
        self._handlers = handlers
        self._reply_bytes_max = reply_bytes_max
        self._clock = clock

    async def answer(self, delivery: Delivery) -> Answer:
        """The answer to one command, settled as far as that is possible now.

        Raises what the database raises; nothing is lost then: try again.
        """
        for _ in range(LOOKS_MAX):
            try:
                found = await uncancelled(self._look(delivery))
            except (InboxConflict, *TRY_AGAIN):
                continue
            if isinstance(found, _Started):
                answer = await self._call(delivery, found)
            elif isinstance(found, _Found):
                answer = await self._resolve(delivery, found)
            else:
                return found
            if answer is not None:
                return answer
        return answers.error(f"other deliveries of this key moved it {LOOKS_MAX} times meanwhile")

    # --- look and start -----------------------------------------------------------------------------------------------

    async def _look(self, delivery: Delivery) -> Answer | _Started | _Found:
        began = self._clock()  # before the database's clock is read: the lease is over here before it is there
        new: list[Row] = []
        async with self._inbox.transaction() as transaction:
            act = next_act(delivery.wanted, await transaction.lock(delivery.keys))
            handler = delivery.handler
            if isinstance(act, Resolve):
                return _Found(act.row, delivery.purpose if act.own else "fence", transaction.now)
            if not isinstance(act, Run) or handler is None:
                answer = await settle_without_running(transaction, delivery, act, new.append)
            elif handler.policy is None:
                result = await run_one(transaction, handler, delivery, self._reply_bytes_max)
                answer = await answer_of_run(transaction, delivery, act, result, new.append)
            else:
                try:
                    delivery.command()
                except ContractError as error:
                    return await answer_of_run(transaction, delivery, act, error, new.append)
                row = _first_row(delivery)
                await transaction.start(row, handler.policy.lease)
                await transaction.add(closed_rows(delivery.wanted, act.close))
                return _Started(row, None, 1, transaction.now, began + handler.policy.lease.total_seconds())
            await transaction.add(new)
            return answer

    async def _start_again(self, row: Row, policy: OutsidePolicy, *, repeat: bool) -> _Started | None:
        """Notes another call of a started key. None: another delivery was faster."""
        began = self._clock()
        async with self._inbox.transaction() as transaction:
            now = transaction.now
            if repeat and not decide.may_repeat(row, policy, now):
                return None
            limit = decide.call_limit(row, policy, now) if repeat else policy.lease
            if not await transaction.start_again(row, limit):
                return None
            return _Started(row, row, row.starts + 1, now, began + limit.total_seconds())

    # --- call and settle ----------------------------------------------------------------------------------------------

    async def _call(self, delivery: Delivery, started: _Started) -> Answer | None:
        """Calls the handler for a started row. None: it is settled, look again; an answer: it is not."""
        row = started.row
        handler = self._handlers[row.type]
        policy = handler.policy
        assert handler.one is not None
        assert policy is not None
        work = self._work(delivery, row, started.sent_at, started.over_at)
        try:
            command = _command_of(delivery, handler, row)
            async with asyncio.timeout(work.time_left()):
                with handling(delivery.handling):
                    reply = check_reply(handler, await handler.one(command, work))
        except NotSent as error:
            before = started.before.lease_until if started.before is not None else None
            await uncancelled(self._take_back(started, before))
            return self._unknown(delivery, delivery.told(answers.failure(error)), _next_try(policy, started.sent_at))
        except Refused as refusal:
            return await self._refused(delivery, started, policy, refusal)
        except Exception as error:
            said = delivery.told(answers.failure(error))
            told = delivery.told(logs.said(error))
            logger.warning("call of %s (start %s) failed: %s", row.type, started.start, told)
            return self._unknown(delivery, said, _next_try(policy, started.sent_at))
        await uncancelled(self._settle(delivery, row, handler, command, reply, None))
        return None

    async def _refused(
        self, delivery: Delivery, started: _Started, policy: OutsidePolicy, refusal: Refused
    ) -> Answer | None:
        """The outside said no: that is the outcome only if no other call of this key can have got a yes."""
        if decide.refusal_counts(started.before, policy, started.sent_at):
            handler = self._handlers[started.row.type]
            if await uncancelled(self._settle(delivery, started.row, handler, None, refusal, started.start)):
                return None
            return self._unknown(delivery, "another call of this key was sent meanwhile", None)
        assert started.before is not None
        await uncancelled(self._take_back(started, started.before.lease_until))
        return answers.in_doubt(delivery.purpose, decide.clear_at(started.before, policy))

    async def _settle(
        self,
        delivery: Delivery,
        row: Row,
        handler: Handler,
        command: Command[Any] | None,
        answer: Reply | Refused,
        start: int | None,
    ) -> bool:
        """Stores an outcome, and in the same transaction what the author records with it. False: it was not stored."""
        outcome = outcome_of(answer, self._reply_bytes_max, delivery.envelope)
        async with self._inbox.transaction() as transaction:
            stored, closed = await transaction.settle(row, outcome, start)
            if stored and closed is not None and not isinstance(answer, Refused):
                logger.error("key %s was closed as %s, and then its effect was found done", row.key, closed)
            if stored and handler.record is not None and not isinstance(answer, Refused):
                work = self._work(delivery, row, transaction.now, None, transaction.connection)
                await handler.record(command, answer, work)
            return stored

    async def _take_back(self, started: _Started, lease_until: datetime | None) -> None:
        async with self._inbox.transaction() as transaction:
            await transaction.take_back(started.row, started.start, lease_until)

    # --- resolve ------------------------------------------------------------------------------------------------------

    async def _resolve(self, delivery: Delivery, found: _Found) -> Answer | None:
        """Makes the outcome of a started row known. None: something has moved, look again; an answer: not yet."""
        row = found.row
        handler = self._handlers.get(row.type)
        if handler is None or handler.policy is None:
            logger.error("key %s was started as %s, for which there is no outside handler any more", row.key, row.type)
            return answers.in_doubt(delivery.purpose, found.now + NO_HANDLER_WAIT)
        policy = handler.policy
        if handler.lookup is None:
            verdict = decide.without_lookup(row, policy, found.now)
        else:
            looked_up = await self._look_up(delivery, found, handler, policy)
            if looked_up is None:
                return None
            verdict = looked_up
        if isinstance(verdict, InDoubt):
            return answers.in_doubt(delivery.purpose, verdict.until)
        if verdict == "never":
            logger.error("key %s of %s can never be known: nobody remembers it any more", row.key, row.type)
            await uncancelled(self._close(row, "never"))
            return None
        if verdict == "free" and found.purpose in FENCES:
            await uncancelled(self._close(row, "fenced"))
            return None
        started = await uncancelled(self._start_again(row, policy, repeat=verdict == "repeat"))
        return None if started is None else await self._call(delivery, started)

    async def _look_up(
        self, delivery: Delivery, found: _Found, handler: Handler, policy: OutsidePolicy
    ) -> decide.Next | None:
        """Asks the outside. None: the outcome is stored now. `found.now` was read before the look-up is sent."""
        row = found.row
        assert handler.lookup is not None
        over_at = self._clock() + policy.lease.total_seconds()
        work = self._work(delivery, row, found.now, over_at)
        try:
            command = _command_of(delivery, handler, row)
            async with asyncio.timeout(policy.lease.total_seconds()):
                with handling(delivery.handling):
                    reply = await handler.lookup(command, work)
            if reply is not None:
                check_reply(handler, reply)
        except Refused as refusal:
            if row.starts > 1 and found.now < decide.clear_at(row, policy):
                return InDoubt(decide.clear_at(row, policy))
            await uncancelled(self._settle(delivery, row, handler, None, refusal, row.starts))
            return None
        except Exception as error:
            logger.warning("look-up of %s failed: %s", row.type, delivery.told(logs.said(error)))
            return decide.after_lookup_failed(row, policy, await self._inbox.clock())
        if reply is None:
            return decide.after_nothing_found(row, policy, found.purpose, found.now, await self._inbox.clock())
        await uncancelled(self._settle(delivery, row, handler, command, reply, None))
        return None

    async def _close(self, row: Row, closed: str) -> None:
        async with self._inbox.transaction() as transaction:
            await transaction.close(row, closed)

    def _work(self, delivery: Delivery, row: Row, now: datetime, over_at: float | None, connection: Any = None) -> Work:
        header = delivery.header
        return Work(
            row.wire_key,
            header.saga_id,
            header.tenant,
            header.activity,
            header.attempt,
            now,
            process_traceparent(header),
            _connection=connection,
            _over_at=over_at,
            _clock=self._clock,
        )

    def _unknown(self, delivery: Delivery, reason: str, until: datetime | None) -> Answer:
        """What happened is not known: `error` at once for a do; a fence is told when to ask again."""
        if delivery.purpose in FENCES and until is not None:
            return answers.in_doubt(delivery.purpose, until)
        return answers.error(reason)


def _next_try(policy: OutsidePolicy, now: datetime) -> datetime:
    return now + max(policy.settling, timedelta(seconds=1))


def _first_row(delivery: Delivery) -> Row:
    wanted, header = delivery.wanted, delivery.header
    return Row(
        wanted.tenant,
        wanted.key,
        wanted.wire_key,
        header.type,
        header.version,
        wanted.body_hash,
        command=delivery.body,
        starts=1,
    )


def _command_of(delivery: Delivery, handler: Handler, row: Row) -> Command[Any]:
    """The command of a started row, which may be another one than what was delivered. Raises ContractError."""
    assert row.command is not None
    return handler.command.from_bytes(delivery.opened(row.command), row.type_version)
