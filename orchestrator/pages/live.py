"""Hints that something changed, for open pages: topic and position, never data. See `Live`."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from orchestrator.store.connections import Pools


class Live:
    """Watches the feed of records, once for each process."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self.position = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return
