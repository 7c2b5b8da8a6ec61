"""An example of a contract, made from its own schema: for a first try, for documentation, for `emit --example`.

Declared examples and defaults win. Key fields get a new value each time, so that a second example is another event.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.messages.contract import Contract

_TEXTS: Mapping[str, Callable[[], str]] = {
    "date-time": lambda: datetime.now(UTC).isoformat(),
    "date": lambda: datetime.now(UTC).date().isoformat(),
    "time": lambda: "12:00:00",
    "duration": lambda: "PT1H",
    "email": lambda: "someone@example.org",
    "uuid": lambda: str(uuid.uuid4()),
    "uri": lambda: "https://example.org/",
}


def example_of(contract: type[Contract]) -> dict[str, Any]:
    """Plain JSON data that fits the contract. Raises ContractError where none can be made from the schema."""
    schema = contract.model_json_schema(by_alias=True)
    made = _value(schema, schema.get("$defs", {}), "")
    for name in contract.key_fields:
        if schema["properties"][name].get("type") == "string":
            made[name] = f"example-{uuid.uuid4().hex[:8]}"
    return contract.from_plain(made).plain()


def _value(schema: Mapping[str, Any], defs: Mapping[str, Any], name: str) -> Any:
    """One value that fits a schema."""
    if "$ref" in schema:
        return _value(defs[schema["$ref"].rpartition("/")[2]], defs, name)
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("default") is not None:
        return schema["default"]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return _value(_best(schema[choice]), defs, name)
    return _by_type(schema, defs, name)


def _best(choices: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A decimal offers number and text: a number reads better. Null is the last resort."""
    real = [choice for choice in choices if choice.get("type") != "null"]
    return real[0] if real else choices[0]


def _by_type(schema: Mapping[str, Any], defs: Mapping[str, Any], name: str) -> Any:
    kind = schema.get("type")
    if kind == "object":
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = set(schema.get("required", ()))
        return {key: _value(part, defs, key) for key, part in properties.items() if key in required}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [_value(schema.get("items", {"type": "string"}), defs, name) for _ in range(count)]
    if kind in ("integer", "number"):
        return _number(schema)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    make = _TEXTS.get(str(schema.get("format", "")))
    text = make() if make else (name.replace("_", " ") or "example")
    return text.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 10_000))]


def _number(schema: Mapping[str, Any]) -> int:
    """A whole number within the bounds, 100 where it may be chosen freely."""
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum", 10**6) - 1)
    return int(max(least, min(100, most)))
