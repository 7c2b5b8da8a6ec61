"""What is kept of sessions, sign-ins, keys and people; every statement is in identity.sql.

Rules of this file
- Who signs in is remembered with what they hold (`known_people`): what they lent others goes no further.
- Only hashes of tokens go to the database and come from it. A key's secret is compared in constant time.
- Raises StoreError where the database cannot answer: then nobody is let in, and nobody is told that they are nobody.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestrator.api.views import Actor
from orchestrator.identity.rules import API_KEY
from orchestrator.identity.secrets import TOKEN_CHARACTERS, digest, new_token
from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.identity", "identity.sql")

SIGN_IN_SECONDS = 600.0  # from leaving for the provider to coming back
KEY_PREFIX = "orc"
PREFIX_CHARACTERS = 12

_KEY = re.compile(rf"{KEY_PREFIX}_([A-Za-z0-9]{{{PREFIX_CHARACTERS}}})_([A-Za-z0-9_-]{{{TOKEN_CHARACTERS}}})")


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in that is under way at the provider."""

    state: str
    nonce: str
    verifier: str
    next: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in, and when that is over at the latest."""

    actor: Actor
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept; its secret is not."""

    prefix: str
    tenant: str
    name: str
    capacities: tuple[str, ...]
    actions: tuple[str, ...]
    made_by: str
    made_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_by: str
    usable: bool


@dataclass(frozen=True, slots=True)
class LocalUser:
    """Somebody of a demonstration. `password_hash` "": whoever sits at this machine may sign in as them."""

    id: str
    name: str
    roles: tuple[str, ...] = ()
    capacities: frozenset[str] = frozenset()
    about: str = ""
    tenant: str = "main"
    password_hash: str = ""


def looks_like_key(text: str) -> bool:
    """True for a text that begins as our keys do: it is then a key or nothing."""
    return text.startswith(f"{KEY_PREFIX}_")


def prefix_of(text: str) -> str:
    """The part of a key that names it, for counting attempts; "" for what has none."""
    found = _KEY.fullmatch(text)
    return found[1] if found else ""


class Kept:
    """The tables of identity. Methods raise StoreError."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def begin_session(self, actor: Actor, *, seconds: float) -> str:
        """Begins a session; gives the token that the browser shall hold."""
        token = new_token()
        await self._execute(
            "begin_session", digest(token), actor.tenant, actor.id, actor.name, list(actor.roles),
            sorted(actor.capacities), actor.authentication, actor.authenticated_at, seconds,
        )  # fmt: skip
        return token

    async def session(self, token: str, *, idle_seconds: float, used: bool = True) -> Session | None:
        """The session of a token, unless it is over, idle for too long, or its person is barred.

        `used`: somebody is there; else it is looked at, and goes idle as if nobody had asked.
        """
        rows = await self._fetch("session", digest(token), idle_seconds, used)
        if not rows:
            return None
        row = rows[0]
        actor = Actor(
            row["person"],
            tuple(row["roles"]),
            row["authentication"],
            tenant=row["tenant"],
            name=row["name"],
            capacities=frozenset(row["capacities"]),
            authenticated_at=row["authenticated_at"],
        )
        return Session(actor, row["ends_at"])

    async def end_session(self, token: str) -> None:
        """Ends a session here and now, for every browser that holds its token."""
        await self._execute("end_session", digest(token))

    # --- sign-ins under way -------------------------------------------------------------------------------------------

    async def begin_sign_in(self, sign_in: SignIn) -> str:
        """Remembers a sign-in; gives the token that binds it to the browser that began it."""
        token = new_token()
        await self._execute(
            "begin_sign_in", digest(token), sign_in.state, sign_in.nonce, sign_in.verifier, sign_in.next,
            sign_in.fresh, SIGN_IN_SECONDS,
        )  # fmt: skip
        return token

    async def take_sign_in(self, token: str) -> SignIn | None:
        """The sign-in of a browser, once."""
        rows = await self._fetch("take_sign_in", digest(token), SIGN_IN_SECONDS)
        return SignIn(*rows[0]) if rows else None

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def make_key(
        self, *, tenant: str, name: str, capacities: Iterable[str], actions: Iterable[str], made_by: str, seconds: float
    ) -> str:
        """Makes a key and gives it, for the only time."""
        prefix = "".join(mark for mark in new_token() if mark.isalnum())[:PREFIX_CHARACTERS]
        secret = new_token()
        await self._execute(
            "make_key", prefix, digest(secret), tenant, name, sorted(capacities), sorted(actions), made_by, seconds
        )
        return f"{KEY_PREFIX}_{prefix}_{secret}"

    async def actor_of_key(self, text: str) -> Actor | None:
        """The service that this key is of; None where it is none, is revoked, or has expired."""
        found = _KEY.fullmatch(text)
        rows = await self._fetch("key", found[1]) if found else []
        # Compared also where there is no such key: the time it takes shall not say which prefixes exist.
        kept = rows[0]["secret_hash"] if rows else bytes(32)
        same = hmac.compare_digest(digest(found[2] if found else text), kept)
        if not rows or not same or not rows[0]["usable"]:
            return None
        row = rows[0]
        return Actor(
            f"service:{row['name']}",
            (),
            API_KEY,
            tenant=row["tenant"],
            name=row["name"],
            capacities=frozenset(row["capacities"]),
            actions=frozenset(row["actions"]),
        )

    async def keys(self, tenant: str | None = None) -> list[ApiKey]:
        """All keys, newest first."""
        return [_key(row) for row in await self._fetch("keys", tenant)]

    async def revoke_key(self, prefix: str, by: str) -> bool:
        """True where there was such a key, and it was not revoked before."""
        return await self._execute("revoke_key", prefix, by) == 1

    # --- people -------------------------------------------------------------------------------------------------------

    async def know_person(self, actor: Actor, at: datetime) -> None:
        """Remembers what somebody held at an instant, unless something later is known."""
        facts = actor.tenant, actor.id, list(actor.roles), sorted(actor.capacities), at, actor.authentication
        await self._execute("know_person", *facts)

    async def put_local_user(self, user: LocalUser) -> None:
        """Adds a local user, or replaces the one of this id."""
        await self._execute(
            "put_local_user", user.id, user.tenant, user.name, user.about, list(user.roles), sorted(user.capacities),
            user.password_hash,
        )  # fmt: skip

    async def local_user(self, person: str) -> LocalUser | None:
        """The local user of this id, unless barred."""
        rows = await self._fetch("local_user", person)
        return _local(rows[0]) if rows else None

    async def local_users(self) -> list[LocalUser]:
        """All local users who may come in, by name."""
        return [_local(row) for row in await self._fetch("local_users")]

    async def remove_local_user(self, person: str) -> bool:
        """True where there was one."""
        return await self._execute("remove_local_user", person) == 1

    async def bar(self, tenant: str, person: str, *, reason: str, by: str) -> bool:
        """Keeps somebody out from now on, and ends their sessions. True where they were not barred before."""
        return await self._execute("bar", tenant, person, reason, by) == 1

    async def admit(self, tenant: str, person: str) -> bool:
        """Lets somebody in again. True where they were barred."""
        return await self._execute("admit", tenant, person) == 1

    async def is_barred(self, tenant: str, person: str) -> bool:
        """True where this person may not come in, whatever a token says."""
        return bool((await self._fetch("is_barred", tenant, person))[0]["barred"])

    async def barred(self) -> list[dict[str, Any]]:
        """Who is kept out, why, since when and by whom."""
        return [dict(row) for row in await self._fetch("barred")]

    async def server_flaws(self) -> dict[str, Any]:
        """What start-up wants to know of the database: see production.py."""
        return dict((await self._fetch("server_flaws"))[0])

    # --- statements ---------------------------------------------------------------------------------------------------

    async def _fetch(self, name: str, *given: object) -> Sequence[Any]:
        async with self._pools.connection("read") as connection:
            return await connection.fetch(SQL[name], *given)

    async def _execute(self, name: str, *given: object) -> int:
        async with self._pools.connection("read") as connection:
            return await connection.execute(SQL[name], *given)


def _key(row: Any) -> ApiKey:
    return ApiKey(
        row["prefix"],
        row["tenant"],
        row["name"],
        tuple(row["capacities"]),
        tuple(row["actions"]),
        row["made_by"],
        row["made_at"].astimezone(UTC),
        row["expires_at"].astimezone(UTC),
        row["revoked_at"],
        row["revoked_by"],
        row["usable"],
    )


def _local(row: Any) -> LocalUser:
    return LocalUser(
        row["person"],
        row["name"],
        tuple(row["roles"]),
        frozenset(row["capacities"]),
        row["about"],
        row["tenant"],
        row["password_hash"],
    )
