"""Locks of rows and keys, as PostgreSQL holds them: until the transaction ends, first come first served.

Rules of this file
- A transaction waits for one lock at a time. A circle of waiting is found at once and ends the one that closed it, as
  `deadlock_timeout` would a second later; the simulation counts it as a broken promise of the lock order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from orchestrator.store.contract import StoreUnavailableError

Name = tuple[Any, ...]


LOCK_TIMEOUT_S = 5.0


def _give_up(future: asyncio.Future[None], name: Name) -> None:
    if not future.done():
        future.set_exception(StoreUnavailableError(f"canceling statement due to lock timeout: {name}"))


class Transaction:
    """One transaction as the locks see it."""

    def __init__(self) -> None:
        self.held: dict[Name, None] = {}
        self.wants: Name | None = None
        self.over = False


class Locks:
    """All locks of one database."""

    def __init__(self) -> None:
        self._owners: dict[Name, Transaction] = {}
        self._queues: dict[Name, deque[tuple[Transaction, asyncio.Future[None]]]] = {}
        self.deadlocks: list[str] = []

    def foreign(self, transaction: Transaction, name: Name) -> bool:
        """Somebody else holds it."""
        return self._owners.get(name, transaction) is not transaction

    async def take(self, transaction: Transaction, name: Name) -> None:
        """Waits for a lock and holds it. Raises StoreUnavailableError where that would never end."""
        owner = self._owners.get(name)
        if owner is None:
            self._give(transaction, name)
            return
        if owner is transaction:
            return
        self._refuse_circle(transaction, owner, name)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(name, deque())
        queue.append((transaction, future))
        transaction.wants = name
        limit = asyncio.get_running_loop().call_later(LOCK_TIMEOUT_S, _give_up, future, name)
        try:
            await future
        finally:
            limit.cancel()
            if transaction.wants == name:
                transaction.wants = None
            if (transaction, future) in queue:
                queue.remove((transaction, future))
            elif transaction.over:  # it was given to somebody who had just gone
                self.free(transaction)

    def let_go(self, transaction: Transaction, name: Name) -> None:
        """Gives one lock back, as a statement does that only waited for its holder."""
        if self._owners.get(name) is transaction:
            del transaction.held[name]
            self._pass_on(name)

    def free(self, transaction: Transaction) -> None:
        """The transaction is over."""
        transaction.over = True
        held, transaction.held = list(transaction.held), {}
        for name in held:
            self._pass_on(name)

    def _give(self, transaction: Transaction, name: Name) -> None:
        self._owners[name] = transaction
        transaction.held[name] = None

    def _pass_on(self, name: Name) -> None:
        del self._owners[name]
        queue = self._queues.get(name)
        while queue:
            transaction, future = queue.popleft()
            if not future.done() and not transaction.over:
                transaction.wants = None
                self._give(transaction, name)
                future.set_result(None)
                return
        self._queues.pop(name, None)

    def _refuse_circle(self, transaction: Transaction, owner: Transaction, name: Name) -> None:
        follow: Transaction | None = owner
        while follow is not None and follow.wants is not None:
            follow = self._owners.get(follow.wants)
            if follow is transaction:
                self.deadlocks.append(f"a circle of waiting closes at {name}; this one holds {list(transaction.held)}")
                raise StoreUnavailableError("deadlock detected")
