"""The system: how this process and its loops are, what waits, read models, and settings that differ from defaults.

Rules of this file: a secret is never shown, nor a URL (it may hold one); only that it was set.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.levels import model_states
from orchestrator.config import PREFIX, Settings
from orchestrator.pages.reading import OfficeOf
from orchestrator.pages.site import office_router, page

router = office_router()

_SECRET_WORDS = ("url", "password", "secret", "key", "token")


@router.get("/system", dependencies=[may("audit.verify")])
async def system(request: Request, engine: EngineOf, office: OfficeOf, actor: Acting) -> Response:
    """How everything is."""
    health = office.health()
    backlog = await office.backlog()
    return page(
        request,
        actor,
        "system/page.html",
        position=backlog.position,
        health=health,
        reasons=await engine.not_ready(),
        backlog=backlog,
        positions=await office.positions(),
        models=await model_states(engine, actor),
        changed=changed_settings(office.settings),
        facts=sorted(health.facts.items()),
    )


def changed_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """(variable, value, default) of every setting that is not its default; secrets only as set."""
    found = []
    for name, field in type(settings).model_fields.items():
        value, default = getattr(settings, name), field.get_default(call_default_factory=True)
        if value != default:
            is_secret = any(word in name for word in _SECRET_WORDS)
            found.append((f"{PREFIX}{name.upper()}", "set" if is_secret else _said(value), _said(default)))
    return found


def _said(value: Any) -> str:
    return {"": "empty", "None": "none"}.get(str(value), str(value))
