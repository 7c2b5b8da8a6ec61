"""Names of low cardinality for span names, and spans as lines for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.tracing.span import Span

_INDEX = re.compile(r"\[[^\]]*\]")


@lru_cache(maxsize=4_096)
def low(activity: str) -> str:
    """What an activity is called in its definition: `lines[3]/reserve` is `reserve`, whichever line it is for."""
    return _INDEX.sub("", activity).rpartition("/")[2]


def lines_of(spans: Sequence[Span]) -> Iterator[str]:
    """Spans as an indented tree, in the order in which they began, with their lengths and errors."""
    below: dict[str, list[Span]] = {}
    ids = {span.span_id for span in spans}
    for span in spans:
        below.setdefault(span.parent_id if span.parent_id in ids else "", []).append(span)

    def walk(parent: str, depth: int) -> Iterator[str]:
        for span in sorted(below.get(parent, ()), key=lambda span: span.start_ns):
            error = f"  ERROR {span.error}" if span.error else ""
            yield f"{'  ' * depth}{span.name}  {_length(span.end_ns - span.start_ns)}".rstrip() + error
            yield from walk(span.span_id, depth + 1)

    yield from walk("", 0)


def _length(nanoseconds: int) -> str:
    """A duration as people read it; nothing for the few microseconds of what only happened."""
    seconds = nanoseconds / 1e9
    if seconds < 1e-4:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 3600:.2f} h" if seconds < 172_800 else f"{seconds / 86_400:.2f} days"
