"""JSON Schemas and the AsyncAPI document of a package of contracts, generated from the code and committed beside it.

    python -m orchestrator.messages.schemas events sagas       # writes events/schemas/*.json and events/asyncapi.json

Rules of this file
- The code is the source; a test compares what is committed with what is generated and fails on drift (`differences`).
- A decimal is a string, as on the wire. `x-business-key` marks the routing key, `x-personal` a field about a person.
- Which events are sent and which are received is read off the sagas: what some saga publishes is sent.
Sources: JSON Schema 2020-12, AsyncAPI 3.1.0, AsyncAPI Kafka bindings 0.5.0, CloudEvents Kafka protocol binding.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from orchestrator.messages.contract import Command, Contract, Event
from orchestrator.messages.envelope import schema_urn
from orchestrator.messages.protocol import commands_topic, events_topic, replies_topic
from orchestrator.messages.words import Form

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI = "3.1.0"
KAFKA_BINDING = "0.5.0"
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE


class _WireSchema(GenerateJsonSchema):
    """JSON Schema of what is really on the wire."""

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        """A decimal: a string in normal form, with its bounds in words, since JSON Schema compares only numbers."""
        bounds = {name: schema[name] for name in ("gt", "ge", "lt", "le") if schema.get(name) is not None}
        signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
        found: JsonSchemaValue = {"type": "string", "format": "decimal", "pattern": _decimal_pattern(schema)}
        if bounds:
            found["description"] = "value " + " and ".join(f"{signs[name]} {bound}" for name, bound in bounds.items())
        return found


def _decimal_pattern(schema: Mapping[str, Any]) -> str:
    places = schema.get("decimal_places")
    fraction = rf"(\.\d{{1,{places}}})?" if places else (r"(\.\d+)?" if places is None else "")
    return rf"^-?\d+{fraction}$"


def contract_schema(contract: type[Contract]) -> dict[str, Any]:
    """The JSON Schema of one contract, by itself."""
    schema = contract.model_json_schema(schema_generator=_WireSchema, ref_template="#/$defs/{model}")
    properties = schema.get("properties", {})
    for names, mark in ((contract.key_fields, "x-business-key"), (contract.personal_fields, "x-personal")):
        for name in names:
            properties[name][mark] = True
    schema["$schema"] = DIALECT
    schema["$id"] = schema_urn(contract.wire_name, contract.wire_version)
    return schema


def contracts_of(package: str) -> list[type[Contract]]:
    """Every event, command and reply that the modules of a package define, by wire name."""
    found = {}
    for module in _modules(package):
        for value in vars(module).values():
            if not isinstance(value, type) or not issubclass(value, Contract) or value.__module__ != module.__name__:
                continue
            if not value.__pydantic_generic_metadata__["args"]:  # pydantic leaves Command[Reply] in the module too
                found[value.wire_name] = value
    return [found[name] for name in sorted(found)]


def published_by(packages: Iterable[str]) -> frozenset[str]:
    """Wire names of the events that the sagas of these packages publish. Whatever has a graph counts as a saga."""
    names = set()
    for package in packages:
        for module in _modules(package):
            for value in vars(module).values():
                nodes = getattr(getattr(value, "graph", None), "nodes", {})
                names |= {node.event for node in nodes.values() if node.kind == "publish"}
    return frozenset(names)


def asyncapi(contracts: Iterable[type[Contract]], published: frozenset[str]) -> dict[str, Any]:
    """The AsyncAPI document of these contracts, as the orchestrator sees them. `published`: events that it sends."""
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for contract in contracts:
        if issubclass(contract, Form):
            continue
        messages[contract.wire_name] = _message(contract)
        if issubclass(contract, Event):
            topic = events_topic(contract.context)
            action = "send" if contract.wire_name in published else "receive"
            name = f"{action}.{contract.wire_name}"
            operations[name] = _operation(action, _channel(channels, topic, contract), topic, contract)
        elif issubclass(contract, Command) and contract.participant:
            topic, answers = commands_topic(contract.participant), replies_topic(contract.participant)
            operation = _operation("send", _channel(channels, topic, contract), topic, contract)
            _channel(channels, answers, contract.reply_type)
            messages.setdefault(contract.reply_type.wire_name, _message(contract.reply_type))
            operation["reply"] = {
                "channel": {"$ref": f"#/channels/{answers}"},
                "messages": [{"$ref": f"#/channels/{answers}/messages/{contract.reply_type.wire_name}"}],
            }
            operations[f"send.{contract.wire_name}"] = operation
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Sagas: events, commands and replies",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 over Kafka, binary mode. `send` and `receive` are the orchestrator's.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{host}",
                "protocol": "kafka",
                "variables": {"host": {"default": "localhost:9092", "description": "bootstrap server"}},
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "messageTraits": _traits()},
    }


def _channel(channels: dict[str, Any], topic: str, contract: type[Contract]) -> str:
    bindings = {"kafka": {"topic": topic, "bindingVersion": KAFKA_BINDING}}
    channel = channels.setdefault(topic, {"address": topic, "messages": {}, "bindings": bindings})
    channel["messages"][contract.wire_name] = {"$ref": f"#/components/messages/{contract.wire_name}"}
    return topic


def _operation(action: str, channel: str, topic: str, contract: type[Contract]) -> dict[str, Any]:
    return {
        "action": action,
        "summary": (contract.__doc__ or contract.wire_name).strip().splitlines()[0],
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{topic}/messages/{contract.wire_name}"}],
    }


def _message(contract: type[Contract]) -> dict[str, Any]:
    kind = "event" if issubclass(contract, Event) else "command" if issubclass(contract, Command) else "reply"
    key = " and ".join(contract.key_fields) if kind == "event" else "saga id"
    return {
        "name": contract.wire_name,
        "title": contract.__name__,
        "contentType": "application/json",
        "payload": _draft_07(contract),
        "traits": [{"$ref": f"#/components/messageTraits/{kind}"}],
        "bindings": {
            "kafka": {"key": {"type": "string", "description": key or "none"}, "bindingVersion": KAFKA_BINDING}
        },
    }


def _draft_07(contract: type[Contract]) -> dict[str, Any]:
    """The schema as AsyncAPI's tools read it: what pydantic writes is the same in both drafts, but for the names."""
    schema = contract_schema(contract)
    del schema["$schema"], schema["$id"]
    text = orjson.dumps(schema).replace(b'"$defs"', b'"definitions"').replace(b"#/$defs/", b"#/definitions/")
    loaded: dict[str, Any] = orjson.loads(text)
    return loaded


def _traits() -> dict[str, Any]:
    """Header traits: what every message has, and what commands and replies have besides."""
    every = {
        "ce_specversion": "always 1.0",
        "ce_id": "with ce_source the identity of the message: a second one is a duplicate",
        "ce_source": "who sent it",
        "ce_type": "the contract's wire name",
        "ce_dataschema": "urn:contract:<wire name>:<version>",
        "ce_time": "RFC 3339, UTC",
        "ce_tenant": "whose it is",
        "traceparent": "W3C trace context of this hop",
    }
    asked = {
        "ce_correlationid": "the saga's id",
        "ce_activity": "the step",
        "ce_round": "whole number from 1",
        "ce_attempt": "whole number from 1",
        "ce_purpose": "do, undo, fence or fence_undo",
        "ce_idempotencykey": "the same for every attempt of a round",
    }
    commanded = asked | {
        "ce_undoes": "on an undo: the key that it takes back",
        "ce_earlier": "keys of earlier rounds, to be answered or refused first",
    }
    answered = asked | {
        "ce_causationid": "the id of the command",
        "ce_participant": "who answers",
        "ce_outcome": "ok, refused, error, not_done, in_doubt or never",
        "ce_until": "microseconds since 1970: when to ask again, if in doubt",
        "ce_donekey": "the key of the earlier round that was really done",
    }
    required = {"ce_specversion", "ce_id", "ce_source", "ce_type"}
    return {
        "event": _trait(every, required, "ce_id"),
        "command": _trait(every | commanded, required | set(asked), "ce_correlationid"),
        "reply": _trait(every | answered, required | set(asked) | {"ce_outcome"}, "ce_correlationid"),
    }


def _trait(headers: dict[str, str], required: set[str], correlation: str) -> dict[str, Any]:
    return {
        "headers": {
            "type": "object",
            "required": sorted(required),
            "properties": {name: {"type": "string", "description": text} for name, text in headers.items()},
        },
        "correlationId": {"location": f"$message.header#/{correlation}"},
    }


# --- files ------------------------------------------------------------------------------------------------------------


def generated(package: str, sagas: Iterable[str]) -> dict[str, bytes]:
    """File name (under the package's folder) to content."""
    contracts = contracts_of(package)
    files = {
        f"schemas/{contract.wire_name}.v{contract.wire_version}.json": orjson.dumps(
            contract_schema(contract), None, _OPTIONS
        )
        for contract in contracts
    }
    files["asyncapi.json"] = orjson.dumps(asyncapi(contracts, published_by(sagas)), None, _OPTIONS)
    return files


def differences(package: str, sagas: Iterable[str], folder: Path) -> list[str]:
    """What is committed and not as the code says, one sentence each. Schemas of older versions are not judged."""
    found = []
    for name, content in generated(package, sagas).items():
        path = folder / name
        if not path.exists():
            found.append(f"{path} is missing")
        elif path.read_bytes() != content:
            found.append(f"{path} is not what the code says")
    return found


def write(package: str, sagas: Iterable[str], folder: Path) -> list[Path]:
    """Writes what has changed; gives the files."""
    changed = []
    for name, content in generated(package, sagas).items():
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            changed.append(path)
    return changed


def _modules(package: str) -> Iterator[ModuleType]:
    module = importlib.import_module(package)
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        yield from _modules(f"{package}.{found.name}")


def main(arguments: list[str]) -> int:
    """Writes the files of a package of contracts: `<package> [<package of sagas> ...]`."""
    package, *sagas = arguments
    folder = Path(next(iter(importlib.import_module(package).__path__)))
    for path in write(package, sagas, folder):
        sys.stdout.write(f"wrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
