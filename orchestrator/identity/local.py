"""Local users: people of a demonstration or of a developer's machine. Production refuses them by name.

    await seed(engine, [local_user("asha", "Asha Rao", capacities={"approver", "viewer"}, roles=["finance"])])

Rules of this file
- They sign in on loopback alone. Without a password whoever sits at this machine may be them, in development only.
- Passwords are hashed with argon2id, at most HASHES_MAX at a time: a flood of sign-ins must not take the processor away
  from sagas. Beyond that, and beyond the limits of attempts, they are told to come later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from orchestrator.api.views import Actor
from orchestrator.identity.keeping import Kept, LocalUser
from orchestrator.identity.rules import CAPACITIES

if TYPE_CHECKING:
    from orchestrator.store.connections import Pools

LOCAL = "local-user"
HASHES_MAX = 2
WAITING_MAX = 8  # sign-ins that may wait for their turn
PASSWORD_CHARACTERS_MAX = 500

_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's least for argon2id
_NOBODY = _hasher.hash("nobody has this password")  # compared with where there is no such user: it takes as long


class BusyError(Exception):
    """Too many people sign in at once."""


def local_user(
    id_: str,
    name: str,
    *,
    capacities: Iterable[str],
    roles: Iterable[str] = (),
    about: str = "",
    tenant: str = "main",
    password: str = "",
) -> LocalUser:
    """A local user. Raises ValueError for a capacity that is none."""
    wanted = frozenset(capacities)
    if not wanted <= CAPACITIES:
        raise ValueError(f"{sorted(wanted - CAPACITIES)} are no capacities; there are {', '.join(sorted(CAPACITIES))}")
    hashed = _hasher.hash(password) if password else ""
    return LocalUser(id_, name, tuple(sorted(set(roles))), wanted, about, tenant, hashed)


async def seed(pools: Pools, users: Sequence[LocalUser]) -> None:
    """Adds these people, or brings those of the same ids up to date. `pools`: of the product's store."""
    kept = Kept(pools)
    for user in users:
        await kept.put_local_user(user)


class Passwords:
    """Checks passwords, a few at a time."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(HASHES_MAX)
        self._waiting = 0

    async def fits(self, user: LocalUser | None, password: str) -> bool:
        """True where this is the user's password; as slow for nobody. Raises BusyError where too many wait."""
        if self._waiting >= WAITING_MAX + HASHES_MAX:
            raise BusyError("too many people sign in at once")
        self._waiting += 1
        try:
            async with self._turn:
                hashed = user.password_hash if user is not None and user.password_hash else _NOBODY
                same = await asyncio.to_thread(_verify, hashed, password[:PASSWORD_CHARACTERS_MAX])
        finally:
            self._waiting -= 1
        return same and user is not None and bool(user.password_hash)


def actor_of_user(user: LocalUser) -> Actor:
    """A local user who has just signed in."""
    return replace(
        Actor(user.id, user.roles, LOCAL),
        tenant=user.tenant,
        name=user.name,
        capacities=user.capacities,
        authenticated_at=datetime.now(UTC),
    )


def _verify(hashed: str, password: str) -> bool:
    try:
        return _hasher.verify(hashed, password)
    except (Argon2Error, InvalidHashError):
        return False
