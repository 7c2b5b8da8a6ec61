"""An example of a contract, made from its own schema: for a first try, for documentation, for `emit --example`.

Declared examples and defaults win. Key fields get a new value each time, so that a second example is another event;
except with `variation`, where the same number gives the same example: 0 the plain one, each other one a variety of it
(other declared examples, other members of an enum, the ends of a range, no value where none is needed).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
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
_SAME_TEXTS: Mapping[str, Callable[[], str]] = dict(_TEXTS) | {
    "date-time": lambda: "2026-01-01T00:00:00+00:00",
    "date": lambda: "2026-01-01",
    "uuid": lambda: "6f7e3c0a-5a0b-4d4e-9c56-3f7f0f2f9a11",
}
_FREE_NUMBERS = (100, 1, 1_000, 10_000)  # where a number may be chosen freely


def example_of(contract: type[Contract], *, variation: int | None = None) -> dict[str, Any]:
    """Plain JSON data that fits the contract. Raises ContractError where none can be made from the schema."""
    schema = contract.model_json_schema(by_alias=True)
    maker = _Maker(schema.get("$defs", {}), _TEXTS if variation is None else _SAME_TEXTS, variation or 0)
    made = maker.value(schema, "")
    for name in contract.key_fields:
        field = schema["properties"][name]
        if field.get("type") == "string" and "format" not in field:
            made[name] = f"example-{uuid.uuid4().hex[:8]}" if variation is None else "example-1"
    return contract.from_plain(made).plain()


class _Maker:
    """Makes one example. `variation` 0 takes the first of everything."""

    def __init__(self, defs: Mapping[str, Any], texts: Mapping[str, Callable[[], str]], variation: int) -> None:
        self._defs, self._texts = defs, texts
        self._random = Random(variation) if variation else None  # noqa: S311 - repeatable, not secret

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[0] if self._random is None else self._random.choice(choices)

    def value(self, schema: Mapping[str, Any], name: str) -> Any:
        """One value that fits a schema."""
        if "$ref" in schema:
            return self.value(self._defs[schema["$ref"].rpartition("/")[2]], name)
        if schema.get("examples"):
            return self._one(schema["examples"])
        if schema.get("default") is not None and (self._random is None or self._random.random() < 0.5):
            return schema["default"]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._one(schema["enum"])
        for choice in ("anyOf", "oneOf", "allOf"):
            if choice in schema:
                return self.value(self._best(schema[choice]), name)
        return self._by_type(schema, name)

    def _best(self, choices: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        """A decimal offers number and text: a number reads better. Null is the last resort."""
        real = [choice for choice in choices if choice.get("type") != "null"]
        if self._random is not None and len(real) < len(choices) and self._random.random() < 0.3:
            return {"type": "null"}
        return real[0] if real else choices[0]

    def _by_type(self, schema: Mapping[str, Any], name: str) -> Any:
        kind = schema.get("type")
        if kind == "object":
            properties: Mapping[str, Any] = schema.get("properties", {})
            required = set(schema.get("required", ()))
            return {key: self.value(part, key) for key, part in properties.items() if key in required}
        if kind == "array":
            count = max(1, int(schema.get("minItems", 1)))
            return [self.value(schema.get("items", {"type": "string"}), name) for _ in range(count)]
        if kind in ("integer", "number"):
            return self._number(schema)
        if kind == "boolean":
            return self._one((True, False))
        if kind == "null":
            return None
        make = self._texts.get(str(schema.get("format", "")))
        text = make() if make else (name.replace("_", " ") or "example")
        return text.ljust(int(schema.get("minLength", 0)), "x")[: int(schema.get("maxLength", 10_000))]

    def _number(self, schema: Mapping[str, Any]) -> int:
        """A whole number within the bounds, 100 where it may be chosen freely."""
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        most = schema.get("maximum", schema.get("exclusiveMaximum", 10**6) - 1)
        return int(max(least, min(self._one(_FREE_NUMBERS), most)))
