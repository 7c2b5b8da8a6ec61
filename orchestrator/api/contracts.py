"""What is installed, as clients may read it: contracts with schema and example, and definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.api.problems import ProblemError
from orchestrator.messages import Command, Contract, ContractError, Event
from orchestrator.messages.examples import example_of
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.routing import TEXT_CHARACTERS_MAX


def named(catalog: Catalog, name: str) -> type[Contract]:
    """The contract of a wire name, or of a class name that only one has. Raises ProblemError saying which there are."""
    if name in catalog.registry:
        return catalog.registry.get(name)
    fitting = [contract for contract in catalog.registry if contract.__name__ == name]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(sorted(contract.wire_name for contract in fitting))
        raise ProblemError("bad_request", f"{name!r} could be {names}: give the whole name.")
    raise ProblemError("not_found", f"No installed saga uses a message type {name[:80]!r}.")


def kind_of(contract: type[Contract]) -> str:
    """event, command, or other."""
    return "event" if issubclass(contract, Event) else "command" if issubclass(contract, Command) else "other"


def listed(catalog: Catalog) -> Iterator[dict[str, Any]]:
    """All contracts, by name."""
    for contract in sorted(catalog.registry, key=lambda found: found.wire_name):
        starts = sorted(catalog.routes.starts.get(contract.wire_name, ()))
        yield {
            "type": contract.wire_name,
            "version": contract.wire_version,
            "kind": kind_of(contract),
            "starts": starts,
        }


def described(catalog: Catalog, name: str) -> dict[str, Any]:
    """One contract with its JSON Schema and an example (None where none can be made)."""
    contract = named(catalog, name)
    try:
        example: dict[str, Any] | None = example_of(contract)
    except (ContractError, KeyError, TypeError, ValueError):
        example = None
    return {
        "type": contract.wire_name,
        "version": contract.wire_version,
        "kind": kind_of(contract),
        "key": list(contract.key_fields),
        "schema": contract.model_json_schema(by_alias=True),
        "example": example,
    }


def definitions(catalog: Catalog) -> Iterator[dict[str, Any]]:
    """The installed sagas, every version."""
    for (name, version), saga in sorted(catalog.sagas.items()):
        yield {
            "name": name,
            "version": version,
            "newest": catalog.newest[name].version == version,
            "active": catalog.version_for_new(name) == version,
            "activation": "approval" if name in catalog.governed else "deploy",
            "hash": saga.graph.hash,
            "startsOn": list(saga.graph.starts_on),
        }


def checked_key(message: Event | Command[Any]) -> str:
    """The business key of a message. Raises ContractError for one that no index could hold, as intake would."""
    key = message.key()
    if len(key) > TEXT_CHARACTERS_MAX:
        raise ContractError(f"{message.wire_name}: the business key has more than {TEXT_CHARACTERS_MAX} characters")
    return key


def start_message(catalog: Catalog, name: str, given: Event | Command[Any] | Mapping[str, Any]) -> Event | Command[Any]:
    """The start message of a saga; plain data is read as the first of its start contracts that fits.

    Raises ProblemError `unknown_saga` or `invalid`.
    """
    saga = catalog.newest.get(name)
    if name in catalog.governed:  # what is active here and now; where it is written it is asked again
        saga = catalog.sagas.get((name, catalog.version_for_new(name)), saga)
    if saga is None:
        known = ", ".join(sorted(catalog.newest)) or "none"
        raise ProblemError("unknown_saga", f"No saga {name[:80]!r} is installed; there are: {known}.")
    if isinstance(given, Event | Command):
        if given.wire_name not in saga.graph.starts_on:
            raise ProblemError("invalid", f"Saga {name} starts on {saga.graph.starts_on}, not on {given.wire_name}.")
        return given
    reasons = []
    for type_ in saga.graph.starts_on:
        contract = catalog.registry.get(type_)
        try:
            message = contract.from_plain(given)
            if isinstance(message, Event | Command):
                checked_key(message)
                message.canonical()
                return message
        except ValueError as error:
            reasons.append(str(error))
    raise ProblemError("invalid", "; ".join(reasons) or f"Saga {name} starts on no message that HTTP can bring.")
