"""`POST /v1/events`: domain events over HTTP, for services without a Kafka client; and the contracts that are known.

Rules of this file
- CloudEvents 1.0, HTTP binding: binary (`ce-*` headers) and structured (`application/cloudevents+json`). No batches.
- An event is checked against its contract before it goes to the broker; what comes in by the broker is checked again.
- Attributes that say who may do what (`tenant`, `auth...`, and those of commands and replies) are never taken from a
  client.
Source: CloudEvents 1.0.2, HTTP protocol binding.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orchestrator.api.body import is_json, json_object
from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.tracing import traceparent_of
from orchestrator.api.views import CloudEvent

router = APIRouter(prefix="/v1", tags=["events"])

STRUCTURED = "application/cloudevents+json"
ATTRIBUTE_CHARACTERS_MAX = 500
# Extensions that describe the fact and grant nothing.
EXTENSIONS = frozenset(
    {"correlationid", "causationid", "partitionkey", "sequence", "sequencetype", "recordedtime", "expirytime"}
    | {"dataclassification", "dataregulation", "datacategory", "dataref", "traceparent", "tracestate"}
)

_NAME = re.compile(r"[a-z0-9]{1,20}")


@router.post("/events", status_code=202, dependencies=[may("event.publish")])
async def publish(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Takes one CloudEvent, checks it, and answers when the broker has it durably."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = json_object(await request.body())
    if content_type == STRUCTURED:
        attributes, data = _structured(body)
    elif content_type.startswith("application/cloudevents") or not is_json(content_type):
        raise ProblemError("media_type", f"Send application/json with ce-* headers, or {STRUCTURED}.")
    else:
        attributes, data = _binary(request), body
    event = read_event(attributes, data)
    return respond(await engine.publish(event, actor, traceparent=traceparent_of(request)), 202)


@router.get("/contracts", dependencies=[may("definition.read")])
async def contracts(engine: EngineOf, actor: Acting) -> Response:
    """The message types that installed sagas use."""
    return respond({"items": tuple(engine.contracts(actor))})


@router.get("/contracts/{name}", dependencies=[may("definition.read")])
async def contract(name: str, engine: EngineOf, actor: Acting) -> Response:
    """One contract by wire name, or by class name where only one has it: JSON Schema and an example."""
    return respond(engine.contract(name, actor))


@router.get("/definitions", dependencies=[may("definition.read")])
async def definitions(engine: EngineOf, actor: Acting) -> Response:
    """The installed sagas: name, versions, what starts them."""
    return respond({"items": tuple(engine.definitions(actor))})


def _structured(body: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    data = body.pop("data", None)
    if not isinstance(data, dict):
        raise ProblemError("not_an_event", "A structured event needs `data`, a JSON object; data_base64 is not read.")
    wrong = [name for name, value in body.items() if not isinstance(value, (str, int, bool))]
    if wrong:
        raise ProblemError("not_an_event", f"Attribute {wrong[0][:40]!r} is not a text, number or boolean.")
    return {name: value if isinstance(value, str) else str(value).lower() for name, value in body.items()}, data


def _binary(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        if name.startswith("ce-"):
            if name[3:] in found:
                raise ProblemError("not_an_event", f"Header {name} stands there twice.")
            found[name[3:]] = unquote(value, errors="strict")
    return found


def read_event(attributes: dict[str, str], data: dict[str, Any]) -> CloudEvent:
    """A CloudEvent of these attributes. Raises ProblemError `not_an_event` or `media_type` saying what is wrong."""
    if attributes.pop("specversion", "") != "1.0":
        raise ProblemError("not_an_event", "specversion must be 1.0 (header ce-specversion).")
    for name in ("id", "source", "type"):
        if not attributes.get(name):
            raise ProblemError("not_an_event", f"Required attribute {name} is missing (header ce-{name}).")
    for name, value in attributes.items():
        if not _NAME.fullmatch(name):
            raise ProblemError("not_an_event", f"{name[:40]!r} is not an attribute name: small letters and digits.")
        if len(value) > ATTRIBUTE_CHARACTERS_MAX or not value.isprintable():
            raise ProblemError("not_an_event", f"Attribute {name} is too long or holds control characters.")
    content_type = attributes.pop("datacontenttype", "application/json")
    if not is_json(content_type):
        raise ProblemError("media_type", "Only JSON data is read: datacontenttype must be application/json.")
    return CloudEvent(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        data=data,
        time=attributes.get("time", ""),
        subject=attributes.get("subject", ""),
        dataschema=attributes.get("dataschema", ""),
        extensions={name: value for name, value in attributes.items() if name in EXTENSIONS},
    )
