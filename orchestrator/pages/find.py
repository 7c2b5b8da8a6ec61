"""The one search box: whatever somebody has in hand opens what it names, exactly or not at all.

Rules of this file
- It takes a saga id, a business key, a task id, a message id, a trace id or a whole traceparent, the id of the event
  that began a saga, a customer. The first that hits wins; unique ids come before words that people choose.
- What hits nothing ends at the list, which says that nothing matches.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

from fastapi import Query
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.views import Actor, task_of
from orchestrator.pages.drawing.messages import messages
from orchestrator.pages.reading import ModelsOf, Office, OfficeOf
from orchestrator.pages.site import office_router, query_text

router = office_router()

Text = Annotated[str, Query(max_length=500)]
_MESSAGE = re.compile(r"(?P<saga>[^/]{1,200})/(?P<record>[1-9][0-9]{0,8})(?:/.*)?", re.DOTALL)
_TRACE = re.compile(r"(?:[0-9a-f]{2}-)?(?P<trace>[0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?", re.IGNORECASE)


@router.get("/find", dependencies=[may("saga.read")])
async def find(engine: EngineOf, office: OfficeOf, models: ModelsOf, actor: Acting, q: Text = "") -> Response:
    """Opens what is named, or shows what there is by that name."""
    wanted = q.strip()
    where = f"/office/sagas{query_text(q=wanted)}"
    if wanted and "\0" not in wanted:
        where = (
            await _named(engine, actor, wanted)
            or await _message(engine, actor, wanted)
            or await _from_elsewhere(office, actor, wanted)
            or where
        )
        if where.startswith("/office/sagas?") and "trace=" not in where:
            known = await engine.known_as(actor, wanted)
            by_customer = await models.timelines.search(actor.tenant, customer=known, limit=1)
            if by_customer.items:
                where = f"/office/sagas{query_text(customer=wanted)}"
    return RedirectResponse(where, 303)


async def _named(engine: Engine, actor: Actor, wanted: str) -> str:
    saga = await engine.find(wanted, tenant=actor.tenant)
    if saga is not None:
        return f"/office/sagas/{saga.saga_id}"
    saga_id, activity = task_of(wanted)
    if activity and await engine.find(saga_id, tenant=actor.tenant) is not None:
        return f"/office/tasks/{quote(wanted, safe=':~')}"
    return ""


async def _message(engine: Engine, actor: Actor, wanted: str) -> str:
    """Ours are named after the record that they followed from, answers after the message that they answer."""
    matched = _MESSAGE.fullmatch(wanted)
    saga = await engine.find(matched["saga"], tenant=actor.tenant) if matched else None
    if matched is None or saga is None or saga.saga_id != matched["saga"]:
        return ""
    records = await engine.records(saga.saga_id, actor)
    with_page = {one.record for one in messages(records)}
    caused = next((one.version for one in records if one.causation_id == wanted and one.version in with_page), 0)
    record = caused or int(matched["record"])
    if record > len(records):
        return f"/office/sagas/{saga.saga_id}?tab=messages"
    if record in with_page:
        return f"/office/sagas/{saga.saga_id}/messages/{record}"
    return f"/office/sagas/{saga.saga_id}?tab=audit#record-{record}"


async def _from_elsewhere(office: Office, actor: Actor, wanted: str) -> str:
    """By trace, or by the event that began it."""
    await office.catch_up()
    matched = _TRACE.fullmatch(wanted)
    if matched:
        trace = matched["trace"].lower()
        found = await office.finding.by_trace(actor.tenant, trace)
        if len(found) > 1:
            return f"/office/sagas{query_text(trace=trace)}"
    else:
        found = await office.finding.by_message(actor.tenant, wanted)
    return f"/office/sagas/{found[0]}" if found else ""
