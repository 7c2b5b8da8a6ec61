"""The event keys that a batch has locked: who waits for them and what is kept for them, while the batch runs.

Rules of this file
- Opening a wait looks for early events, an event looks for waits: both see what the same batch did before.
- A run never takes an event twice, nor one that an earlier run of the same saga and business key has taken.
- An event is offered to a subscription once; one that it does not take stays for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.kernel.effects import Effects, Subscription
from orchestrator.store.contract import EarlyEvent, EventKey, Head, Waiting


class LockedKeys:
    """Waits and early events of locked keys. `early_max`: events kept for one key."""

    def __init__(
        self,
        keys: frozenset[EventKey],
        waiting: Sequence[Waiting],
        early: Sequence[EarlyEvent],
        heads: Mapping[str, Head],
        early_max: int,
    ) -> None:
        self._keys = keys
        self._early_max = early_max
        self._waits: dict[EventKey, dict[tuple[str, str], Waiting]] = {}
        self._by_activity: dict[tuple[str, str], list[EventKey]] = {}
        self._early: dict[EventKey, list[EarlyEvent]] = {}
        self._taken: dict[tuple[str, str], set[tuple[str, str]]] = {}  # tenant, event -> runs (saga name, business key)
        self._offered: set[tuple[str, str]] = set()  # saga, event: offered once in this batch
        self._kept: dict[EventKey, list[EarlyEvent]] = {}
        if not keys:
            return
        for wait in waiting:
            head = heads.get(wait.saga_id)
            if head is not None:
                # A subscription names no tenant, its saga does: an event never reaches another tenant's saga.
                self._add((head.tenant, wait.type, wait.key), wait)
        for event in early:
            self._early.setdefault((event.tenant, event.type, event.key), []).append(event)
            self._taken.setdefault((event.tenant, event.event_id), set()).update(event.consumed_by)

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def kept(self) -> list[EarlyEvent]:
        """The events to keep that this batch brought."""
        return [event for group in self._kept.values() for event in group]

    def waiting(self, key: EventKey) -> list[str]:
        """The sagas that wait for this key now, the longest waiting first, each once."""
        return list(dict.fromkeys(wait.saga_id for wait in self._waits.get(key, {}).values()))

    def keep(self, event: EarlyEvent) -> bool:
        """Keeps an event for waits to come; False where its key has too many."""
        key = (event.tenant, event.type, event.key)
        known = self._early.setdefault(key, [])
        if any(other.event_id == event.event_id for other in known):
            return True
        if len(known) >= self._early_max:
            return False
        known.append(event)
        self._kept.setdefault(key, []).append(event)
        return True

    def apply(self, tenant: str, saga_id: str, effects: Effects) -> list[Subscription]:
        """Takes over what a turn closed and opened; gives the opened subscriptions whose key is locked."""
        if not self._keys:
            return []
        for activity in effects.waits_closed:
            for key in self._by_activity.pop((saga_id, activity), ()):
                self._waits.get(key, {}).pop((saga_id, activity), None)
        opened = []
        for wanted in effects.waits_opened:
            key = (tenant, wanted.type, wanted.key)
            if key in self._keys:
                self._add(key, Waiting(saga_id, wanted.activity, wanted.type, wanted.key, wanted.accepts_from))
                opened.append(wanted)
        return opened

    def early_for(self, head: Head, wanted: Subscription) -> EarlyEvent | None:
        """The first kept event that this subscription, if it is still open, may take and was not offered yet."""
        key = (head.tenant, wanted.type, wanted.key)
        if (head.saga_id, wanted.activity) not in self._waits.get(key, {}):
            return None
        run = (head.name, head.business_key)
        for event in self._early.get(key, ()):
            if (
                event.arrived_at >= wanted.accepts_from
                and run not in self._taken.get((event.tenant, event.event_id), ())
                and (head.saga_id, event.event_id) not in self._offered
            ):
                return event
        return None

    def offered(self, head: Head, event: EarlyEvent) -> None:
        """Notes that a saga was offered an event, so that it is not offered again in this batch."""
        self._offered.add((head.saga_id, event.event_id))

    def has_taken(self, head: Head, event_id: str) -> bool:
        """This run, or an earlier one of the same business key, is known to have taken the event."""
        return (head.name, head.business_key) in self._taken.get((head.tenant, event_id), ())

    def consumed(self, head: Head, event_id: str) -> None:
        """Notes that a run took an event."""
        self._taken.setdefault((head.tenant, event_id), set()).add((head.name, head.business_key))

    def _add(self, key: EventKey, wait: Waiting) -> None:
        place = (wait.saga_id, wait.activity)
        self._waits.setdefault(key, {})[place] = wait
        self._by_activity.setdefault(place, []).append(key)
