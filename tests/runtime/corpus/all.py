"""The whole corpus, in an order that may be sent as it is."""

from __future__ import annotations

from collections.abc import Iterator

from tests.runtime.corpus import answers, bodies, envelopes
from tests.runtime.corpus.record import Bad


def corpus() -> list[Bad]:
    """Every record once. Names are unique."""
    found = list(_all())
    names = [bad.name for bad in found]
    assert len(set(names)) == len(names), "two records have one name"
    return found


def _all() -> Iterator[Bad]:
    yield from answers.waiting()
    for part in (
        bodies.bodies, bodies.sizes, bodies.odd_but_right, bodies.known_but_not_for_us, bodies.on_wrong_topics,
        envelopes.envelopes, envelopes.types_and_tenants, envelopes.odd_envelopes, envelopes.unreadable_names,
        envelopes.seen_before, answers.replies, answers.numbers, answers.children,
    ):  # fmt: skip
        yield from part()
