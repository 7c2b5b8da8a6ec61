"""States of sagas in memory: a bounded cache that is never believed without the head of the stream.

Rules of this file
- An entry counts only while the saga's head, read or verified under its lock, has the entry's version and hash.
- States are never changed in place: the kernel forks. So what a failed commit computed cannot be left behind here.
- `Entry.person`: what is known of the saga's subject while it is in memory; the state itself is never sealed (ADR 60).
- `Entry.foreign`: the state was folded from the store, so earlier outbox rows may be another process's, and unsent yet.
  The relay must not overtake them from memory; see relay.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.kernel.state import State
from orchestrator.store.contract import Head
from orchestrator.vault.sealer import Person


@dataclass(slots=True)
class Entry:
    """A state with the head it belongs to."""

    state: State
    head: Head
    trace: str  # id and flags
    foreign: bool = False
    person: Person | None = None


class StateCache:
    """The newest `sagas_max` states by use. 0 keeps none."""

    def __init__(self, sagas_max: int) -> None:
        self._max = sagas_max
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, head: Head) -> Entry | None:
        """The entry, if it is of exactly this head; a stale one is dropped."""
        entry = self._entries.get(head.saga_id)
        if entry is None:
            self.misses += 1
            return None
        if entry.head.version != head.version or entry.head.hash != head.hash:
            del self._entries[head.saga_id]
            self.misses += 1
            return None
        self.hits += 1
        return entry

    def believed(self, saga_ids: Iterable[str]) -> dict[str, Entry] | None:
        """The entries of all these sagas, to be verified when something is written; None where one is not here."""
        found: dict[str, Entry] = {}
        for saga_id in saga_ids:
            entry = self._entries.get(saga_id)
            if entry is None:
                return None
            found[saga_id] = entry
        self.hits += len(found)
        return found

    def put(self, saga_id: str, entry: Entry) -> None:
        """Keeps a state whose commit is known to have succeeded."""
        if not self._max:
            return
        entries = self._entries
        entries[saga_id] = entry
        entries.move_to_end(saga_id)
        while len(entries) > self._max:
            entries.popitem(last=False)

    def drop(self, saga_id: str) -> None:
        """Forgets one saga: somebody else wrote, or its commit is unknown."""
        self._entries.pop(saga_id, None)

    def clear(self) -> None:
        """Forgets everything: the database may have been restored to an earlier day."""
        self._entries.clear()
