"""Texts of staff that are kept in the clear: does one repeat what a saga that it concerns holds of a person?

Rules of this file
- Such texts stand beside many sagas or none (reasons of acts on many, notes on causes, requests, holds), so there is no
  one key to seal them under. They are refused where they say a personal value, naming the field and never the value.
- Looked for are values of marked fields: the whole value, or a word of a name in it, each as words of the text. What
  functions have computed is not looked for: a sentence is made of words that anybody uses.
- People who may act may see these sagas, so a refusal tells them nothing new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from orchestrator.messages.personal import TOKEN, key_ids
from orchestrator.store.connections import Pools
from orchestrator.vault.keys import SQL, Keys
from orchestrator.vault.marks import marked_names
from orchestrator.vault.sealer import NAMES_MAX, WORD_MIN
from orchestrator.vault.showing import opened
from orchestrator.vault.tokens import DataKey

SAGAS_AT_ONCE = 100
_SUBJECTS = frozenset({"customer_id", "user_id", "customer"})  # a start's, by whose id a person is known
SHORT_MAX = 2  # a value of so few characters is found in any text
_WORD = re.compile(rf"\w{{{WORD_MIN},}}")


class Repeating:
    """Looks at the sagas of one process's database. `marked`: names of fields that some contract marks."""

    def __init__(self, keys: Keys, pools: Pools, contracts: Iterable[type[BaseModel]]) -> None:
        self._keys = keys
        self._pools = pools
        self._marked = _SUBJECTS.union(*map(marked_names, contracts))

    async def fields(self, tenant: str, sagas: Sequence[str], text: str) -> list[str]:
        """The names of fields whose value in one of these sagas this text repeats. Raises StoreError."""
        folded = text.casefold()
        found: set[str] = set()
        if folded.strip():
            for start in range(0, len(sagas), SAGAS_AT_ONCE):
                found |= await self._among(tenant, sagas[start : start + SAGAS_AT_ONCE], folded)
        return sorted(found)

    async def _among(self, tenant: str, sagas: Sequence[str], folded: str) -> set[str]:
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["sealed_in"], tenant, list(sagas))
        tokens = {
            match[0]: match
            for row in rows
            for match in TOKEN.finditer(bytes(row["body"]).decode())
            if match[3] in self._marked
        }
        keys = await self._keys.by_id({key_id for token in tokens for key_id in key_ids(token)})
        found = set()
        for token, match in tokens.items():
            key = keys.get(match[1])
            value = opened(token, key) if match[3] not in found and isinstance(key, DataKey) else None
            if value and says(folded, value):
                found.add(match[3])
        return found


def says(folded: str, value: str) -> bool:
    """Does a text, with its letters folded, say this value, or a word of the name that it holds?"""
    if len(value) <= SHORT_MAX:
        return False
    if len(value) > NAMES_MAX:
        return value.casefold() in folded
    names = [word for word in _WORD.findall(value) if word[0].isupper()] if " " in value else []
    return any(
        re.search(rf"(?<!\w){re.escape(needle.casefold())}(?!\w)", folded) is not None for needle in (value, *names)
    )


def refusal_text(what: str, fields: Sequence[str]) -> str:
    """Why a text is not taken, and how to write it instead."""
    return (
        f"{what} repeats what a saga holds of a person ({', '.join(fields)}). It is kept in the clear: "
        "write it without that, and say the customer, or name the saga by its key; the number of a ticket is enough."
    )


def repeating_of(runtime: Any) -> Repeating | None:
    """What looks for repeated values in a running process; None where nothing is sealed."""
    if runtime.vault is None:
        return None
    return Repeating(runtime.vault.keys, runtime.store.pools, runtime.catalog.registry)
