"""Acts: from what a route asks to an item for the coordinator, and from its outcome to an answer or a refusal.

Rules of this file
- Ids come from the path and from the loaded saga, never from a body. Who acts comes from the request's identity.
- An act is decided and committed when `submit` returns; `applied` means that records were written.
"""

from __future__ import annotations

import time
import uuid

import structlog

from orchestrator.api.problems import ProblemError
from orchestrator.api.reading import Reading
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.guard import START, guard_of
from orchestrator.kernel.inputs import Input
from orchestrator.kernel.records import Record
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.work import Cause, Outcome, SagaInput

SERVICE = "service:"
REFUSALS = frozenset({"cancel.refused"})  # records of what was asked for and not done

log = structlog.get_logger("orchestrator.api")


def actor_text(actor: Actor) -> str:
    """How records name who acted: `service:...` for a service that says so, else `person:...`."""
    return actor.id if actor.id.startswith(SERVICE) else f"person:{actor.id}"


def new_id() -> str:
    """An id for a request that brought none."""
    return str(uuid.uuid4())


def cause_of(actor: Actor, causation_id: str, traceparent: str, *, starts: str = START) -> Cause:
    """Why an act happens. Its guard asks again, where it is decided, whether this actor may.

    `starts`: the action by which they may start a saga.
    """
    return Cause(
        actor.tenant,
        actor=actor_text(actor),
        causation_id=causation_id,
        traceparent=traceparent,
        guard=guard_of(actor, starts=starts),
    )


def received_at(runtime: Runtime) -> int:
    """When a request came, microseconds: by the database's clock as last read, so that hosts need not agree."""
    return runtime.hints.clock.now() or time.time_ns() // 1000


async def act(runtime: Runtime, saga_id: str, given: Input, cause: Cause, earlier: Reading | None = None) -> Outcome:
    """Submits one act on a saga. Raises RefusedError with the kernel's code, ProblemError where it failed.

    `earlier`: the cause names a request that may come again. Where the act is refused because an attempt that nobody
    heard the end of has done it already, it has that one's outcome.
    """
    try:
        return checked(await runtime.submit(SagaInput(saga_id, given, cause)), saga_id)
    except RefusedError:
        records = await earlier.records(cause.tenant, saga_id) if earlier is not None else ()
        own = [record for record in records if record.causation_id == cause.causation_id]
        if all(record.type in REFUSALS for record in own):
            raise
        written = [Record(record.type, record.activity, dict(record.data)) for record in own]
        return Outcome("applied", saga_id, own[-1].version, written)


def checked(outcome: Outcome, saga_id: str) -> Outcome:
    """The outcome of an act that counted. Raises RefusedError or ProblemError for one that did not."""
    if outcome.refusal is not None:
        refusal = outcome.refusal
        raise RefusedError(refusal.code, refusal.text, refusal.facts, outcome.saga_id or saga_id)
    if outcome.fate in ("failed", "dead"):
        # The reason may hold lines of a traceback: it stays in the log and in the dead letter.
        raise ProblemError("internal", "The saga could not take this act; see the log.", saga_id=saga_id)
    return outcome
