"""The protocol between coordinator and participants: which headers a command and a reply carry.

Rules of this file
- Topics: `<context>.events`, `<participant>.commands`, `<participant>.replies`, and `orchestrator.sagas` between sagas.
- The idempotency key is `saga:activity:round` plus the first 16 hex digits of the command's SHA-256; never the attempt.
- A reply's id is derived from its command's id and outcome, so answering twice is the same message twice.
"""

from __future__ import annotations

from orchestrator.messages.envelope import Envelope
from orchestrator.messages.value import value

SAGAS_TOPIC = "orchestrator.sagas"
REFUSED_TYPE = "orchestrator.Refused"
ERROR_TYPE = "orchestrator.Error"
SETTLED_TYPE = "orchestrator.Settled"  # not_done, in_doubt, never
START_TYPE = "orchestrator.start"
ANSWER_TYPE = "orchestrator.answer"
UNWIND_TYPE = "orchestrator.unwind"


def events_topic(context: str) -> str:
    """The topic of a context's domain events."""
    return f"{context}.events"


def commands_topic(participant: str) -> str:
    """The topic on which a participant takes commands."""
    return f"{participant}.commands"


def replies_topic(participant: str) -> str:
    """The topic on which a participant answers; the broker's ACLs say who may."""
    return f"{participant}.replies"


@value
class CommandHeader:
    """What a participant must know of a command besides its body.

    `purpose`: do, undo or fence (a fence carries the body of the command that it fences). `key`: idempotency key.
    `undoes`: key of the round that an undo takes back. `earlier`: keys of earlier rounds that must be refused or
    answered first (kernel rule 15), oldest first.
    """

    id: str
    tenant: str
    saga_id: str
    activity: str
    round: int
    attempt: int
    purpose: str
    key: str
    type: str
    undoes: str = ""
    earlier: tuple[str, ...] = ()
    traceparent: str = ""
    version: int | None = None

    @classmethod
    def of(cls, envelope: Envelope) -> CommandHeader:
        """The command header in an envelope. Raises ValueError naming the attribute that is missing or wrong."""
        extension = envelope.extension
        for name in ("correlationid", "activity", "round", "attempt", "purpose", "idempotencykey"):
            if not extension(name):
                raise ValueError(f"command {envelope.id}: header ce_{name} is missing")
        return cls(
            id=envelope.id,
            tenant=extension("tenant", "main"),
            saga_id=extension("correlationid"),
            activity=extension("activity"),
            round=int(extension("round")),
            attempt=int(extension("attempt")),
            purpose=extension("purpose"),
            key=extension("idempotencykey"),
            type=envelope.type,
            undoes=extension("undoes"),
            earlier=tuple(extension("earlier").split()),
            traceparent=envelope.traceparent,
            version=envelope.version,
        )


def reply_envelope(
    command: CommandHeader,
    participant: str,
    outcome: str,
    type_: str,
    *,
    dataschema: str = "",
    until: int = 0,
    done_key: str = "",
    traceparent: str = "",
    edition: str = "",
) -> Envelope:
    """The envelope of an answer. `until`: microseconds, for in_doubt. `done_key`: the earlier key really done.

    `edition`: tells answers to one command apart that are not stored, and may be others the next time.
    """
    return Envelope(
        id=f"{command.id}/{outcome}/{edition}" if edition else f"{command.id}/{outcome}",
        source=f"/participants/{participant}",
        type=type_,
        dataschema=dataschema,
        traceparent=traceparent or command.traceparent,
        extensions={
            "tenant": command.tenant,
            "correlationid": command.saga_id,
            "causationid": command.id,
            "activity": command.activity,
            "round": str(command.round),
            "attempt": str(command.attempt),
            "purpose": command.purpose,
            "idempotencykey": command.key,
            "outcome": outcome,
            "participant": participant,
            "until": str(until) if until else "",
            "donekey": done_key,
        },
    )
