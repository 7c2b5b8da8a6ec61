"""Erasing a person: asked for, confirmed by somebody else, carried out, and recorded in every saga that was theirs.

Rules of this file
- Refused while one of their sagas runs, has just begun, or may be undone by a running caller, and while they are under
  a legal hold: by name, so that whoever asked knows what to wait for.
- First the keys go, in one transaction that holds them against every saga that would take them up; then each saga gets
  its record (finishing.py). What a crash leaves undone is taken up without anybody asking again.
- Who confirms may say whom: the request holds no id, so that is how a second person checks it against the letter.
- Neither request nor reason may hold the person's id: both are kept for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from orchestrator.kernel.inputs import Refusal
from orchestrator.runtime.submit import BusyError
from orchestrator.store.connections import Pools
from orchestrator.store.contract import StoreError
from orchestrator.vault.finishing import FRESH_SECONDS, LEASE_SECONDS, Finishing, finishing_of
from orchestrator.vault.keys import SQL
from orchestrator.vault.repeating import Repeating, refusal_text, repeating_of
from orchestrator.vault.vault import Vault

log = structlog.get_logger("orchestrator.vault")

LISTED_MAX = 20
REQUESTS_MAX = 500
HOLDS_MAX = 100


class ErasureRefusedError(Exception):
    """It cannot be now, or not like this. `refusal` has code, sentence and facts."""

    def __init__(self, code: str, text: str, **facts: Any) -> None:
        super().__init__(text)
        self.refusal = Refusal(code, text, facts)


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request. `erased_at` None: it waits for a second person. `sagas`: how many hold its record by now.

    `untold`: how many could not be told yet. `finished_at` None after `erased_at`: somebody goes on with it, from
    `again_at` on.
    """

    request: str
    reason: str
    asked_by: str
    asked_at: datetime
    confirmed_by: str
    erased_at: datetime | None
    keys: int
    sagas: int
    untold: int
    again_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold of one person: why, by whom, since when (None: from before that was noted), and their keys."""

    reason: str
    by: str
    at: datetime | None
    key_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Theirs:
    """A saga of somebody, as it is listed. Its key is no secret: business keys are not personal."""

    saga_id: str
    name: str
    business_key: str
    ended: bool


class Erasing:
    """What can be done about a person. `two_people`: one asks, another confirms."""

    def __init__(
        self, vault: Vault, pools: Pools, finishing: Finishing, repeating: Repeating, *, two_people: bool
    ) -> None:
        self._vault = vault
        self._repeating = repeating
        self._pools = pools
        self._finishing = finishing
        self.two_people = two_people

    async def ask(
        self, tenant: str, subject: str, request: str, reason: str, by: str, *, saga: bool = False
    ) -> Erasure:
        """Asks for a person, or what `saga` names, to be erased; does it where one person is enough.

        subject: the id by which sagas know the person (or a saga's id). Raises ErasureRefusedError: not_found, invalid,
        in_use.
        """
        if not saga and subject.casefold() in f"{request} {reason}".casefold():
            raise ErasureRefusedError("invalid", "request and reason are kept for ever: leave the person's id out")
        keys = await self._keys_of(tenant, subject, saga=saga)
        await self._check_text(tenant, keys, f"{request} {reason}", "Request or reason")
        known = await self._asked(tenant, request)
        if known is not None:
            await self._check_same(tenant, request, keys, done=known.erased_at is not None)
            return await self.confirm(tenant, request, by)
        if not keys:
            raise _nothing()
        async with self._pools.connection("vault") as connection:
            await self._check(connection, keys)
            await connection.execute(SQL["ask"], tenant, request, keys, reason, by)
        found = await self._asked(tenant, request)
        assert found is not None
        return found if self.two_people else await self._carry_out(tenant, request, by)

    async def confirm(self, tenant: str, request: str, by: str, *, subject: str = "", saga: bool = False) -> Erasure:
        """A second person agrees, and it is done. `subject`: whom they mean, "" where they do not say.

        Raises ErasureRefusedError: not_found, invalid (it stands for somebody else), second_person, in_use.
        """
        found = await self._asked(tenant, request)
        if found is None:
            raise ErasureRefusedError("not_found", f"There is no request {request[:80]!r}.")
        if found.erased_at is not None:
            return found
        if subject:
            keys = await self._keys_of(tenant, subject, saga=saga)
            await self._check_same(tenant, request, keys, done=False)
        if self.two_people and found.asked_by == by:
            raise ErasureRefusedError("second_person", f"{by} asked for this: somebody else confirms it", by=by)
        return await self._carry_out(tenant, request, by)

    async def hold(self, tenant: str, subject: str, reason: str, by: str) -> int:
        """A legal hold, or its end (reason ""). Gives how many keys it concerns.

        Raises ErasureRefusedError: invalid, in_use (another hold stands: in its place, its end would let both go).
        """
        if subject.casefold() in reason.casefold():
            raise ErasureRefusedError("invalid", "the reason is kept in the clear: leave the person's id out")
        keys = await self._keys_of(tenant, subject, saga=False)
        await self._check_text(tenant, keys, reason, "The reason")
        async with self._pools.connection("vault") as connection:
            for row in await connection.fetch(SQL["held"], keys) if reason else ():
                if (row["held_for"], row["held_by"]) != (reason, by):
                    text = f"They are under a legal hold already, placed by {row['held_by']}: {row['held_for']}. "
                    text += "One stands at a time: let that one go, and place one that says both reasons."
                    raise ErasureRefusedError("in_use", text, hold=row["held_for"])
            return await connection.execute(SQL["hold"], keys, reason, by if reason else "")

    async def let_go(self, tenant: str, key_id: str) -> int:
        """Ends the hold that covers this key; gives how many keys it concerned."""
        async with self._pools.connection("vault") as connection:
            return await connection.execute(SQL["let_go"], tenant, key_id)

    async def all(self, tenant: str) -> list[Erasure]:
        """The newest requests."""
        async with self._pools.connection("vault") as connection:
            return [_erasure(row) for row in await connection.fetch(SQL["all_asked"], tenant, REQUESTS_MAX)]

    async def one(self, tenant: str, request: str) -> tuple[Erasure, list[Theirs]]:
        """A request, and the sagas that it concerns by now. Raises ErasureRefusedError not_found."""
        async with self._pools.connection("vault") as connection:
            found = await connection.fetch(SQL["asked"], tenant, request)
            if not found:
                raise ErasureRefusedError("not_found", f"There is no request {request[:80]!r}.")
            row = found[0]
            keys = row["key_ids"] if row["erased_at"] else await self._with_others(connection, tenant, row["key_ids"])
            return _erasure(row), await _sagas(connection, keys)

    async def holds(self, tenant: str) -> list[tuple[Hold, list[Theirs]]]:
        """The newest legal holds, and the sagas that each protects."""
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["holds"], tenant, HOLDS_MAX)
            return [
                (Hold(row["held_for"], row["held_by"], row["held_at"], row["key_ids"]),
                 await _sagas(connection, row["key_ids"]))
                for row in rows
            ]  # fmt: skip

    async def _keys_of(self, tenant: str, subject: str, *, saga: bool) -> list[str]:
        """Their own key, and those of events and sagas that had no other name for them."""
        own = await self._vault.keys.known_ids(tenant, [f"saga:{subject}"] if saga else [subject])
        async with self._pools.connection("vault") as connection:
            return await self._with_others(connection, tenant, own)

    async def _with_others(self, connection: Any, tenant: str, keys: Sequence[str]) -> list[str]:
        """Keys of somebody, and those that their sagas, what these called, and their events have by now."""
        rows = await connection.fetch(SQL["family"], keys)
        names = [f"saga:{row['saga_id']}" for row in rows]
        names += [f"key:{row['business_key']}" for row in rows if row["business_key"]]
        masked = [self._vault.keys.wrapping.subject(tenant, name) for name in names]
        found = await connection.fetch(SQL["known"], tenant, masked) if masked else []
        return sorted({*keys, *(row["key_id"] for row in found)})

    async def _check_same(self, tenant: str, request: str, keys: Sequence[str], *, done: bool) -> None:
        """A request stands for one person: its number typed for another would erase, or seem to, the wrong one."""
        async with self._pools.connection("vault") as connection:
            row = await connection.fetchrow(SQL["asked"], tenant, request)
            theirs = await self._with_others(connection, tenant, row["key_ids"])
        if not keys and not done:
            raise _nothing()
        if not set(keys) <= set(theirs):
            text = f"Request {request} stands for somebody else, or is done: give this one a number of its own."
            raise ErasureRefusedError("invalid", text)

    async def _check_text(self, tenant: str, keys: Sequence[str], text: str, what: str) -> None:
        async with self._pools.connection("vault") as connection:
            sagas = [saga.saga_id for saga in await _sagas(connection, keys)]
        fields = await self._repeating.fields(tenant, sagas, text)
        if fields:
            raise ErasureRefusedError("invalid", refusal_text(what, fields), fields=fields)

    async def _check(self, connection: Any, keys: Sequence[str]) -> None:
        held = [row["held_for"] for row in await connection.fetch(SQL["held"], keys)]
        if held:
            raise ErasureRefusedError("in_use", f"They are under a legal hold: {held[0]}", hold=held[0])
        rows = await connection.fetch(SQL["sagas_of"], keys, FRESH_SECONDS)
        live = [row for row in rows if row["version"] and not row["ended"]]
        if live:
            named = [f"{row['name']} {row['business_key']}" for row in live[:LISTED_MAX]]
            ids = [row["saga_id"] for row in live[:LISTED_MAX]]
            which = "A saga of theirs still runs" if len(live) == 1 else f"{len(live)} sagas of theirs still run"
            what = "it" if len(live) == 1 else "them"
            text = f"{which}, or may be undone by who called {what}: {', '.join(named)}. Ask again later."
            raise ErasureRefusedError("in_use", text, sagas=named, saga_ids=ids)
        if any(not row["version"] and row["fresh"] for row in rows):
            raise ErasureRefusedError("in_use", "A saga of theirs has just begun: ask again in a minute.")

    async def _carry_out(self, tenant: str, request: str, by: str) -> Erasure:
        """Destroys the keys. After this nothing of it can be taken back."""
        async with self._pools.connection("vault") as connection:
            await connection.begin()
            try:
                row = await connection.fetchrow(SQL["asked"], tenant, request)
                keys = await self._with_others(connection, tenant, row["key_ids"])
                await connection.fetch(SQL["lock"], keys)
                await self._check(connection, keys)
                await connection.execute(SQL["erase"], keys, request)
                is_ours = await connection.execute(SQL["erased"], tenant, request, by, keys, LEASE_SECONDS) > 0
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit()
        self._vault.keys.forget(keys)
        try:
            if is_ours:  # else somebody confirmed it in the same moment, and tells the sagas
                await self._finishing.finish(tenant, request)
        except (BusyError, StoreError) as error:  # it is done; what is left is taken up in a moment
            log.warning("an erasure is finished later", request=request, reason=str(error))
        found = await self._asked(tenant, request)
        assert found is not None
        return found

    async def _asked(self, tenant: str, request: str) -> Erasure | None:
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["asked"], tenant, request)
        return _erasure(rows[0]) if rows else None


def erasing_of(runtime: Any) -> Erasing | None:
    """What erases in a running process; None where it has no vault."""
    if runtime.vault is None:
        return None
    two_people = "erase" in runtime.settings.acts_of_two_people
    repeating = repeating_of(runtime)
    assert repeating is not None
    return Erasing(runtime.vault, runtime.store.pools, finishing_of(runtime), repeating, two_people=two_people)


async def _sagas(connection: Any, keys: Sequence[str]) -> list[Theirs]:
    rows = await connection.fetch(SQL["sagas_of"], keys, FRESH_SECONDS)
    return list(
        dict.fromkeys(
            Theirs(row["saga_id"], row["name"], row["business_key"], row["ended"]) for row in rows if row["version"]
        )
    )


def _nothing() -> ErasureRefusedError:
    return ErasureRefusedError("not_found", "Nothing is sealed under a key of this person.")


def _erasure(row: Any) -> Erasure:
    return Erasure(
        request=row["request"],
        reason=row["reason"],
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        confirmed_by=row["confirmed_by"],
        erased_at=row["erased_at"],
        keys=len(row["key_ids"]),
        sagas=row["told"],
        untold=row["untold"],
        again_at=row["again_at"],
        finished_at=row["finished_at"],
    )
