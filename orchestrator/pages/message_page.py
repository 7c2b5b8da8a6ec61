"""One message of a saga: its bytes, headers and key, where it lies on the broker, and the records it has to do with.

Rules of this file
- A message is named by the record that it followed from (sent) or that it caused (taken in).
- Bytes are text only where they are text, odd characters marked; else in hex. What is not known says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, RefusedError
from orchestrator.broker.contract import IncomingMessage
from orchestrator.pages.drawing.messages import Message, messages, topic_of
from orchestrator.pages.drawing.raw import Raw, header_text
from orchestrator.pages.log_looks import Lies, Taken, is_inner
from orchestrator.pages.reading import Office, OfficeOf
from orchestrator.pages.saga_page import Seen, see
from orchestrator.pages.site import office_router, page
from orchestrator.store.operations import SentMessage

router = office_router()

Version = Annotated[int, Path(ge=1, le=10_000_000)]


@router.get("/sagas/{reference}/messages/{record}", dependencies=[may("saga.read")])
async def message(
    request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, reference: str, record: Version
) -> Response:
    """One message. Raises RefusedError `not_found` for a record that no message has to do with."""
    seen = await see(engine, office, actor, reference)
    found = next((one for one in messages(seen.whole.records) if one.record == record), None)
    sent = await office.log.sent(actor.tenant, seen.saga.saga_id, record) if _may_send(found) else None
    if found is None and sent is None:
        raise RefusedError("not_found", f"Record {record} of this saga neither sent nor took a message.")
    facts = await (_out(office, seen, found, sent, record) if _may_send(found) else _in(office, actor, seen, found))
    return page(
        request, actor, "sagas/message.html", seen=seen, saga=seen.saga, record=record, message=found,
        header_text=header_text, is_inner=is_inner, at=instant, **facts,
    )  # fmt: skip


def _may_send(found: Message | None) -> bool:
    return found is None or found.way == "out"


async def _out(
    office: Office, seen: Seen, found: Message | None, sent: SentMessage | None, record: int
) -> dict[str, Any]:
    topic = sent.topic if sent is not None else topic_of(found, office.contexts()) if found is not None else ""
    key = sent.key if sent is not None else seen.saga.saga_id
    message_id = f"{seen.saga.saga_id}/{record}"
    lies = await office.log.out(topic, key, message_id, seen.whole.records[record - 1].recorded_at)
    copy = next(iter(lies.copies), None)
    raw = sent.value if sent is not None else copy.value if copy is not None else None
    headers = sent.headers if sent is not None else copy.headers if copy is not None else ()
    return _facts(lies, message_id, key.encode("utf-8", "replace"), raw, headers) | {
        "sent": sent,
        "taken": None,
        "records": [record],
        "is_same": _are_same(lies.copies, raw),
    }


async def _in(office: Office, actor: Actor, seen: Seen, found: Message | None) -> dict[str, Any]:
    assert found is not None, "what is not in the list of messages can only have been sent"
    topic = topic_of(found, office.contexts())
    key = seen.saga.business_key if found.kind == "event" else seen.saga.saga_id
    lies = await office.log.came(topic, key, found)
    copy = next(iter(lies.copies), None)
    taken: Taken | None = await office.log.taken(actor.tenant, copy) if copy is not None else None
    caused = [one.version for one in seen.whole.records if one.causation_id == found.cause]
    raw, headers = (copy.value, copy.headers) if copy is not None else (None, ())
    return _facts(lies, found.cause, copy.key if copy is not None else None, raw, headers) | {
        "sent": None,
        "taken": taken,
        "records": caused,
        "is_same": _are_same(lies.copies, raw),
    }


def _facts(lies: Lies, message_id: str, key: bytes | None, raw: bytes | None, headers: Any) -> dict[str, Any]:
    return {
        "lies": lies,
        "message_id": message_id,
        "message_key": header_text(key) if key is not None else None,
        "raw": Raw.of(raw) if raw is not None else None,
        "envelope": headers,
        "type": next((header_text(value) for name, value in headers if name == "ce_type"), ""),
    }


def _are_same(copies: Sequence[IncomingMessage], raw: bytes | None) -> bool:
    """Whether every copy in the log has these bytes."""
    return all(copy.value == raw for copy in copies)
