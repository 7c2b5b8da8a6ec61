"""What a call needs to know of the saga that it calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic

from typing_extensions import TypeVar

from orchestrator.messages import Contract, Reply

S = TypeVar("S", bound=Contract, default=Any)  # several start messages: any of them


@dataclass(frozen=True, slots=True)
class GoodEnd:
    """One way in which a saga completes: the path to it, whether its pivot was passed, and the reply that it gives."""

    path: str
    passed_pivot: bool
    result: type[Reply] | None


class Callee(Generic[S]):
    """A compiled saga as its callers see it. `S` is what it starts on.

    may_fail: it can end compensated, its children included. pivots: it has a point of no return.
    """

    name: str
    version: int
    starts_on: tuple[type[Contract], ...]
    may_fail: bool
    pivots: bool
    good_ends: tuple[GoodEnd, ...]
