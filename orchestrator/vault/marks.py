"""Which contracts mark something as personal, themselves or in a model that they hold."""

from __future__ import annotations

from collections.abc import Iterator
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


def marked_names(model: type[BaseModel], seen: frozenset[type[BaseModel]] = frozenset()) -> set[str]:
    """The names of the fields that hold what this model marks, at any depth."""
    if model in seen:
        return set()
    names: set[str] = set()
    for name, field in model.model_fields.items():
        inner = [one for one in _models(field.annotation) if one not in seen]
        if any(is_personal(mark) for mark in field.metadata):
            names |= {name, *(inside for one in inner for inside in one.model_fields)}
        elif _hint_marked(field.annotation, seen):
            names.add(name)
        for one in inner:
            names |= marked_names(one, seen | {model})
    return names


def _models(hint: Any) -> Iterator[type[BaseModel]]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for inner in get_args(hint):
        yield from _models(inner)


def _hint_marked(hint: Any, seen: frozenset[type[BaseModel]]) -> bool:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return is_marked(hint, seen)
    return any(is_personal(inner) or _hint_marked(inner, seen) for inner in get_args(hint))
