"""What other languages are told about our messages is what the code says."""

from __future__ import annotations

import inspect
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from events.orders import OrderLine, OrderPlaced
from orchestrator.messages import Command, Done, Event, Key, Personal, Reply
from orchestrator.messages.schemas import asyncapi, contract_schema, contracts_of, differences, generated, write

ROOT = Path(__file__).parents[2]
PACKAGE, SAGAS = "events", ["sagas"]
COMMAND = "python -m orchestrator.messages.schemas events sagas"


class Counted(Reply, name="stockroom.Counted"):
    """How many."""

    pieces: int


class Count(Command[Counted], to="stockroom", name="stockroom.Count"):
    """Count the pieces."""

    shelf: str


class Seen(Event, name="stockroom.Seen", version=3):
    """Somebody saw something."""

    shelf: Key[str]
    who: Personal[str]
    worth: Decimal
    at: datetime


def test_what_is_committed_is_what_the_code_says() -> None:
    found = differences(PACKAGE, SAGAS, ROOT / PACKAGE)
    assert not found, "\n".join([*found, f"write them anew: {COMMAND}"])


def test_every_contract_has_a_schema_and_nothing_else_is_there() -> None:
    """A schema of an older version stays; one of a contract that is gone does not."""
    names = {contract.wire_name for contract in contracts_of(PACKAGE)}
    on_disk = {path.name.rpartition(".v")[0] for path in (ROOT / PACKAGE / "schemas").iterdir()}
    assert on_disk == names


@pytest.mark.parametrize("contract", contracts_of(PACKAGE), ids=lambda contract: contract.wire_name)
def test_every_contract_says_what_it_means(contract: Any) -> None:
    assert contract.__doc__
    assert inspect.cleandoc(contract.__doc__) == contract_schema(contract)["description"]


def test_drift_is_found(tmp_path: Path) -> None:
    """The test above must fail when a field is added and nobody writes the files anew."""
    write(PACKAGE, [], tmp_path)
    assert differences(PACKAGE, [], tmp_path) == []
    changed = tmp_path / "schemas" / "orders.OrderPlaced.v1.json"
    schema = orjson.loads(changed.read_bytes())
    del schema["properties"]["address"]
    changed.write_bytes(orjson.dumps(schema))
    (tmp_path / "asyncapi.json").unlink()
    assert [text.rpartition("/")[2] for text in differences(PACKAGE, [], tmp_path)] == [
        "orders.OrderPlaced.v1.json is not what the code says",
        "asyncapi.json is missing",
    ]
    assert sorted(path.name for path in write(PACKAGE, [], tmp_path)) == ["asyncapi.json", "orders.OrderPlaced.v1.json"]


def test_a_schema_says_what_is_on_the_wire() -> None:
    schema = contract_schema(Seen)
    assert schema["$id"] == "urn:contract:stockroom.Seen:3"
    assert schema["properties"]["shelf"]["x-business-key"] is True
    assert schema["properties"]["who"]["x-personal"] is True
    assert schema["properties"]["worth"]["type"] == "string"
    assert schema["properties"]["at"] == {"format": "date-time", "title": "At", "type": "string"}
    line = contract_schema(OrderPlaced)["$defs"]["OrderLine"]["properties"]["unit_price"]
    assert line["pattern"] == r"^-?\d+(\.\d{1,2})?$"
    assert line["description"] == "value > 0"
    assert OrderLine.model_fields["unit_price"].annotation is Decimal


def test_a_command_says_where_its_answer_comes_and_an_event_which_way_it_goes() -> None:
    document = asyncapi([Count, Seen], frozenset())
    operation = document["operations"]["send.stockroom.Count"]
    assert operation["channel"] == {"$ref": "#/channels/stockroom.commands"}
    assert operation["reply"] == {
        "channel": {"$ref": "#/channels/stockroom.replies"},
        "messages": [{"$ref": "#/channels/stockroom.replies/messages/stockroom.Counted"}],
    }
    assert document["operations"]["receive.stockroom.Seen"]["action"] == "receive"
    assert document["components"]["messages"]["stockroom.Seen"]["bindings"]["kafka"]["key"]["description"] == "shelf"
    sent = asyncapi([Seen], frozenset({"stockroom.Seen"}))
    assert list(sent["operations"]) == ["send.stockroom.Seen"]


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = orjson.loads(generated(PACKAGE, SAGAS)["asyncapi.json"])
    missing = [ref for ref in _references(document) if not _leads(document, ref)]
    assert missing == []
    assert document["asyncapi"] == "3.1.0"
    assert Done.wire_name in document["components"]["messages"]


def test_what_sagas_publish_is_sent_and_the_rest_received() -> None:
    operations = orjson.loads(generated(PACKAGE, SAGAS)["asyncapi.json"])["operations"]
    events = {name for name in operations if ".Order" in name and "ShipOrder" not in name}
    assert events == {
        "receive.orders.OrderPlaced",
        "receive.orders.OrderCancelled",
        "send.orders.OrderConfirmed",
        "send.orders.OrderFailed",
    }


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for item in value.values() for ref in _references(item)]
    return [ref for item in value for ref in _references(item)] if isinstance(value, list) else []


def _leads(document: Any, reference: str) -> bool:
    """References inside a payload are to its own definitions."""
    if reference.startswith("#/definitions/"):
        name = reference.rpartition("/")[2]
        return any(
            name in message["payload"].get("definitions", {}) for message in document["components"]["messages"].values()
        )
    found = document
    for part in reference.removeprefix("#/").split("/"):
        if part not in found:
            return False
        found = found[part]
    return True
