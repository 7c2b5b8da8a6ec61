"""What must be true of any tree of spans, and streams to make them of."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.testing.exploring.world import World
from orchestrator.tracing.fold import Fields
from orchestrator.tracing.makers import saga_spans
from orchestrator.tracing.span import Span

UPSTREAM = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ACTORS = {"task": "person:ana", "operator": "person:op", "undo": "participant:till", "step": "participant:till"}


def topic_of(_: str) -> str:
    """Every event has a topic."""
    return "shop.events"


def stream_of(world: World, saga_id: str, traceparent: str = UPSTREAM) -> list[Fields]:
    """The records of a simulated saga as the store would give them, several at one instant as in a batch."""
    found = []
    for version, record in enumerate(world.checker.stories[saga_id].records, start=1):
        actor = ACTORS.get(record.type.partition(".")[0], "system")
        at = 1_700_000_000_000_000 + (version // 3) * 1_000
        reply = f"00-0af7651916cd43dd8448eb211c80319c-{version:016x}-01" if version > 1 else traceparent
        found.append(Fields(version, record.type, record.activity, record.data, actor, f"m-{version}", reply, at))
    return found


def spans_of(saga_id: str, stream: Sequence[Fields]) -> list[list[Span]]:
    """The spans of each record."""
    fold = saga_spans(saga_id, topic_of)
    return [fold.take(record) for record in stream]


def flaws(pages: Sequence[Sequence[Span]], upstream: str = "b7ad6b7169203331") -> list[str]:
    """What is wrong with a tree, page by page as it was sent: nothing may be missing at any moment."""
    found: list[str] = []
    spans: dict[str, Span] = {}
    roots = 0
    for page in pages:
        spans |= {span.span_id: span for span in page}
        if len({span.span_id for span in page}) < len(page):
            found.append(f"one id twice: {[span.name for span in page]}")
        for span in page:
            if span.parent_id in ("", upstream):
                roots += 1
            elif span.parent_id not in spans:
                found.append(f"{span.name}: its parent {span.parent_id} was not sent before")
            elif spans[span.parent_id].start_ns > span.start_ns:
                found.append(f"{span.name} begins before its parent {spans[span.parent_id].name}")
            if span.end_ns <= span.start_ns:
                found.append(f"{span.name} has no length")
            if span.parent_id == span.span_id or any(link[1] in (span.parent_id, span.span_id) for link in span.links):
                found.append(f"{span.name} is linked to itself or to its parent")
            if len(set(span.trace_id)) < 2 or len(span.trace_id) != 32 or len(span.span_id) != 16:
                found.append(f"{span.name} has no valid ids")
    if pages and roots != 1:
        found.append(f"{roots} roots")
    return found
