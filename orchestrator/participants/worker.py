"""A running participant: reads commands, obeys each once, answers, and notes how far it has come.

How nothing is lost and nothing is done twice
    fetch     a batch of commands from the positions in this participant's own schema
    process   one transaction: effects, inbox rows, stored answers, and the positions of *earlier* batches
    send      the answers; only when the broker has them is a message finished
    position  the end of the finished prefix, written by the next transaction (or by itself when nothing comes)
A crash before the commit leaves nothing. A crash between commit and send leaves the position behind: the commands are
read again, found in the inbox, and answered with the same bytes. So there is no outbox, and no answer can be lost.

Commands whose effect is outside the database, and commands that only read, run beside the batches, a bounded number at
once; a slow one holds back only the position of its partition, never other commands.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator import logs
from orchestrator.broker.contract import (
    Assignment,
    Broker,
    BrokerError,
    BrokerUnavailableError,
    Consumer,
    IncomingMessage,
    Producer,
)
from orchestrator.messages.protocol import CommandHeader, commands_topic
from orchestrator.participants import answers, batches
from orchestrator.participants.answers import Answer
from orchestrator.participants.delivery import Delivery, Unreadable, read_delivery
from orchestrator.participants.inbox import Inbox, InboxConflict, uncancelled
from orchestrator.participants.participant import Participant
from orchestrator.participants.progress import Part, Progress
from orchestrator.participants.reads import answer_reading
from orchestrator.participants.replies import Outgoing, Replies
from orchestrator.participants.sealing import Envelope, Opening
from orchestrator.participants.settings import ParticipantSettings
from orchestrator.participants.single import Singles
from orchestrator.participants.tracing import AddSpan, begin, spans_of
from orchestrator.participants.work import Pool
from orchestrator.telemetry import KAFKA

logger = logging.getLogger(__name__)

SHOW_SECONDS = 1.0
BATCH_FAILURES_MAX = 2  # after that many, with a database that answers, a batch is taken apart


@dataclass(frozen=True, slots=True)
class Handled:
    """One answered command, for traces and metrics. Instants: nanoseconds since 1970. `again`: answered before."""

    participant: str
    header: CommandHeader
    outcome: str
    began_ns: int
    ended_ns: int
    again: bool


class Worker:
    """Runs one participant in this process. Several workers of one participant share its partitions.

    `progressed_at` (monotonic seconds) is when its loop last got on, for readiness: it had partitions, read them, and
    carried out what it read. Where as much as it may hold waits for the broker to take answers, less of it must wait.
    """

    def __init__(
        self,
        participant: Participant,
        broker: Broker,
        pool: Pool,
        settings: ParticipantSettings | None = None,
        on_handled: Callable[[Handled], None] | None = None,
        opening: Opening | None = None,
        add_span: AddSpan | None = None,
        system: str = KAFKA,
    ) -> None:
        self.participant = participant
        self.progressed_at = time.monotonic()
        self._settings = settings or ParticipantSettings()
        self._pool = pool
        self._inbox = Inbox(pool, participant.own_schema.name, self._settings)
        self._singles = Singles(self._inbox, participant.handlers, self._settings.reply_bytes_max)
        self._broker = broker
        self._side_by_side = asyncio.Semaphore(self._settings.outside_at_once)
        self._on_handled = on_handled
        self._opening = opening  # None: personal values come as they are, and go so
        self._add_span, self._system = add_span, system  # `system`: how spans call the broker
        self._positions_due = 0.0
        self._show_due = 0.0
        self._unshown: dict[Assignment, int] = {}

    def _connect(self) -> None:
        """A fresh start: nothing of an earlier run is known."""
        group = f"participants.{self.participant.name}"
        self._producer: Producer = self._broker.producer(group)
        self._consumer: Consumer = self._broker.consumer(
            group, [commands_topic(self.participant.name)], self._inbox.positions
        )
        self._replies = Replies(self._producer, self._settings)
        self._progress = Progress()
        self._generation = -1

    async def run(self) -> None:
        """Runs until cancelled; may be called again after it has ended.

        Raises BrokerUnavailableError where the broker cannot be reached at the start, and what needs a person: an old
        schema, a lost position, a refused answer.
        """
        await self.participant.own_schema.check(self._pool)
        self._connect()
        try:
            await self._producer.start()
            await self._consumer.start()
            await self._run_tasks()
        finally:
            await self._consumer.stop()
            await self._producer.stop()

    async def _run_tasks(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._replies.run(), name=f"{self.participant.name}-replies")
                tasks.create_task(self._forget(), name=f"{self.participant.name}-forget")
                await self._loop(tasks)
        except ExceptionGroup as group:
            # One cause, told as itself: whoever runs this looks at its class.
            cause: BaseException = group
            while isinstance(cause, BaseExceptionGroup):
                cause = cause.exceptions[0]
            raise cause from group

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _loop(self, tasks: asyncio.TaskGroup) -> None:
        unanswered = 0
        while True:
            before, unanswered = unanswered, self._progress.unfinished()
            if unanswered >= self._settings.unanswered_max:
                if unanswered < before:
                    self.progressed_at = time.monotonic()
                await asyncio.sleep(self._settings.fetch_wait_ms / 1000)
                await self._store_positions()
                continue
            try:
                messages = await self._consumer.fetch(self._settings.batch_messages, self._settings.fetch_wait_ms)
            except BrokerUnavailableError as error:
                logger.warning("commands cannot be read now: %s", error)
                await asyncio.sleep(self._settings.retry_ms / 1000)
                continue
            if self._consumer.generation() != self._generation:
                self._generation = self._consumer.generation()
                self._progress = Progress()
            if messages:
                await self._take(tasks, messages)
            else:
                await self._store_positions()
            if self._consumer.settled():
                self.progressed_at = time.monotonic()

    async def _take(self, tasks: asyncio.TaskGroup, messages: Sequence[IncomingMessage]) -> None:
        began_ns = time.time_ns()
        parts = self._progress.take(messages)
        deliveries: list[Delivery] = []
        unreadable: list[Unreadable] = []
        await self._learn(messages)
        for message in messages:
            found = read_delivery(message, self.participant.handlers)
            if self._opening is not None and isinstance(found, Delivery):
                found.envelope = Envelope.of(self._opening, message, found.header.saga_id, found.header.tenant)
            if isinstance(found, Unreadable):
                unreadable.append(found)
                continue
            if self._add_span is not None:
                found.handling = begin(found.header)
            if found.handler is not None and found.handler.reads:
                tasks.create_task(self._beside(found, _part(parts, message), began_ns))
            else:
                deliveries.append(found)
        outcome = await self._batch(deliveries, unreadable)
        for bad in unreadable:
            _part(parts, bad.message).finish()
        for delivery in outcome.slow:
            tasks.create_task(self._beside(delivery, _part(parts, delivery.message), began_ns))
        name = self.participant.name
        await self._replies.put(
            [
                Outgoing(answers.message(delivery.header, name, answer), _part(parts, delivery.message))
                for delivery, answer, _ in outcome.answered
            ]
        )
        if self._on_handled is not None or self._add_span is not None:
            for delivery, answer, again in outcome.answered:
                self._report(delivery, answer, began_ns, again=again)
        await self._show()

    async def _learn(self, messages: Sequence[IncomingMessage]) -> None:
        """Asks for the keys of these commands, however long whoever has them is away. One line when that begins, and
        one when it is over."""
        wait_ms, since = self._settings.retry_ms, 0.0
        while self._opening is not None:
            try:
                await self._opening.ask(messages)
                break
            except Exception as error:
                if not since:
                    since = time.monotonic()
                    logger.warning("commands wait: keys of persons cannot be had now: %s", answers.failure(error))
                await asyncio.sleep(wait_ms / 1000)
                wait_ms = min(wait_ms * 2, self._settings.retry_ms_max)
        if since:
            logger.info("keys of persons can be had again, after %.1f s", time.monotonic() - since)

    async def _batch(self, deliveries: list[Delivery], unreadable: list[Unreadable]) -> batches.Outcome:
        """The batch path, as often as it takes: what fails here is nobody's fault, or that of one command."""
        failures, wait_ms = 0, self._settings.retry_ms
        while True:
            positions = self._progress.positions()
            try:
                outcome = await uncancelled(
                    batches.process(self._inbox, deliveries, unreadable, positions, self._settings.reply_bytes_max)
                )
            except InboxConflict:
                continue
            except Exception as error:
                failures += 1
                logger.warning("a batch of %s commands failed: %s", len(deliveries), type(error).__name__)
                if failures >= BATCH_FAILURES_MAX and deliveries and await self._inbox.answers():
                    # The database is well, so it is one of these commands: the others must not suffer.
                    await self._batch([], unreadable)
                    return batches.Outcome(slow=deliveries)
                await asyncio.sleep(wait_ms / 1000)
                wait_ms = min(wait_ms * 2, self._settings.retry_ms_max)
                await self._learn([delivery.message for delivery in deliveries])  # a minute may have passed
                continue
            self._stored(positions)
            return outcome

    async def _beside(self, delivery: Delivery, part: Part, began_ns: int) -> None:
        """One command by itself, beside the batches. Ends when its answer is handed over."""
        async with self._side_by_side:
            with delivery.concerning():
                answer = await self._answer(delivery)
        await self._replies.put([Outgoing(answers.message(delivery.header, self.participant.name, answer), part)])
        self._report(delivery, answer, began_ns, again=False)

    async def _answer(self, delivery: Delivery) -> Answer:
        """An answer, however long the database is away. With a database that is well, a failure is the answer."""
        wait_ms = self._settings.retry_ms
        while True:
            await self._learn([delivery.message])  # it may have waited for its turn longer than keys are remembered
            try:
                if delivery.handler is not None and delivery.handler.reads:
                    return await answer_reading(self._inbox, delivery, self._settings.reply_bytes_max)
                return await self._singles.answer(delivery)
            except Exception as error:
                said = delivery.told(answers.failure(error))
                trace = delivery.traceback(error)
                told = delivery.told(logs.said(error))
                logger.warning("command %s failed: %s", delivery.header.id, told, exc_info=trace)
                if await self._inbox.answers():
                    return answers.error(said)
            await asyncio.sleep(wait_ms / 1000)
            wait_ms = min(wait_ms * 2, self._settings.retry_ms_max)

    # --- beside the loop ----------------------------------------------------------------------------------------------

    async def _store_positions(self) -> None:
        """Progress that no batch carries along, now and then."""
        await self._show()
        positions = self._progress.positions()
        if not positions or time.monotonic() < self._positions_due:
            return
        self._positions_due = time.monotonic() + self._settings.positions_ms / 1000
        try:
            await uncancelled(self._inbox.write_positions(positions))
        except Exception as error:
            logger.warning("positions cannot be stored now: %s", answers.failure(error))
            return
        self._stored(positions)
        await self._show()

    def _stored(self, positions: dict[Assignment, int]) -> None:
        self._progress.confirm(positions)
        self._unshown |= positions

    async def _show(self) -> None:
        """Tells the broker how far we are, now and then, for people who look at lag. Nobody reads it back."""
        if not self._unshown or time.monotonic() < self._show_due:
            return
        self._show_due = time.monotonic() + SHOW_SECONDS
        shown, self._unshown = self._unshown, {}
        try:
            await self._consumer.commit(shown)
        except BrokerError as error:
            logger.warning("progress cannot be shown now: %s", error)

    async def _forget(self) -> None:
        """Deletes settled keys that nobody can ask about any more."""
        while self._settings.inbox_keep_days:
            await asyncio.sleep(self._settings.forget_every_ms / 1000)
            try:
                await uncancelled(self._inbox.forget_old(self._settings.inbox_keep_days, self._settings.forget_rows))
            except Exception as error:
                logger.warning("old keys cannot be deleted now: %s", answers.failure(error))

    def _report(self, delivery: Delivery, answer: Answer, began_ns: int, *, again: bool) -> None:
        found, ended_ns = delivery.handling, time.time_ns()
        if found is not None and self._add_span is not None and not again:
            name = self.participant.name
            reply_id = answers.reply_id(delivery.header, answer)
            for span in spans_of(
                name,
                delivery.header,
                delivery.message,
                found,
                answer.outcome,
                reply_id,
                began_ns,
                ended_ns,
                self._system,
            ):
                self._add_span(name, span)
        if self._on_handled is None:
            return
        handled = Handled(self.participant.name, delivery.header, answer.outcome, began_ns, ended_ns, again)
        try:
            self._on_handled(handled)
        except Exception:
            logger.exception("the observer of handled commands failed")


def _part(parts: dict[tuple[str, int], Part], message: IncomingMessage) -> Part:
    return parts[message.topic, message.partition]
