"""Which version a new saga takes: the newest one, or under approval the one that is active where it is written.

Rules of this file
- The router chooses by what this process believes; the coordinator chooses again, by what its transaction has locked.
  So a switch is one point in the global order: every saga before it runs on one version, every one after it on the
  next.
- A child's version is its parent's word, and is not chosen: the parent's own version was.
- No I/O here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.activation.definition import ACTIVATED, ActivateDefinition
from orchestrator.activation.definition import NAME as ACTIVATION
from orchestrator.kernel.inputs import Input, Refusal, Start, Vote
from orchestrator.kernel.state import State
from orchestrator.runtime.bodies import Flaw
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.states import Entry
from orchestrator.runtime.stream import Stream
from orchestrator.runtime.work import Cause, DomainEvent, Guard, Item, SagaBegin, SagaInput
from orchestrator.store.contract import SagaStart, Switch

NONE_ACTIVE, OTHER_START = -1, -2  # versions that no saga has: why a start cannot be

Version = tuple[str, int]


def begin(catalog: Catalog, name: str, cause: Cause, type_: str, key: str, data: Any, event_id: str) -> SagaBegin:
    """The start of a saga by this message, on the version for new ones. `event_id` tells the runs of a key apart."""
    version = catalog.version_for_new(name)
    saga = catalog.sagas.get((name, version))
    run = event_id if saga is not None and saga.graph.rerun else ""
    forward_only = saga is not None and saga.graph.forward_only
    saga_id = saga_id_of(cause.tenant, name, key, run)
    if saga is not None and name in catalog.governed and type_ not in saga.graph.starts_on:
        version = OTHER_START
    start = Start(saga_id, cause.tenant, key, type_, data, forward_only=forward_only)
    return SagaBegin(SagaStart(saga_id, cause.tenant, name, key), start, cause, version or NONE_ACTIVE, event_id)


def check_asked(type_: str) -> None:
    """Raises Flaw for a message that asks for a version: it would say itself who may agree, and what they see."""
    if type_ == ActivateDefinition.wire_name:
        raise Flaw("unauthorised_source", f"{type_} is no message: ask on the page of the version, or by the API")


def chooses(catalog: Catalog, items: Sequence[Item]) -> bool:
    """Does one of these begin a saga of a definition under approval?"""
    governed = catalog.governed
    if not governed:
        return False
    return any(start.start.name in governed for item in items for start in _begins(item) if start.event_id)


def chosen(catalog: Catalog, items: Sequence[Item], active: Mapping[str, int]) -> list[Item]:
    """The same items, with starts on the versions that are active now; the catalog believes that from here on."""
    catalog.believe(active)
    return [_chosen(catalog, item) for item in items]


def _chosen(catalog: Catalog, item: Item) -> Item:
    if isinstance(item, SagaBegin):
        return _again(catalog, item)
    if isinstance(item, DomainEvent) and item.begins:
        begins = [_again(catalog, one) for one in item.begins]
        # An event that starts another version of a saga, and not the active one, is like one that starts nothing.
        return replace(item, begins=tuple(one for one in begins if one.definition_version != OTHER_START))
    return item


def _again(catalog: Catalog, item: SagaBegin) -> SagaBegin:
    given = item.given
    if not item.event_id or item.start.name not in catalog.governed or not isinstance(given, Start):
        return item
    name = item.start.name
    if catalog.version_for_new(name) == item.definition_version:
        return item
    return begin(catalog, name, item.cause, given.type, item.start.business_key, given.data, item.event_id)


def _begins(item: Item) -> Sequence[SagaBegin]:
    return item.begins if isinstance(item, DomainEvent) else (item,) if isinstance(item, SagaBegin) else ()


def absent(name: str, version: int) -> tuple[str, str]:
    """Why a saga cannot begin on a version that has no program here: code and sentence."""
    if version == NONE_ACTIVE:
        return "not_active", f"no version of saga {name} takes new sagas yet: one is asked for, and another agrees"
    if version == OTHER_START:
        return "invalid", f"the active version of saga {name} does not start on this message"
    return "unknown_saga", f"saga {name} v{version or '?'} is not installed"


# --- switching ------------------------------------------------------------------------------------------------------


class SwitchError(Exception):
    """This batch makes another version the one for new sagas: it is decided again, alone with that."""


def switches(streams: Mapping[str, Stream]) -> list[Switch]:
    """What the sagas of this batch that end as activated switch."""
    found = []
    for saga_id, stream in streams.items():
        state = stream.state
        if stream.program.graph.name != ACTIVATION or state is None or not stream.records:
            continue
        if state.outcome == ACTIVATED and state.parent is None:
            asked = ActivateDefinition.from_plain(state.start_data)
            found.append(Switch(asked.definition, asked.version, asked.replaces, asked.hash, saga_id))
    return found


def asked_for(entries: Mapping[str, Entry]) -> list[Version]:
    """The versions that these sagas ask for."""
    asking = [entry.state.start_data for entry in entries.values() if entry.state.name == ACTIVATION]
    return [(data["definition"], data["version"]) for data in asking]


def guarded(catalog: Catalog, items: Sequence[Item], lacking: Mapping[Version, Sequence[str]]) -> list[Item]:
    """The same items; a vote for a version is refused where some running process has not got it, or another version
    than the one that it was compared with takes new sagas by now. `catalog`: as `chosen` leaves it."""
    active = catalog.active
    return [
        replace(item, cause=replace(item.cause, guard=_as_asked(item.cause.guard, lacking, active)))
        if isinstance(item, SagaInput) and isinstance(item.given, Vote)
        else item
        for item in items
    ]


def _as_asked(other: Guard | None, lacking: Mapping[Version, Sequence[str]], active: Mapping[str, int]) -> Guard:
    def guard(given: Input, saga_id: str, tenant: str, state: State | None) -> Refusal | None:
        refused = other(given, saga_id, tenant, state) if other is not None else None
        if refused is not None or state is None or state.name != ACTIVATION or not isinstance(given, Vote):
            return refused
        name, version = state.start_data["definition"], state.start_data["version"]
        without, replaces = lacking.get((name, version), ()), state.start_data["replaces"]
        if state.ended or given.answer.get("outcome") != "approve":
            return None
        if (now := active.get(name, 0)) != replaces:
            text = f"v{now} of {name} takes new sagas by now, and this was compared with v{replaces}: ask again"
            return Refusal("overtaken", text, {"active": now, "replaces": replaces})
        if not without:
            return None
        text = f"{len(without)} running processes have not got {name} v{version}: deploy it everywhere first"
        return Refusal("not_everywhere", text, {"processes": list(without)})

    return guard
