"""The route of evidence packs: one saga with everything that proves it, as a signed file.

Rules of this file
- Who may take one away is who may export the audit trail; that somebody did is in the security log, as all of it is.
- What cannot be proven is refused in words before the first byte; a file that has begun is whole.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse

from orchestrator.api.acts import log
from orchestrator.api.engine import Acting, Actor, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.views import RefusedError, SagaView
from orchestrator.evidence.pack.gather import PackError
from orchestrator.evidence.pack.layout import archive
from orchestrator.evidence.pack.serving import Packs

router = APIRouter(prefix="/v1", tags=["audit"])

MEDIA_TYPE = "application/zip"
_NAME = re.compile(r"[^A-Za-z0-9._-]+")
NAME_CHARACTERS_MAX = 80

Related = Annotated[bool, Query(description="With the sagas that it called, and those that called it.")]
Number = Annotated[
    int, Query(ge=0, le=2**53, description="Of the checkpoint to prove against; 0: the first that will do.")
]
Sealed = Annotated[bool, Query(description="Leave sealed what is sealed under keys of people, in the report too.")]
Zone = Annotated[str, Query(max_length=60, description="Of local times in the report; default: the installation's.")]


@router.get("/sagas/{reference}/evidence", dependencies=[may("audit.export")])
async def evidence(
    reference: str,
    request: Request,
    engine: EngineOf,
    actor: Acting,
    related: Related = False,
    checkpoint: Number = 0,
    zone: Zone = "",
    sealed: Sealed = False,
) -> Response:
    """The evidence pack of a saga: a zip that is verified with the key of the log and nothing of ours."""
    saga = await engine.saga(reference, actor)
    return await packed(request, saga, actor, related=related, checkpoint=checkpoint, zone=zone, sealed=sealed)


async def packed(request: Request, saga: SagaView, actor: Actor, **wanted: Any) -> Response:
    """The pack as an answer; `wanted` as `Packs.make` has it. Raises RefusedError, ProblemError."""
    packs: Packs = request.app.state.packs
    try:
        files = await packs.make(actor.tenant, saga.saga_id, **wanted)
    except PackError as error:
        if error.code == "not_found":
            raise RefusedError("not_found", str(error)) from error
        raise ProblemError(error.code, str(error), saga_id=saga.saga_id) from error
    log.info("evidence pack taken", by=actor.id, tenant=actor.tenant, saga=saga.saga_id, **wanted)
    headers = {"Content-Disposition": f'attachment; filename="{file_name(saga)}"', "Cache-Control": "no-store"}
    return StreamingResponse(archive(files), media_type=MEDIA_TYPE, headers=headers)


def file_name(saga: SagaView) -> str:
    """evidence-transfer-TRF-88.zip"""
    key = _NAME.sub("-", f"{saga.name}-{saga.business_key}").strip("-.")[:NAME_CHARACTERS_MAX]
    return f"evidence-{key or saga.saga_id}.zip"
