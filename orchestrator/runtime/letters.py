"""Dead letters: what nobody could process, kept with its bytes, its reason and what to do.

Rules of this file
- `reason` is one word of `REASONS`, for counting and filtering; `detail` is a sentence for people, without field values
  (they may be personal).
- What did not come from the broker (a timer, a resume, a check) is kept too, as JSON under `INTERNAL_TOPIC`, so that it
  can be driven again like any other.
"""

from __future__ import annotations

import re
import traceback
from typing import Any

import orjson

from orchestrator.kernel.graph import Program, StepNode, node_path
from orchestrator.kernel.inputs import Answer, Resume, TimerDue
from orchestrator.kernel.state import State
from orchestrator.messages.contract import Done
from orchestrator.runtime.work import Cause, EarlyCheck, Item, SagaInput
from orchestrator.store.contract import DeadLetter

INTERNAL_TOPIC = "orchestrator.internal"
KEY_BROKEN = "key_broken"
TRACEBACK_LINES_MAX = 8
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
DETAIL_CHARACTERS_MAX = 4_000

REASONS = {
    "unreadable": "not a CloudEvent, or not JSON",
    "null_value": "a record without value",
    "unknown_type": "no installed saga uses this type of message",
    "invalid": "the data does not fit its contract",
    "oversized": "larger than the limits of the product",
    "wrong_tenant": "of a tenant that is not served here",
    "unauthorised_source": "a reply from a participant that was not asked",
    "other_body": "this id, or the saga that it would start, came before with another body",
    "already_running": "a live run of the same saga and business key exists",
    "unknown_saga": "it names a saga that is not there",
    "unknown_activity": "it names a step or call that its saga has not got",
    "too_many_early": "more events wait for one key than are kept",
    "not_installed": "the code of its saga's version is not installed here",
    "key_broken": "the key of a person does not open: put it right, then drive these again",
    "not_active": "no version of its saga takes new sagas yet: two people have to say so",
    "poison": "the kernel raised while it processed this",
}
"""Every reason code, and what it means."""

# What the kernel refuses, of messages: these are kept; any other refusal of a message is a late answer without outcome.
KEPT_REFUSALS = {
    "not_found": "unknown_activity",
    "same_id_other_body": "other_body",
    "invalid": "invalid",
    "already_running": "already_running",
}


def letter_of(cause: Cause, reason: str, detail: str, item: Item | None = None) -> DeadLetter:
    """The dead letter of a message (`cause.raw`), or of an internal input."""
    raw = cause.raw
    if raw is None:
        value = orjson.dumps(_internal(item), default=str)
        headers: tuple[tuple[str, bytes], ...] = ()
        return DeadLetter(
            cause.tenant, INTERNAL_TOPIC, 0, 0, None, value, headers, reason, detail[:DETAIL_CHARACTERS_MAX]
        )
    return DeadLetter(
        tenant=cause.tenant,
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        value=raw.value,
        headers=raw.headers,
        reason=reason,
        detail=detail[:DETAIL_CHARACTERS_MAX],
        message_id=cause.causation_id,
    )


def told(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as a log may have it: where it is from and why it is one, nothing that is in it."""
    return {
        "reason": letter.reason,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "message_id": letter.message_id,
    }


def trace_of(letter: DeadLetter) -> str:
    """The traceparent that its message came with, "" where it had none that can be read."""
    found = next((value for name, value in letter.headers if name == "traceparent"), b"")
    text = found.decode("ascii", "replace")
    return text if _TRACEPARENT.fullmatch(text) else ""


def last_lines(error: BaseException) -> str:
    """The last lines of a traceback: what an operator needs to see."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    text = "".join(lines[-TRACEBACK_LINES_MAX:]).strip()
    return text[-DETAIL_CHARACTERS_MAX:]


def answer_flaw(program: Program, state: State, answer: Answer, reply_type: str) -> tuple[str, str] | None:
    """Why a reply may not count, as (reason, detail), or None: who was asked is recorded, and only they may answer."""
    found = state.activities.get(answer.activity)
    if found is None:
        return "unknown_activity", f"saga {state.saga_id} has no step {answer.activity}: the reply answers nothing"
    undo = answer.purpose in ("undo", "fence_undo")
    node = program.graph.nodes.get(node_path(answer.activity))
    if isinstance(node, StepNode):
        asked = node.undo_participant if undo else node.participant
        expected = node.undo_reply if undo else node.reply
        # An undo that found nothing to undo says Done, whatever its reply would have been.
        fits = reply_type in (expected, "") or (undo and reply_type == Done.wire_name)
        if answer.outcome == "ok" and expected and not fits:
            return "invalid", f"{answer.activity} expects {expected}, the reply is a {reply_type}"
        if answer.participant != asked:
            return (
                "unauthorised_source",
                f"{answer.activity} asked participant {asked}, the reply came from {answer.participant or 'nobody'}",
            )
    return None


def _internal(item: Item | None) -> dict[str, Any]:
    if isinstance(item, SagaInput):
        given = item.given
        if isinstance(given, TimerDue):
            return {"kind": "timer", "saga_id": item.saga_id, "activity": given.activity, "armed": given.armed}
        if isinstance(given, Resume):
            return {"kind": "resume", "saga_id": item.saga_id}
        return {"kind": type(given).__name__, "saga_id": item.saga_id}
    if isinstance(item, EarlyCheck):
        waiting = item.waiting
        return {
            "kind": "check",
            "saga_id": waiting.saga_id,
            "activity": waiting.activity,
            "type": waiting.type,
            "key": waiting.key,
            "accepts_from": waiting.accepts_from,
        }
    return {"kind": type(item).__name__}
