"""Which contracts mark something as personal, themselves or in a model that they hold."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from orchestrator.messages.contract import is_personal


def is_marked(model: type[BaseModel], seen: frozenset[type[BaseModel]] = frozenset()) -> bool:
    """Does this model hold a field marked `Personal[...]`, at any depth?"""
    if model in seen:
        return False
    seen |= {model}
    return any(
        any(is_personal(mark) for mark in field.metadata) or _hint_marked(field.annotation, seen)
        for field in model.model_fields.values()
    )


def _hint_marked(hint: Any, seen: frozenset[type[BaseModel]]) -> bool:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return is_marked(hint, seen)
    return any(is_personal(inner) or _hint_marked(inner, seen) for inner in get_args(hint))
