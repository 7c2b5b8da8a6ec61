"""Sample traffic: JSON files in the `sample` folders of saga packages. Plain data, so that anybody can add a case.

    {
      "title": "A card that does not cover the order",
      "events": [{"type": "orders.OrderPlaced", "data": {...}}],     sent in this order, at once
      "then": [{"task": "manager_approval", "outcome": "approve", "by": "maria", "roles": ["manager"], "reason": "..."},
               {"post": "/disputes/{key}/acknowledge", "by": "rosa"},
               {"cancel": {"by": "op", "reason": "..."}}],           done one after the other, each when it can be
      "expect": {"phase": "compensated", "reason": "declined"}       checked at the end; `reason` may be a part
    }

Instead of `events` a sample may have a `post`: {"path": "/chat", "body": {...}, "by": "ravi", "key": "transfer_id"},
for a package's own route; `key` is the field of its answer that holds the business key. Business keys get a suffix per
run, so that the same file plays a new saga each time; so do the fields of a post's body that its `own` names.

An act on a task may have a `form` (its fields besides the outcome), and `refused`: the code with which it must be
refused, so that nothing is decided by it. `expect` may also name `outcome` and `records`: types that must be among the
saga's records. With `waits` instead of `phase` a sample is left for a visitor: it must come to wait for this task or
event, and is played only where the demonstration stays up.

Beside the samples: `services.json` lists what a package needs beside the product ({"app": "module:factory", "variable":
"ORCHESTRATOR_..."}; the factory gets the database's address), `settings.json` what a demonstration sets unless the
caller has ({"ORCHESTRATOR_...": "..."}), and `people.json` who a visitor may be ({"id", "name", "about", "roles",
"capacities"}).
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
SERVICES, SETTINGS, PEOPLE = "services.json", "settings.json", "people.json"
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

    @property
    def waits(self) -> str:
        """What it is left waiting for, for a visitor; "" for one that comes to its end by itself."""
        return str(self.expect.get("waits", ""))

    def with_keys(self, suffix: str, key_fields: dict[str, tuple[str, ...]]) -> Sample:
        """A copy whose business keys end in `suffix`. `key_fields`: by message type."""
        events = copy.deepcopy(self.events)
        for event in events:
            for field in key_fields[event["type"]]:
                event["data"][field] = f"{event['data'][field]}{suffix}"
        post = copy.deepcopy(self.post)
        if post is not None:
            for field in post.get("own", ()):
                post["body"][field] = f"{post['body'][field]}{suffix}"
        return replace(self, events=events, post=post)


@dataclass(frozen=True)
class Service:
    """A program that a package needs beside the product: `factory` makes it, `variable` tells others where it is."""

    module: str
    factory: str
    variable: str


@dataclass(frozen=True)
class Visitor:
    """Somebody as whom a visitor may sign in. `roles`: groups that tasks ask for. `about`: what they do, in words."""

    id: str
    name: str
    about: str = ""
    roles: tuple[str, ...] = ()
    capacities: tuple[str, ...] = ()

    def and_also(self, other: Visitor) -> Visitor:
        """The same person as two packages know them."""
        about = "; ".join(dict.fromkeys(text for text in (self.about, other.about) if text))
        roles, capacities = {*self.roles, *other.roles}, {*self.capacities, *other.capacities}
        return replace(self, about=about, roles=tuple(sorted(roles)), capacities=tuple(sorted(capacities)))


def load_samples(modules: Sequence[str]) -> list[Sample]:
    """All samples of the packages, in order of area and file name. Raises SampleError."""
    return [
        _sample(area, file)
        for area, folder in folders(modules)
        for file in sorted(folder.glob("*.json"))
        if file.name not in (SERVICES, SETTINGS, PEOPLE)
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


def load_environment(modules: Sequence[str]) -> dict[str, str]:
    """What a demonstration sets, by variable. Raises SampleError."""
    found: dict[str, str] = {}
    for _, folder in folders(modules):
        file = folder / SETTINGS
        data = _read(file) if file.exists() else {}
        if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
            raise SampleError(f"{file}: each setting is a variable with its text")
        found |= data
    return found


def load_people(modules: Sequence[str]) -> list[Visitor]:
    """Who a visitor may be, by id; somebody whom two packages name is one person. Raises SampleError."""
    found: dict[str, Visitor] = {}
    for _, folder in folders(modules):
        file = folder / PEOPLE
        for item in _read(file) if file.exists() else ():
            try:
                roles, capacities = tuple(item.pop("roles", ())), tuple(item.pop("capacities", ()))
                person = Visitor(**item, roles=roles, capacities=capacities)
            except TypeError as error:
                raise SampleError(f"{file}: a person has id, name, about, roles, capacities: {error}") from error
            found[person.id] = found[person.id].and_also(person) if person.id in found else person
    return sorted(found.values(), key=lambda person: person.id)


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
    if ("phase" in data["expect"]) == ("waits" in data["expect"]):
        raise SampleError(f"{file}: expect needs the phase in which the saga ends, or what it waits for")
    for act in data.get("then", ()):
        if not {"task", "outcome", "by"} <= act.keys() and not {"post", "by"} <= act.keys() and "cancel" not in act:
            raise SampleError(f"{file}: an act is a task with outcome and by, a post with by, or a cancel; found {act}")
    return Sample(area, file.stem, data["title"], tuple(events), tuple(data.get("then", ())), data["expect"], post)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SampleError(f"{file}: {error}") from error
