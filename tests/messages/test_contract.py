"""Contracts: names, keys, amounts, upcasters, errors that name contract and field."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from orchestrator.messages import (
    Approval,
    Command,
    ContractError,
    Decision,
    Done,
    Event,
    Form,
    Key,
    Person,
    Personal,
    Refused,
    Registry,
    Reply,
    Role,
    UnknownTypeError,
    Verdict,
)


class Paid(Reply):
    """A reply."""

    receipt: str


class Pay(Command[Paid], to="bank"):
    """A command with an amount."""

    account: str
    amount: Decimal
    note: str | None = None


class OrderPlaced(Event):
    """An event with a key."""

    order_id: Key[str]
    customer: Personal[str] = ""
    total: Decimal | None = None


class LineAdded(Event):
    """An event with two keys."""

    order_id: Key[str]
    line: Key[int]


def test_a_wire_name_is_the_context_and_the_class() -> None:
    """What other languages see."""
    assert OrderPlaced.wire_name == "test_contract.OrderPlaced"
    assert (OrderPlaced.wire_version, OrderPlaced.context) == (1, "test_contract")


def test_a_wire_name_can_be_said() -> None:
    """Class names may change, wire names may not."""

    class Renamed(Event, name="shop.OrderPlaced", version=3):
        """Another class name."""

        order_id: Key[str]

    assert (Renamed.wire_name, Renamed.wire_version, Renamed.context) == ("shop.OrderPlaced", 3, "shop")


def test_a_command_names_its_participant_and_its_reply() -> None:
    """class HoldFunds(Command[FundsHeld], to="accounts")."""
    assert (Pay.participant, Pay.reply_type) == ("bank", Paid)

    class Tell(Command[Done], to="desk"):
        """The plain yes."""

    assert (Tell.participant, Tell.reply_type) == ("desk", Done)


def test_a_command_without_participant_may_start_a_saga() -> None:
    """Child sagas start on commands."""

    class Begin(Command[Paid]):
        """Starts something."""

        id: Key[str]

    assert Begin.participant == ""
    assert Begin(id="x").key() == "x"


def test_the_business_key_is_marked() -> None:
    """Routing, start ids and wait matching follow it."""
    assert OrderPlaced(order_id="o-1").key() == "o-1"
    assert LineAdded(order_id="o-1", line=2).key() == "o-1|2"
    assert LineAdded.key_of("o-1", 2) == "o-1|2"


def test_a_key_of_the_wrong_number_of_values_is_refused() -> None:
    """wait_for(match=) builds keys by hand."""
    with pytest.raises(ContractError, match="2 key values expected, 1 given"):
        LineAdded.key_of("o-1")


def test_an_event_without_a_key_cannot_be_routed() -> None:
    """The text says what to write."""

    class Keyless(Event):
        """Nothing marked."""

        text: str

    with pytest.raises(ContractError, match="mark one with Key"):
        Keyless(text="x").key()


def test_fields_about_persons_are_known() -> None:
    """Personal[...] is recognised everywhere."""
    assert OrderPlaced.personal_fields == {"customer"}
    assert OrderPlaced.key_fields == ("order_id",)


@pytest.mark.parametrize("raw", ["12.50", 12.5, 0.1, 100, 1234567890123.45, 10**18])
def test_an_amount_is_read_from_its_text(raw: Any) -> None:
    """Rule 33: a JSON number for a decimal field."""
    assert Pay.from_plain({"account": "a", "amount": raw}).amount == Decimal(str(raw))


def test_an_amount_that_a_parser_has_rounded_is_refused() -> None:
    """Rule 33: beyond 15 significant digits; `12345678901234567.89` became `12345678901234568`."""
    with pytest.raises(ContractError, match="send the amount as a string"):
        Pay.from_bytes(b'{"account": "a", "amount": 12345678901234567.89}')
    with pytest.raises(ContractError, match="send the amount as a string"):
        Pay.from_bytes(b'{"account": "a", "amount": 12345678901234567}')
    exact = Pay.from_bytes(b'{"account": "a", "amount": "12345678901234567.89"}')
    assert exact.amount == Decimal("12345678901234567.89")


def test_an_optional_amount_is_guarded_too() -> None:
    """Decimal | None."""
    with pytest.raises(ContractError, match="as a string"):
        OrderPlaced.from_plain({"order_id": "o", "total": 0.1234567890123456})
    assert OrderPlaced.from_plain({"order_id": "o", "total": 0.5}).total == Decimal("0.5")


class Line(Reply):
    """Part of another contract."""

    price: Decimal


class Part(BaseModel):
    """Part that is no contract."""

    price: Decimal
    weights: tuple[float, ...] = ()


class Basket(Reply):
    """Amounts inside containers."""

    prices: list[Decimal]
    lines: tuple[Line, ...] = ()
    parts: list[Part] | None = None
    by_name: dict[str, Decimal | None] = Field(default_factory=dict)
    pair: tuple[Decimal, float] | None = None


ROUNDED = 0.1234567890123456


@pytest.mark.parametrize(
    "more",
    [
        {"prices": [ROUNDED]},
        {"lines": [{"price": ROUNDED}]},
        {"parts": [{"price": 1}, {"price": ROUNDED}]},
        {"by_name": {"a": ROUNDED}},
        {"pair": [ROUNDED, 1.0]},
    ],
)
def test_amounts_inside_lists_and_parts_are_guarded_too(more: dict[str, Any]) -> None:
    """Rule 33: at any depth."""
    with pytest.raises(ContractError, match="as a string"):
        Basket.from_plain({"prices": [], **more})


def test_numbers_that_are_not_amounts_are_left_alone() -> None:
    """A score may have all its digits."""
    basket = Basket.from_plain({"prices": [0.1], "pair": [0.1, ROUNDED], "parts": [{"price": 2, "weights": [ROUNDED]}]})
    assert basket.prices == [Decimal("0.1")]
    assert basket.pair == (Decimal("0.1"), ROUNDED)
    assert basket.parts == [Part(price=Decimal(2), weights=(ROUNDED,))]


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_amount_is_refused(raw: str) -> None:
    """Rule 33."""
    with pytest.raises(ContractError):
        Pay.from_plain({"account": "a", "amount": raw})


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_a_message_survives_its_bytes(amount: Decimal) -> None:
    """What is sent is what is read."""
    sent = Pay(account="a", amount=amount)
    assert Pay.from_bytes(sent.canonical()) == sent
    assert Pay.from_plain(sent.plain()).canonical() == sent.canonical()


def test_equal_messages_have_equal_bytes() -> None:
    """Rule 3 of the kernel depends on it."""
    one, other = Pay(account="a", amount=Decimal("1.0")), Pay(account="a", amount=Decimal("1.00"))
    assert one.canonical() == other.canonical() == b'{"account":"a","amount":"1","note":null}'


def test_a_message_is_frozen() -> None:
    """A fact does not change."""
    with pytest.raises(ValueError, match="frozen"):
        Paid(receipt="r").receipt = "other"  # type: ignore[misc]


def test_unknown_fields_are_dropped() -> None:
    """A newer sender may say more."""
    assert Paid.from_plain({"receipt": "r", "more": 1}) == Paid(receipt="r")


def test_data_that_does_not_fit_names_contract_and_field_and_not_the_value() -> None:
    """Values may be personal."""
    with pytest.raises(ContractError) as error:
        Pay.from_plain({"account": 7, "amount": "secret"})
    assert "test_contract.Pay" in str(error.value)
    assert "account" in str(error.value)
    assert "amount" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[]", b"1", b"null", b'"x"', b"NaN"])
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    """A dead letter, not a crash."""
    with pytest.raises(ContractError):
        Paid.from_bytes(raw)


class Grown(Event, version=3):
    """Version 3: two names became one."""

    id: Key[str]
    name: str


@Grown.upcast(1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"id": data["id"], "first": data["first"], "last": ""}


@Grown.upcast(2)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"id": data["id"], "name": f"{data['first']} {data['last']}".strip()}


def test_older_versions_are_upcast_on_read() -> None:
    """Step by step."""
    assert Grown.from_plain({"id": "1", "first": "Ann"}, version=1).name == "Ann"
    assert Grown.from_plain({"id": "1", "first": "Ann", "last": "Lee"}, version=2).name == "Ann Lee"
    assert Grown.from_plain({"id": "1", "name": "Ann"}).name == "Ann"


def test_an_older_version_without_upcaster_is_refused() -> None:
    """The text names both versions."""

    class Gapped(Event, version=2):
        """No upcaster."""

        id: Key[str]

    with pytest.raises(ContractError, match="no upcaster from version 1 to 2"):
        Gapped.from_plain({"id": "1"}, version=1)


def test_an_upcaster_of_one_contract_is_not_inherited_by_another() -> None:
    """Each class has its own."""

    class Child(Grown, name="other.Child", version=2):
        """A subclass."""

    with pytest.raises(ContractError, match="no upcaster"):
        Child.from_plain({"id": "1"}, version=1)


class Colour(Enum):
    """Outcomes of a form."""

    RED = "red"
    BLUE = "blue"


class Paint(Form[Colour]):
    """A form of our own."""

    layers: int = 1


def test_a_form_states_its_outcome() -> None:
    """What a person fills in."""
    assert Paint(outcome=Colour.RED).plain() == {"layers": 1, "outcome": "red"}
    assert Paint.from_plain({"outcome": "blue"}).outcome is Colour.BLUE
    with pytest.raises(ContractError):
        Paint.from_plain({"outcome": "green"})


def test_a_plain_approval_approves_or_rejects() -> None:
    """The default form."""
    decision = Decision(answer=Approval(outcome=Verdict.APPROVE), by=Person("max"), at=datetime(2026, 1, 1, tzinfo=UTC))
    assert decision.outcome is Verdict.APPROVE
    raw = {"answer": {"outcome": "reject"}, "by": {"id": "m"}, "at": "2026-01-01T00:00:00Z"}
    assert Decision.model_validate(raw).outcome is Verdict.REJECT


def test_people_are_written_by_one_word() -> None:
    """Person("max"), Role("desk")."""
    assert Person("max").model_dump() == {"id": "max"}
    assert Role("desk").model_dump() == {"name": "desk"}


def test_a_business_no_has_a_code_and_perhaps_a_detail() -> None:
    """raise Refused("out_of_stock", "only 2 left")."""
    assert Refused("out_of_stock").reason == "out_of_stock"
    assert Refused("out_of_stock", "only 2 left").reason == "out_of_stock: only 2 left"


def test_a_registry_finds_contracts_by_wire_name() -> None:
    """And says what it does not know."""
    registry = Registry([Pay, Pay, Paid])
    assert registry.get("test_contract.Pay") is Pay
    assert "test_contract.Paid" in registry
    assert set(registry) == {Pay, Paid}
    with pytest.raises(UnknownTypeError, match=r"test_contract\.Nothing"):
        registry.get("test_contract.Nothing")


def test_two_contracts_of_one_name_are_refused() -> None:
    """What other languages see must mean one thing."""

    class Other(Reply, name="test_contract.Paid"):
        """The same wire name."""

    with pytest.raises(ContractError, match="two contracts are called"):
        Registry([Paid, Other])


def test_a_choice_of_literals_is_kept() -> None:
    """Literals are texts on the wire."""

    class Sized(Reply):
        """A literal."""

        size: Literal["s", "l"]

    assert Sized.from_plain({"size": "s"}).plain() == {"size": "s"}
    with pytest.raises(ContractError):
        Sized.from_plain({"size": "m"})
