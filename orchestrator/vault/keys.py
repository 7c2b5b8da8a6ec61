"""Subjects' keys: found in the database, unwrapped in memory, forgotten after a minute.

Rules of this file
- Whose key it is is asked of the database every time; only opened keys are remembered, SECONDS_MAX at most, so that an
  erased key is gone everywhere after that.
- A key that was erased is remembered as such: what it sealed is shown as erased, with the request and the day.
- A key that does not open (its row was altered, the key file misses a line) is no reason to stop: it is `Broken`, the
  sagas of its subject stand until it is mended, and everybody else's go on. Only another key file is refused.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeAlias

import structlog

from orchestrator.keyfiles import KeyFileError
from orchestrator.store.connections import Pools
from orchestrator.store.sql import load_queries
from orchestrator.vault.keyfile import Wrapping
from orchestrator.vault.tokens import KEY_BYTES, DataKey, SealedError

SQL = load_queries("orchestrator.vault", "vault.sql")

SECONDS_MAX = 60.0
SECONDS_LEFT_MIN = 20.0  # who has asked for a key finds it at hand for so long, whatever is waited for between
KEYS_MAX = 50_000
REWRAPPED_AT_ONCE = 500
MARK = "the-key-file-is-"  # the id of the key by which a database knows its key file

REREAD_SECONDS = 1.0
LOOKED_AT = 200  # keys that a start tries to open: the youngest, and some that it has no wrapping key for
TOLD_MAX = 10

Subject = tuple[str, str]  # tenant, and the id by which the business knows them

log = structlog.get_logger("orchestrator.vault")


class BrokenKeyError(SealedError):
    """A subject's key is there and does not open. The text names it, and says what to do."""


@dataclass(frozen=True, slots=True)
class Erased:
    """A key that is no more."""

    key_id: str
    tenant: str
    request: str
    at: datetime

    def text(self) -> str:
        """What is shown in place of a value."""
        return f"[erased under request {self.request}, {self.at.day} {self.at:%B %Y}]"


@dataclass(frozen=True, slots=True)
class Broken:
    """A key that is there and does not open. `reason` names it, and says what to do."""

    key_id: str
    tenant: str
    reason: str

    def open(self, token: str, scope: str = "") -> NoReturn:
        """It opens nothing. Raises BrokenKeyError."""
        raise BrokenKeyError(self.reason)


Known: TypeAlias = DataKey | Erased | Broken


async def check_unused(pools: Pools) -> None:
    """Nobody has a key in this database. Raises KeyFileError: without the key file functions would be given sealed text
    for values, and what comes in would be written in the clear beside it. Raises StoreError.
    """
    async with pools.connection("vault") as connection:
        (row,) = await connection.fetch(SQL["in_use"], MARK)
    if row["used"]:
        raise KeyFileError(
            "this database holds values that are sealed under people's keys, and no key file is named: set "
            "ORCHESTRATOR_VAULT_KEY_FILE to the one that sealed them"
        )


class Keys:
    """Keys by subject and by id. `clock`: seconds, monotonic. `reread`: the key file as it is now."""

    def __init__(
        self,
        pools: Pools,
        wrapping: Wrapping,
        clock: Callable[[], float] = time.monotonic,
        reread: Callable[[], Wrapping] | None = None,
    ) -> None:
        self._pools = pools
        self.wrapping = wrapping
        self._clock = clock
        self._reread = reread
        self._reread_at = -REREAD_SECONDS
        self._known: dict[str, tuple[float, Known]] = {}

    async def check(self) -> list[Broken]:
        """Is this the key file of this database? Under another one people would get second keys, and an erasure would
        find the second only. Raises KeyFileError, StoreError.

        Keys that do not open, of those that it looks at, are told to the log and given: their sagas stand.
        """
        mark = DataKey(MARK, "", secrets.token_bytes(KEY_BYTES))
        place = self.wrapping.subject("", MARK)
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["looked_at"], list(self.wrapping.keys), LOOKED_AT, MARK)
            found = [self._opened(row) for row in rows]
            broken = [key for key in found if isinstance(key, Broken)]
            if found and len(broken) == len(found):
                raise KeyFileError(f"{broken[0].reason}. None of {len(found)} keys opens: this may be another key file")
            await connection.execute(SQL["mark"], MARK, place, self.wrapping.wrap(mark), self.wrapping.active)
            (row,) = await connection.fetch(SQL["marked"], MARK)
        if isinstance(known := self._opened(row), Broken) and known.key_id not in {key.key_id for key in broken}:
            broken.append(known)
        if bytes(row["subject"]) != place:
            raise KeyFileError("the vault's key file is not this database's: its line index differs; put the right one")
        if broken:
            log.error(
                "keys of persons do not open: their sagas stand, others go on",
                keys=[key.key_id for key in broken[:TOLD_MAX]],
                reason=broken[0].reason,
                do="orchestrator vault check",
            )
        return broken

    async def all_broken(self) -> AsyncIterator[Broken | None]:
        """Tries to open every key there is, in the order of their ids; None for one that opens. Raises StoreError."""
        last = ""
        while True:
            async with self._pools.connection("vault") as connection:
                rows = await connection.fetch(SQL["walk"], last, REWRAPPED_AT_ONCE)
            for row in rows:
                opened = self._opened(row)
                yield opened if isinstance(opened, Broken) else None
            if len(rows) < REWRAPPED_AT_ONCE:
                return
            last = rows[-1]["key_id"]

    async def of_subjects(
        self, wanted: Mapping[Subject, Iterable[str]], broken: dict[Subject, Broken] | None = None
    ) -> dict[Subject, DataKey]:
        """The keys of subjects, made where there are none, and noted as those of their sagas (by id).

        broken: takes those that do not open; without it the first one raises BrokenKeyError. Raises StoreError.
        """
        if not wanted:
            return {}
        masked = {(tenant, self.wrapping.subject(tenant, subject)): (tenant, subject) for tenant, subject in wanted}
        places = sorted(masked)  # locks are taken in one order
        new = [DataKey(secrets.token_urlsafe(12), tenant, secrets.token_bytes(KEY_BYTES)) for tenant, _ in places]
        seen = [(*place, saga) for place in places for saga in sorted(set(wanted[masked[place]]))]
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(
                SQL["subjects"],
                [key.key_id for key in new],
                [tenant for tenant, _ in places],
                [subject for _, subject in places],
                [self.wrapping.wrap(key) for key in new],
                [self.wrapping.active] * len(places),
                [tenant for tenant, _, _ in seen],
                [subject for _, subject, _ in seen],
                [saga for _, _, saga in seen],
            )
        found: dict[Subject, DataKey] = {}
        for row in rows:
            subject, key = masked[row["tenant"], bytes(row["subject"])], self._kept(self._opened(row))
            if isinstance(key, DataKey):
                found[subject] = key
            elif isinstance(key, Broken) and broken is not None:
                broken[subject] = key
            elif isinstance(key, Broken):
                raise BrokenKeyError(key.reason)
        return found

    async def note_sagas(self, seen: Iterable[tuple[str, str]]) -> set[str]:
        """Notes that sagas (id) live under keys (id) which they were given. Gives the keys that are no more, whatever
        memory says: nothing may begin under them."""
        rows = sorted(set(seen))
        if not rows:
            return set()
        keys = [key for key, _ in rows]
        async with self._pools.connection("vault") as connection:
            await connection.execute(SQL["sagas_seen"], keys, [saga for _, saga in rows])
            gone = {row["key_id"] for row in await connection.fetch(SQL["keys"], keys) if row["wrapped"] is None}
        self.forget(gone)
        return gone

    async def known_ids(self, tenant: str, subjects: Iterable[str]) -> list[str]:
        """The ids of the keys of these subjects, where there are such keys."""
        masked = [self.wrapping.subject(tenant, subject) for subject in subjects]
        async with self._pools.connection("vault") as connection:
            return [row["key_id"] for row in await connection.fetch(SQL["known"], tenant, masked)]

    async def by_id(self, key_ids: Iterable[str]) -> dict[str, Known]:
        """Keys by their ids; one that never was is absent. Raises StoreError."""
        now, found, missing = self._clock(), dict[str, Known](), list[str]()
        for key_id in dict.fromkeys(key_ids):
            known = self._known.get(key_id)
            if known is not None and now < known[0] - SECONDS_LEFT_MIN:
                found[key_id] = known[1]
            else:
                missing.append(key_id)
        if missing:
            async with self._pools.connection("vault") as connection:
                rows = await connection.fetch(SQL["keys"], missing)
            for row in rows:
                found[row["key_id"]] = self._kept(
                    self._opened(row)
                    if row["wrapped"] is not None
                    else Erased(row["key_id"], row["tenant"], row["request"], row["erased_at"])
                )
        return found

    async def end(self, tenant: str, subjects: Iterable[str]) -> int:
        """Destroys keys that end by themselves; gives how many there were."""
        masked = [self.wrapping.subject(tenant, subject) for subject in subjects]
        async with self._pools.connection("vault") as connection:
            return await connection.execute(SQL["end_of_letters"], tenant, masked)

    async def of_saga(self, saga_id: str) -> DataKey | None:
        """A key under which a saga's values are sealed, None where it has none that lives."""
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["of_saga"], saga_id)
        found = await self.by_id(row["key_id"] for row in rows)
        return next((key for key in found.values() if isinstance(key, DataKey)), None)

    def forget(self, key_ids: Iterable[str]) -> None:
        """Drops keys from memory at once."""
        for key_id in key_ids:
            self._known.pop(key_id, None)

    async def rewrap(self) -> int:
        """Wraps with the active key whatever an older one wraps; gives how many there were. What does not open stays
        as it is: `all_broken` finds it."""
        done, last = 0, ""
        while True:
            async with self._pools.connection("vault") as connection:
                rows = await connection.fetch(SQL["stale"], self.wrapping.active, REWRAPPED_AT_ONCE, last)
                if not rows:
                    return done
                pairs = [(row, key) for row in rows if isinstance(key := self._opened(row), DataKey)]
                wrapped = [self.wrapping.wrap(key) for _, key in pairs]
                before = [row["wrapped_by"] for row, _ in pairs]
                ids = [key.key_id for _, key in pairs]
                await connection.execute(SQL["rewrap"], ids, wrapped, before, self.wrapping.active)
            done, last = done + len(pairs), rows[-1]["key_id"]

    def at_hand(self, key_id: str) -> Known | None:
        """A key that was asked for a moment ago; None where it was not, or is no more."""
        known = self._known.get(key_id)
        return known[1] if known is not None and self._clock() < known[0] else None

    def seconds_left(self, key_id: str) -> float:
        """For how long a key is still at hand."""
        known = self._known.get(key_id)
        return max(0.0, known[0] - self._clock()) if known is not None else 0.0

    def _opened(self, row: Any) -> DataKey | Broken:
        """A stored key, unwrapped; Broken where that cannot be."""
        try:
            now = self._clock()
            stale = row["wrapped_by"] not in self.wrapping.keys and now >= self._reread_at + REREAD_SECONDS
            if self._reread is not None and stale:
                self._reread_at = now
                fresh = self._reread()
                if fresh.index == self.wrapping.index:
                    self.wrapping = fresh
            return self.wrapping.unwrap(row["key_id"], row["tenant"], bytes(row["wrapped"]), row["wrapped_by"])
        except KeyFileError as error:
            return Broken(row["key_id"], row["tenant"], str(error))

    def _kept(self, key: Known) -> Known:
        now = self._clock()
        if len(self._known) >= KEYS_MAX:
            self._known = {key_id: known for key_id, known in self._known.items() if now < known[0]}
            for key_id in list(self._known)[: max(0, len(self._known) - KEYS_MAX // 2)]:
                del self._known[key_id]  # those that were asked for longest ago: somebody is about to use the others
        self._known.pop(key.key_id, None)
        self._known[key.key_id] = (now + SECONDS_MAX, key)
        return key
