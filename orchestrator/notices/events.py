"""Notices as events on the broker, for systems that tell people in their own way (chat, telephone, a portal).

Rules of this file
- Topic `orchestrator.notices.events`, key the task's id, so that what is told about one task stays in order.
- The event has no more than the mail, and the ids to ask for the rest with; who may see that is the API's matter.
- Where an answer of the broker was lost, the event is there twice: `ce_id` is the notice's id, and readers drop what
  they know.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from orchestrator.broker.contract import Broker, BrokerError, OutgoingMessage
from orchestrator.messages import Event, Key
from orchestrator.messages.canonical import instant_text
from orchestrator.messages.envelope import Envelope, schema_urn
from orchestrator.messages.protocol import events_topic
from orchestrator.notices.contract import Notice, NotSentError
from orchestrator.notices.preferences import instant

CONTEXT = "orchestrator.notices"
TOPIC = events_topic(CONTEXT)
SOURCE = "/orchestrator/notices"


class TaskNotice(Event, name="orchestrator.notices.TaskNotice"):
    """What every event about a task says: which task, of which saga, who was told, by when it must be decided."""

    task: Key[str]
    saga_id: str
    saga: str
    business_key: str
    title: str
    to: tuple[str, ...]
    link: str
    at: datetime
    due: datetime | None = None
    level: int = 0
    outcome: str = ""


class TaskOpened(TaskNotice, name="orchestrator.notices.TaskOpened"):
    """A decision is asked for."""


class TaskDelegated(TaskNotice, name="orchestrator.notices.TaskDelegated"):
    """Somebody may decide in another one's place."""


class TaskReassigned(TaskNotice, name="orchestrator.notices.TaskReassigned"):
    """Other people are asked now."""


class TaskAmended(TaskNotice, name="orchestrator.notices.TaskAmended"):
    """What is to be decided has changed; votes cast before are void."""


class TaskReminded(TaskNotice, name="orchestrator.notices.TaskReminded"):
    """Nobody has decided yet."""


class TaskEscalated(TaskNotice, name="orchestrator.notices.TaskEscalated"):
    """Nobody has decided in time, so further people are asked."""


class TaskDecided(TaskNotice, name="orchestrator.notices.TaskDecided"):
    """The task was decided."""


class TaskExpired(TaskNotice, name="orchestrator.notices.TaskExpired"):
    """Nobody decided, and nobody can any more."""


CONTRACTS: dict[str, type[TaskNotice]] = {
    "opened": TaskOpened,
    "delegated": TaskDelegated,
    "reassigned": TaskReassigned,
    "amended": TaskAmended,
    "reminded": TaskReminded,
    "escalated": TaskEscalated,
    "decided": TaskDecided,
    "expired": TaskExpired,
}


def message_of(notice: Notice) -> OutgoingMessage:
    """The notice as CloudEvents in binary mode. Raises NotSentError where it has no event."""
    contract = CONTRACTS.get(notice.kind)
    if contract is None:
        raise NotSentError(f"there is no event for {notice.kind}", retriable=False)
    event = contract.from_plain(dict(notice.facts))
    envelope = Envelope(
        id=notice.id,
        source=SOURCE,
        type=event.wire_name,
        time=instant_text(instant(notice.planned_at)),
        subject=event.task,
        dataschema=schema_urn(event.wire_name, event.wire_version),
        extensions={"tenant": notice.tenant, "correlationid": event.saga_id},
    )
    return OutgoingMessage(TOPIC, event.task.encode(), event.canonical(), envelope.headers())


class Events:
    """The channel to the broker. Its topic must be there (`orchestrator.runtime.parts.topics`)."""

    def __init__(self, broker: Broker) -> None:
        self._producer = broker.producer("notices")
        self._started = False
        self._starting = asyncio.Lock()

    async def send(self, notice: Notice) -> None:
        """Appends one event. Raises NotSentError."""
        message = message_of(notice)
        try:
            async with self._starting:
                if not self._started:
                    await self._producer.start()
                    self._started = True
            (error,) = await self._producer.send([message])
        except BrokerError as away:
            raise NotSentError(f"broker: {away}"[:300], retriable=away.retriable, channel_down=away.retriable) from away
        if error is not None:
            raise NotSentError(f"broker: {error}"[:300], retriable=error.retriable, channel_down=error.retriable)

    async def rest(self) -> None:
        """The producer stays connected; the broker closes it with the process."""
