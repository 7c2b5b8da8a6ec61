"""The registry: wire name to contract class.

A contract registers where a saga, a participant or a route uses it, so importing a module has no hidden effect and two
test modules may declare classes of one name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.messages.contract import Contract, ContractError


class UnknownTypeError(KeyError):
    """No contract is registered under this wire name."""

    def __str__(self) -> str:
        return str(self.args[0])


class Registry:
    """Contracts by wire name. Raises ContractError when two different classes claim one name."""

    def __init__(self, contracts: Iterable[type[Contract]] = ()) -> None:
        self._by_name: dict[str, type[Contract]] = {}
        for contract in contracts:
            self.add(contract)

    def add(self, contract: type[Contract]) -> None:
        """Registers a contract; the same class twice is fine."""
        other = self._by_name.setdefault(contract.wire_name, contract)
        if other is not contract:
            raise ContractError(
                f"two contracts are called {contract.wire_name}: {other.__module__}.{other.__qualname__} and "
                f"{contract.__module__}.{contract.__qualname__}; give one of them another name="
            )

    def get(self, wire_name: str) -> type[Contract]:
        """The contract of this wire name. Raises UnknownTypeError listing the nearest names."""
        found = self._by_name.get(wire_name)
        if found is None:
            raise UnknownTypeError(f"unknown type {wire_name!r}: no registered saga uses it")
        return found

    def __contains__(self, wire_name: str) -> bool:
        return wire_name in self._by_name

    def __iter__(self) -> Iterator[type[Contract]]:
        return iter(self._by_name.values())
