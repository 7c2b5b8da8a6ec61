"""Dead letters under keys of their month: bytes that nobody could read may hold anything of anybody.

Rules of this file
- A month's key ends by itself, three months later; with it what was kept in that month can be read no more.
- Where the key of a month does not open, a second one takes its place: a letter is never kept in the clear, and never
  lost. Where neither opens, this is not the right key file, and the process ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.keyfiles import KeyFileError
from orchestrator.messages.personal import PREFIX, TOKEN
from orchestrator.store.contract import DeadLetter
from orchestrator.vault.keys import Erased, Keys, Subject
from orchestrator.vault.tokens import DataKey, SealedError, saga_scope

NAME = "letters"
SECOND = "again"  # of a month whose first key does not open
MONTHS = 3  # how long what nobody could read can be read by people
SCOPE = saga_scope("dead letters")
INTERNAL = "orchestrator.internal"  # the topic of letters that no message became
_BYTES = PREFIX.encode()


class Letters:
    """Seals and opens dead letters. The keys of a batch are asked for before: `wanted`, then `take`."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._at_hand: dict[str, DataKey] = {}

    def wanted(self, tenants: Iterable[str]) -> list[Subject]:
        """Whose keys are to be asked for: this month's of tenants for whom none is at hand."""
        return [(tenant, f"{NAME}:{_month()}") for tenant in tenants if not self._has(tenant)]

    async def take(self, wanted: Sequence[Subject], found: Mapping[Subject, DataKey]) -> None:
        """Takes the keys that were found, and ends those of months that are over. Raises KeyFileError, StoreError."""
        for subject in wanted:
            tenant, name = subject
            key = found.get(subject)
            if key is None:
                second = (tenant, f"{name}:{SECOND}")
                key = (await self._keys.of_subjects({second: ()}, {})).get(second)
            if key is None:
                raise KeyFileError(f"no key for dead letters of {name.partition(':')[2]} opens: is this the key file?")
            self._at_hand[tenant] = key
            over = [f"{NAME}:{month}" for month in _months_over()]
            await self._keys.end(tenant, [*over, *(f"{each}:{SECOND}" for each in over)])

    def seal(self, letter: DeadLetter) -> DeadLetter:
        """A dead letter as it is kept. Its key lives a few months."""
        key = self._at_hand.get(letter.tenant)
        if key is None:
            return letter
        if letter.reason == "poison":  # the end of a traceback may hold values, also that of a timer
            letter = replace(letter, detail=key.seal(letter.detail, SCOPE, "detail"))
        if letter.value is None or letter.topic == INTERNAL:
            return letter
        try:
            text, name = letter.value.decode(), "text"
        except UnicodeDecodeError:
            text, name = letter.value.decode("latin-1"), "bytes"
        return replace(letter, value=key.seal(text, SCOPE, name).encode())

    async def opened(self, value: bytes | None) -> bytes | None:
        """The bytes of a dead letter as they came. Raises SealedError where its key has ended, or does not open."""
        if value is None or not value.startswith(_BYTES):
            return value
        token = value.decode()
        match = TOKEN.fullmatch(token)
        if match is None or match[2] != SCOPE:
            return value
        key = (await self._keys.by_id([match[1]])).get(match[1])
        if key is None or isinstance(key, Erased):
            raise SealedError("its key has ended, or is not known here")
        return key.open(token).encode("latin-1" if match[3] == "bytes" else "utf-8")

    def _has(self, tenant: str) -> bool:
        key = self._at_hand.get(tenant)
        return key is not None and isinstance(self._keys.at_hand(key.key_id), DataKey)


def _month() -> str:
    return datetime.now(UTC).strftime("%Y-%m")


def _months_over() -> list[str]:
    """The months whose dead letters nobody can read any more, as far back as a process may have stood still."""
    now = datetime.now(UTC)
    first = now.year * 12 + now.month - 1
    return [f"{at // 12:04}-{at % 12 + 1:02}" for at in range(first - MONTHS - 24, first - MONTHS)]
