"""What the runtime made of every message that it read: one entry per place in the log, taken after the commit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.broker.contract import IncomingMessage, OutgoingMessage
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.work import Item, Outcome
from tests.faults.sending import shown

Place = tuple[str, int, int]
Entry = tuple[str, str]  # fate, and the reason of a dead letter


class Ledger:
    """Looks over the shoulder of a runtime's router and coordinator, before they are wired to their loops."""

    def __init__(self, runtime: Runtime) -> None:
        self.messages: dict[Place, IncomingMessage] = {}
        self._places: dict[Any, list[Place]] = defaultdict(list)  # by content
        self.entries: dict[Place, Entry] = {}
        self._route, self._process = runtime.router.route, runtime.coordinator.process
        runtime.router.route = self._routed  # type: ignore[method-assign]
        runtime.coordinator.process = self._processed  # type: ignore[method-assign,assignment]

    def _routed(self, raw: IncomingMessage, redriven: int = 0) -> Item | None:
        item = self._route(raw, redriven)
        place = (raw.topic, raw.partition, raw.offset)
        if place not in self.messages:
            self.messages[place] = raw
            self._places[raw.topic, raw.key, raw.value, raw.headers].append(place)
        if item is None:
            self.entries[place] = ("foreign", "")
        return item

    async def _processed(self, items: Sequence[Item], *positions: Mapping[Any, Any]) -> list[Outcome]:
        outcomes = await self._process(items, *positions)
        for item, outcome in zip(items, outcomes, strict=True):
            raw = item.cause.raw
            if raw is not None:
                reason = outcome.reason if outcome.fate == "dead" else ""
                self.entries[raw.topic, raw.partition, raw.offset] = (outcome.fate, reason)
        return outcomes

    def of(self, message: OutgoingMessage) -> list[tuple[Place, Entry]]:
        """The places at which a message came, with what became of it there, in the order of the log."""
        wanted = (message.topic, message.key, message.value, shown(message.headers))
        places = sorted(self._places.get(wanted, ()))
        return [(place, self.entries[place]) for place in places if place in self.entries]

    def fates(self) -> Counter[str]:
        """How many of each."""
        return Counter(fate for fate, _ in self.entries.values())
