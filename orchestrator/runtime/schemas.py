"""Keeps the JSON Schemas of installed definitions in the database, so that they outlive the code."""

from __future__ import annotations

from typing import Any

from pydantic.errors import PydanticUserError

from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.contract import Contract
from orchestrator.messages.schemas import contract_schema
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.schemas import ContractSchemas, StoredSchema


async def keep_schemas(catalog: Catalog, kept: ContractSchemas) -> None:
    """Stores the schemas of every installed definition that has none yet. Raises StoreError."""
    for (name, version), saga in catalog.sagas.items():
        if not await kept.are_there(name, version):
            contracts = {contract.wire_name: contract for contract in saga.contracts}
            await kept.keep(name, version, [_stored(contracts[key]) for key in sorted(contracts)])


def _stored(contract: type[Contract]) -> StoredSchema:
    try:
        schema: dict[str, Any] = contract_schema(contract)
    except PydanticUserError as error:  # a type of the author's that JSON Schema cannot say: no reason not to start
        schema = {"title": contract.__name__, "$comment": f"no JSON Schema can be made of it: {error.code}"}
    return StoredSchema(contract.wire_name, contract.wire_version, canonical_bytes(schema))
