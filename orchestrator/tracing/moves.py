"""Spans of moves inside a saga (branches, loops, states, computed values): short, they show which way it went.

Rules of this file
- What decided a branch, and what was computed, is data and may be a payload: only names of the definition and numbers
  of things are told.
- A record type that makes no span is in `SILENT`, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator import telemetry as names
from orchestrator.telemetry import INTERNAL
from orchestrator.tracing.fold import Fields, SagaSpans, about, makes
from orchestrator.tracing.span import Span, Value
from orchestrator.tracing.words import low

SILENT = {
    "saga.started": "it is the root, which fold.py makes of any first record",
    "parallel.advanced": "a branch or an item is over: its own spans have said so",
    "scope.kept": "it marks what a going back leaves alone, and nothing happens",
}


def moved(spans: SagaSpans, record: Fields, name: str, more: dict[str, Value], parent: str = "") -> Span:
    """A short span of a move, under the root unless said otherwise."""
    return spans.span(
        record, name, INTERNAL, parent or spans.root, {**(about(record) if record.activity else {}), **more}
    )


@makes("branch.taken")
def _branch_taken(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    """With the path that was taken, as the definition calls it; what decided is data, and may be a payload."""
    next_ = str(record.data["gives"][0])
    path = next_.removeprefix("+").removeprefix(f"{record.activity}/") if next_.startswith("+") else "past it"
    yield moved(spans, record, f"{names.SPAN_BRANCH} {low(record.activity)}", {names.SAGA_BRANCH_NEXT: path})


@makes("value.computed")
def _computed(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    yield moved(spans, record, f"{names.SPAN_COMPUTE} {low(record.activity)}", {})


@makes("state.entered")
def _state_entered(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    state = str(record.data["state"])
    yield moved(spans, record, f"{names.SPAN_STATE} {state}", {names.SAGA_STATE: state})


@makes("loop.opened", "parallel.opened")
def _many_opened(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    is_loop, data = record.type == "loop.opened", record.data
    more: dict[str, Value] = {}
    if "items" in data:
        more[names.SAGA_LOOP_ITEMS] = len(data["items"])
    elif not is_loop:
        more[names.SAGA_BRANCHES] = int(data["total"])
    name = names.SPAN_LOOP if is_loop else names.SPAN_PARALLEL
    yield moved(spans, record, f"{name} {low(record.activity)}", more)


@makes("loop.iterated")
def _iterated(spans: SagaSpans, record: Fields) -> Iterator[Span]:
    """Rounds count from 1, as people do: the second one begins here."""
    round_ = int(record.data["round"]) + 1
    yield moved(spans, record, f"{names.SPAN_ROUND} {low(record.activity)}", {names.SAGA_LOOP_ROUND: round_})
