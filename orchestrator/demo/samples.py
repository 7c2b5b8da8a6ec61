"""Sample traffic: JSON files in the `sample` folders of saga packages. Plain data, so that anybody can add a case.

    {
      "title": "A card that does not cover the order",
      "events": [{"type": "orders.OrderPlaced", "data": {...}}],     sent in this order, at once
      "then": [{"task": "manager_approval", "outcome": "approve", "by": "maria", "roles": ["manager"], "reason": "..."},
               {"cancel": {"by": "op", "reason": "..."}}],           done one after the other, each when it can be
      "expect": {"phase": "compensated", "reason": "declined"}       checked at the end; `reason` may be a part
    }

Instead of `events` a sample may have a `post`: {"path": "/chat", "body": {...}, "by": "ravi", "key": "transfer_id"},
for a package's own route; `key` is the field of its answer that holds the business key.

`expect` may also name `records`: types that must be among the saga's records, and `outcome`. Business keys get a suffix
per run, so that the same file plays a new saga each time. `services.json` in the same folder lists what a package needs
beside the product: {"app": "module:factory", "variable": "ORCHESTRATOR_..."}; the factory gets the database's address.
"""

from __future__ import annotations

import copy
import json
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = "sample"
SERVICES = "services.json"
_FIELDS = {"title", "events", "post", "then", "expect"}


class SampleError(ValueError):
    """A sample file is wrong; the text names file and mistake."""


@dataclass(frozen=True)
class Sample:
    """One case. `area`: the package it belongs to ("orders")."""

    area: str
    name: str
    title: str
    events: tuple[dict[str, Any], ...]
    then: tuple[dict[str, Any], ...]
    expect: dict[str, Any]
    post: dict[str, Any] | None = None

    def with_keys(self, suffix: str, key_fields: dict[str, tuple[str, ...]]) -> Sample:
        """A copy whose business keys end in `suffix`. `key_fields`: by message type."""
        events = copy.deepcopy(self.events)
        for event in events:
            for field in key_fields[event["type"]]:
                event["data"][field] = f"{event['data'][field]}{suffix}"
        return replace(self, events=events)


@dataclass(frozen=True)
class Service:
    """A program that a package needs beside the product: `factory` makes it, `variable` tells others where it is."""

    module: str
    factory: str
    variable: str


def load_samples(modules: Sequence[str]) -> list[Sample]:
    """All samples of the packages, in order of area and file name. Raises SampleError."""
    return [
        _sample(area, file)
        for area, folder in folders(modules)
        for file in sorted(folder.glob("*.json"))
        if file.name != SERVICES
    ]


def load_services(modules: Sequence[str]) -> list[Service]:
    """What the packages need beside the product. Raises SampleError."""
    found = []
    for _, folder in folders(modules):
        file = folder / SERVICES
        if file.exists():
            for item in _read(file):
                module, _, factory = str(item.get("app", "")).partition(":")
                if not module or not factory or not item.get("variable"):
                    raise SampleError(f'{file}: each service needs "app": "module:factory" and "variable"')
                found.append(Service(module, factory, item["variable"]))
    return found


def folders(modules: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """(area, folder) of every package below the modules that has samples. Imports no submodule."""
    for name in modules:
        spec = find_spec(name)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            if (Path(place) / FOLDER).is_dir():
                yield name.rpartition(".")[2], Path(place) / FOLDER
            packages = sorted(found.name for found in pkgutil.iter_modules([place]) if found.ispkg)
            yield from folders([f"{name}.{package}" for package in packages])


def _sample(area: str, file: Path) -> Sample:
    data = _read(file)
    if not isinstance(data, dict) or not {"title", "expect"} <= data.keys() <= _FIELDS:
        raise SampleError(
            f"{file}: a sample has title, expect, and events or a post, perhaps then; found {sorted(data)}"
        )
    events, post = data.get("events", []), data.get("post")
    if not all(isinstance(event, dict) and {"type", "data"} <= event.keys() for event in events):
        raise SampleError(f"{file}: events need type and data, and the first one starts the saga")
    if bool(events) == bool(post) or (post and not {"path", "body", "by", "key"} <= post.keys()):
        raise SampleError(f"{file}: a saga is started by events, or by a post with path, body, by and key")
    if "phase" not in data["expect"]:
        raise SampleError(f"{file}: expect needs the phase in which the saga ends")
    for act in data.get("then", ()):
        if not {"task", "outcome", "by"} <= act.keys() and "cancel" not in act:
            raise SampleError(f"{file}: an act is a task with outcome and by, or a cancel; found {act}")
    return Sample(area, file.stem, data["title"], tuple(events), tuple(data.get("then", ())), data["expect"], post)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SampleError(f"{file}: {error}") from error
