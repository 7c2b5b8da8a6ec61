"""How values about people are shown in a report: the one place through which everything readable of a pack goes.

Rules of this file
- Records in a pack are the stored bytes, always: sealed values stay sealed there, and the chain holds.
- What people read is opened, says by which request it was erased, or, where a pack is wanted sealed, that it is sealed.
- A customer who acted stands in records as the id of their key; people read who it was, like every other value.
- A report outlives an erasure: whoever takes an opened one away is in the security log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from orchestrator.api.views import RecordView
from orchestrator.evidence.pack.material import Material, Strand
from orchestrator.messages.personal import TOKEN, key_ids
from orchestrator.vault.keys import Erased, Known
from orchestrator.vault.showing import opened
from orchestrator.vault.tokens import DataKey

SOMEBODY = "a person, sealed"

Say = Callable[[str], str]
"""A text as a report shows it."""


class Keys(Protocol):
    """Where keys of people are asked for."""

    async def by_id(self, key_ids: Iterable[str]) -> Mapping[str, Known]:
        """Keys, or what is left of them, by their ids."""

    async def known_ids(self, tenant: str, subjects: Iterable[str]) -> list[str]:
        """The ids of the keys of these people, where there are such keys."""


def say_with(keys: Mapping[str, Known], people: Mapping[str, str]) -> Say:
    """Opens with these keys; what none of them opens is named by its field. `people`: who stands behind the id of a key
    where somebody acted.
    """

    def say(text: str) -> str:
        kind, _, name = text.rpartition(":")
        if name in people and kind in ("", "person"):
            return f"{kind}:{people[name]}" if kind else people[name]
        return TOKEN.sub(lambda found: opened(found[0], keys.get(found[1])) or f"[sealed: {found[3]}]", text)

    return say


def as_sealed(material: Material) -> Say:
    """Opens nothing of this material."""
    return say_with({}, dict.fromkeys(_wanted(material), SOMEBODY))


async def say_of(material: Material, keys: Keys | None) -> Say:
    """Opens what is sealed in this material. Raises StoreError."""
    wanted = _wanted(material)
    if keys is None or not wanted:
        return as_sealed(material)
    found = await keys.by_id(sorted(wanted))
    people = {}
    for key_id in wanted:
        key = found.get(key_id)
        people[key_id] = key.text() if isinstance(key, Erased) else SOMEBODY
        if isinstance(key, DataKey) and key_id in _acted(material):
            people[key_id] = await _whose(material, key, keys)
    return say_with(found, people)


def _strands(material: Material) -> tuple[Strand, ...]:
    return (material.strand, *material.relatives)


def _wanted(material: Material) -> set[str]:
    return {key for one in _strands(material) for record in one.records for key in key_ids(record.body.decode())}


def _acted(material: Material) -> set[str]:
    return {view.actor.rpartition(":")[2] for one in _strands(material) for view in one.views}


async def _whose(material: Material, key: DataKey, keys: Keys) -> str:
    """The id of the person whose key this is: one of the values that the sagas were begun with."""
    for one in _strands(material):
        begun = TOKEN.finditer(one.records[0].body.decode()) if one.records else ()
        for text in {opened(token[0], key) for token in begun if token[1] == key.key_id}:
            if text and key.key_id in await keys.known_ids(key.tenant, [text]):
                return text
    return SOMEBODY


def readable(value: Any, say: Say) -> Any:
    """The value with each of its texts as a report shows it."""
    if isinstance(value, str):
        return say(value)
    if isinstance(value, Mapping):
        return {name: readable(item, say) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item, say) for item in value]
    return value


def readable_views(views: Iterable[RecordView], say: Say) -> tuple[RecordView, ...]:
    """The records as a report tells them."""
    return tuple(replace(view, data=readable(view.data, say), actor=say(view.actor)) for view in views)
