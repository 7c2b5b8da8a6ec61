"""How values about people are shown in a report: the one place through which everything readable of a pack goes.

Rules of this file
- Records in a pack are the stored bytes, always: sealed values stay sealed there, and the chain holds.
- What people read is opened, says by which request it was erased, or, where a pack is wanted sealed, that it is sealed.
- A report outlives an erasure: whoever takes an opened one away is in the security log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from orchestrator.api.views import RecordView
from orchestrator.evidence.pack.material import Material
from orchestrator.messages.personal import TOKEN, key_ids
from orchestrator.vault.keys import Erased
from orchestrator.vault.showing import opened
from orchestrator.vault.tokens import DataKey

Say = Callable[[str], str]
"""A text as a report shows it."""


class Keys(Protocol):
    """Where keys of people are asked for."""

    async def by_id(self, key_ids: Iterable[str]) -> dict[str, DataKey | Erased]:
        """Keys, or what is left of them, by their ids."""


def say_with(keys: Mapping[str, DataKey | Erased]) -> Say:
    """Opens with these keys; what none of them opens is named by its field."""

    def say(text: str) -> str:
        return TOKEN.sub(lambda found: opened(found[0], keys.get(found[1])) or f"[sealed: {found[3]}]", text)

    return say


as_sealed = say_with({})
"""Opens nothing."""


async def say_of(material: Material, keys: Keys | None) -> Say:
    """Opens what is sealed in this material. Raises StoreError."""
    strands = (material.strand, *material.relatives)
    wanted = {key for strand in strands for record in strand.records for key in key_ids(record.body.decode())}
    return say_with(await keys.by_id(sorted(wanted)) if keys is not None and wanted else {})


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
