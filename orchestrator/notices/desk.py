"""Notices and the address book, as operators and their owners see and change them.

Rules of this file
- Every question names its tenant, in the statement and in the session.
- Addresses are the operators' matter: what decides over money must not be told to an address that somebody gave
  themselves. When and how they are told, people choose for themselves.
- A webhook's address often holds a secret: it is shown by its host alone.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from orchestrator.notices.contract import Channel
from orchestrator.notices.guard import Guard, NotAllowedError
from orchestrator.notices.planner import Reach
from orchestrator.notices.preferences import Preferences, clock_text, instant
from orchestrator.notices.store import SQL, State
from orchestrator.notices.words import AddressError, line, mail_address
from orchestrator.store.connections import Guarded, Pools

PAGE_ROWS_MAX = 500
_LAST = 2**63 - 1
_WHO = ("person:", "role:")


class BadCursorError(ValueError):
    """The cursor is not one that this list has given."""


@dataclass(frozen=True, slots=True)
class NoticeView:
    """One notice and what became of it. reason: why it was skipped or failed, or why the last attempt did."""

    id: int
    kind: str
    who: str
    channel: str
    address: str
    state: str
    reason: str
    attempts: int
    title: str
    task: str
    saga_id: str
    planned_at: datetime
    due: datetime
    closed_at: datetime | None
    task_due: datetime | None


@dataclass(frozen=True, slots=True)
class ContactView:
    """One entry of the address book. address "": that which everybody has by the settings."""

    who: str
    channel: str
    address: str
    language: str
    zone: str
    delivery: str
    digest_at: str
    quiet_from: str
    quiet_to: str
    updated_at: datetime | None
    updated_by: str


class NoticeDesk:
    """What routes and pages ask. Methods raise StoreError, and AddressError for an address that is none."""

    def __init__(self, pools: Pools, guard: Guard, reach: Reach) -> None:
        self._pools, self._guard, self._reach = pools, guard, reach

    # --- notices ------------------------------------------------------------------------------------------------------

    async def notices(
        self, tenant: str, *, state: State | None, who: str | None, saga_id: str | None, limit: int, cursor: str
    ) -> tuple[list[NoticeView], str]:
        """A page, newest first, and the cursor of the next one, "" at the end. Raises BadCursorError."""
        (before,) = _cursor(cursor, 1) or (_LAST,)
        rows = await self._fetch(tenant, "list", int(before), _rows(limit) + 1, state, who, saga_id)
        found = [_notice(row) for row in rows[: _rows(limit)]]
        return found, _next([found[-1].id]) if len(rows) > len(found) else ""

    async def notice(self, tenant: str, notice_id: int) -> NoticeView | None:
        """One notice."""
        rows = await self._fetch(tenant, "show", notice_id)
        return _notice(rows[0]) if rows else None

    async def again(self, tenant: str, notice_id: int, by: str) -> bool:
        """Sends a failed notice again, under its own id. False where it is not failed."""
        async with self._as(tenant) as connection:
            return bool(await connection.execute(SQL["again"], tenant, notice_id, line(by, 200)))

    # --- the address book ---------------------------------------------------------------------------------------------

    async def contacts(self, tenant: str, *, who: str | None, limit: int, cursor: str) -> tuple[list[ContactView], str]:
        """A page of the address book, by name. Raises BadCursorError."""
        after = _cursor(cursor, 2) or ("", "")
        rows = await self._fetch(tenant, "contacts", *after, _rows(limit) + 1, who)
        found = [_contact(row) for row in rows[: _rows(limit)]]
        return found, _next([found[-1].who, found[-1].channel]) if len(rows) > len(found) else ""

    async def put(self, tenant: str, who: str, channel: Channel, address: str, wishes: Preferences, by: str) -> None:
        """Writes an entry. Raises AddressError."""
        if not who.startswith(_WHO) or not who.partition(":")[2] or line(who, 210) != who:
            raise AddressError("who must be person:<id> or role:<name>")
        if channel == "mail":
            address = mail_address(address) if address else ""
        else:
            try:
                self._guard.check(address)
            except NotAllowedError as error:
                raise AddressError(f"the webhook's URL is refused: {error}") from error
        await self._put(tenant, who, channel, address, wishes, by)

    async def drop(self, tenant: str, who: str, channel: Channel) -> bool:
        """Removes an entry; False where there is none."""
        async with self._as(tenant) as connection:
            return bool(await connection.execute(SQL["drop_contact"], tenant, who, channel))

    async def wishes(self, tenant: str, person: str) -> list[ContactView]:
        """How a person is told now, by channel; by mail as everybody is, where nothing else was said."""
        rows = await self._fetch(tenant, "contacts", "", "", PAGE_ROWS_MAX, f"person:{person}")
        return [_contact(row) for row in rows] or [_plain(f"person:{person}", self._reach.wishes)]

    async def wish(self, tenant: str, person: str, channel: Channel, wishes: Preferences) -> ContactView:
        """Writes when and how a person wants to be told. Raises AddressError for a channel that has no address."""
        who = f"person:{person}"
        known = {view.channel: view for view in await self.wishes(tenant, person)}
        if channel not in known and channel != "mail":
            raise AddressError(f"there is no {channel} for you in the address book; ask an operator")
        rows = await self._fetch(tenant, "contacts", "", "", PAGE_ROWS_MAX, who)
        address = next((row["address"] for row in rows if row["channel"] == channel), "")
        await self._put(tenant, who, channel, address, wishes, who)
        return next(view for view in await self.wishes(tenant, person) if view.channel == channel)

    async def _put(self, tenant: str, who: str, channel: Channel, address: str, wishes: Preferences, by: str) -> None:
        async with self._as(tenant) as connection:
            await connection.execute(
                SQL["put_contact"], wishes.quiet_from, wishes.quiet_to, wishes.digest_at, tenant, who, channel, address,
                wishes.language, wishes.zone, wishes.delivery, line(by, 200),
            )  # fmt: skip

    async def _fetch(self, tenant: str, name: str, *args: object) -> list[Any]:
        async with self._as(tenant) as connection:
            return await connection.fetch(SQL[name], tenant, *args)

    @asynccontextmanager
    async def _as(self, tenant: str) -> AsyncIterator[Guarded]:
        """A transaction that sees one tenant's rows."""
        async with self._pools.connection("read") as connection:
            await connection.begin()
            try:
                await connection.fetch(SQL["as_tenant"], tenant)
                yield connection
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit_repeatable()


def _notice(row: Any) -> NoticeView:
    facts = orjson.loads(row["facts"])
    return NoticeView(
        id=row["id"],
        kind=row["kind"],
        who=row["who"],
        channel=row["channel"],
        address=_shown(row["channel"], row["address"]),
        state=row["state"],
        reason=row["reason"],
        attempts=row["attempts"],
        title=facts.get("title", ""),
        task=facts.get("task", ""),
        saga_id=row["saga_id"],
        planned_at=instant(row["planned_at"]),
        due=instant(row["due"]),
        closed_at=instant(row["closed_at"]) if row["closed_at"] else None,
        task_due=instant(row["task_due"]) if row["task_due"] else None,
    )


def _contact(row: Any) -> ContactView:
    return ContactView(
        who=row["who"],
        channel=row["channel"],
        address=_shown(row["channel"], row["address"]),
        language=row["language"],
        zone=row["zone"],
        delivery=row["delivery"],
        digest_at=clock_text(row["digest_at"]),
        quiet_from=clock_text(row["quiet_from"]),
        quiet_to=clock_text(row["quiet_to"]),
        updated_at=instant(row["updated_at"]),
        updated_by=row["updated_by"],
    )


def _plain(who: str, wishes: Preferences) -> ContactView:
    return ContactView(
        who=who,
        channel="mail",
        address="",
        language=wishes.language,
        zone=wishes.zone,
        delivery=wishes.delivery,
        digest_at=clock_text(wishes.digest_at),
        quiet_from=clock_text(wishes.quiet_from),
        quiet_to=clock_text(wishes.quiet_to),
        updated_at=None,
        updated_by="",
    )


def _shown(channel: str, address: str) -> str:
    if channel != "webhook" or not address:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.hostname}/…"


def _rows(limit: int) -> int:
    return max(1, min(limit, PAGE_ROWS_MAX))


def _next(values: list[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode()


def _cursor(cursor: str, parts: int) -> tuple[Any, ...] | None:
    if not cursor:
        return None
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, binascii.Error):
        values = None
    kind = int if parts == 1 else str
    fits = isinstance(values, list) and len(values) == parts and all(type(value) is kind for value in values)
    if not fits or (kind is int and abs(values[0]) > _LAST) or (kind is str and "\0" in "".join(values)):
        raise BadCursorError("this cursor is not one that this list has given")
    return tuple(values)
