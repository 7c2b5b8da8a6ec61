"""From views to JSON: one rule for all answers. Field names become camelCase, instants RFC 3339 in UTC, the rest stays.

What came from a saga's own data (messages, forms, records) keeps its names: only our own values are renamed.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from fastapi.responses import Response

from orchestrator.messages.canonical import canonical_bytes, instant_text

MEDIA_TYPE = "application/json"


def camel(name: str) -> str:
    """`saga_id` as `sagaId`."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def shape(value: Any) -> Any:
    """A view, or plain values that may hold views, as plain JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = [item for item in fields(value) if not item.metadata.get("inside")]
        return {camel(item.name): shape(getattr(value, item.name)) for item in shown}
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, tuple | list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    return value


def respond(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An HTTP answer with a view, or plain values, as JSON. Never cached: it is true only now."""
    body = canonical_bytes(shape(value))
    return Response(body, status, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", **(headers or {})})
