"""What a call needs to know of the saga that it calls."""

from __future__ import annotations

from typing import Generic, TypeVar

from orchestrator.messages import Contract

S = TypeVar("S", bound=Contract)


class Callee(Generic[S]):
    """A compiled saga as its callers see it. `S` is what it starts on.

    may_fail: it can end compensated, its children included. pivots: it has a point of no return.
    ends_without_pivot, ends_without_result: the path on which a good end lacks the one or the other, "" for none.
    """

    name: str
    version: int
    starts_on: tuple[type[Contract], ...]
    may_fail: bool
    pivots: bool
    ends_without_pivot: str
    ends_without_result: str
