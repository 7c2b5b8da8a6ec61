"""How values about people are shown in a report: the one place through which everything readable of a pack goes.

Rules of this file
- Records in a pack are the stored bytes, always: sealed values stay sealed there, and the chain holds.
- A report never opens what is sealed: it outlives every erasure. `say` tells what stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Say = Callable[[str], str]
"""A text as a report shows it."""


def as_stored(text: str) -> str:
    """The text itself."""
    return text


def readable(value: Any, say: Say) -> Any:
    """The value with each of its texts as a report shows it."""
    if isinstance(value, str):
        return say(value)
    if isinstance(value, Mapping):
        return {name: readable(item, say) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item, say) for item in value]
    return value
