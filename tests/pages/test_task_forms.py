"""Forms of tasks: from a pydantic model to fields, and from what was typed to what the model takes."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from orchestrator import Approval, Form
from orchestrator.pages.forms import fields_of, has_reason, read_form, reason_is_required


class Ruling(Enum):
    """Outcomes."""

    YES = "yes"
    NO = "no"


class Home(BaseModel):
    """A part of the form."""

    street: str
    number: int | None = None


class Rich(Form[Ruling]):
    """One field of every kind."""

    rationale: Annotated[str, Field(min_length=5, max_length=300, description="Why.")]
    refund: Annotated[Decimal | None, Field(ge=0)] = None
    count: Annotated[int, Field(ge=1, le=5)] = 3
    press: bool = False
    day: date | None = None
    moment: datetime | None = None
    kind: Literal["full", "part"] = "full"
    tags: list[str] = Field(default_factory=list)
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "ABC"
    home: Home


FIELDS = {field.path: field for field in fields_of(Rich.model_json_schema())}
GOOD = {
    "form.rationale": "looked at it", "form.refund": "12.50", "form.count": "4", "form.press": "true",
    "form.day": "2026-01-31", "form.moment": "2026-01-31T10:00", "form.kind": "part", "form.tags": "a\r\nb\r\n",
    "form.code": "XYZ", "form.home/street": "Main", "form.home/number": "7",
}  # fmt: skip


def test_every_property_has_a_field_of_its_kind() -> None:
    """Outcome and reason are the page's own."""
    assert {path: field.kind for path, field in FIELDS.items()} == {
        "rationale": "long", "refund": "decimal", "count": "integer", "press": "flag", "day": "date",
        "moment": "instant", "kind": "choice", "tags": "lines", "code": "text", "home/street": "text",
        "home/number": "integer",
    }  # fmt: skip
    assert [path for path, field in FIELDS.items() if field.required] == ["rationale", "home/street"]
    assert FIELDS["rationale"].hint == "Why."
    assert FIELDS["home/street"].group == "Home"
    assert (FIELDS["count"].default, FIELDS["kind"].default, FIELDS["refund"].default) == ("3", "full", "")


def test_what_was_typed_is_what_the_model_takes() -> None:
    """The page's JSON goes through the definition's own model."""
    data, wrong = read_form(tuple(FIELDS.values()), GOOD)
    assert wrong == []
    found = Rich.model_validate({**data, "outcome": "yes"})
    assert (found.refund, found.count, found.press, found.tags) == (Decimal("12.50"), 4, True, ["a", "b"])
    assert (found.home.street, found.home.number, found.day) == ("Main", 7, date(2026, 1, 31))


def test_what_is_left_empty_is_left_to_the_model() -> None:
    """Optional fields are not sent, so their defaults hold."""
    data, wrong = read_form(tuple(FIELDS.values()), {"form.rationale": "looked at it", "form.home/street": "Main"})
    assert wrong == []
    assert data == {"rationale": "looked at it", "press": False, "home": {"street": "Main"}}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("rationale", ""), ("rationale", "no"), ("rationale", "x" * 301), ("refund", "1.234,56"), ("refund", "-1"),
        ("refund", "12,50"), ("count", "400"), ("count", "1.5"), ("count", "4e1"), ("day", "31.01.2026"),
        ("moment", "noon"), ("kind", "other"), ("code", "abc"), ("home/street", "  "), ("home/number", "٣x"),
    ],
)  # fmt: skip
def test_what_does_not_fit_names_its_field(field: str, text: str) -> None:
    """One sentence, linked to the field; the rest is read all the same."""
    data, wrong = read_form(tuple(FIELDS.values()), {**GOOD, f"form.{field}": text})
    assert [each.id for each in wrong] == [FIELDS[field].id]
    assert wrong[0].text.startswith(FIELDS[field].label)
    assert data["tags"] == ["a", "b"]


def test_a_plain_approval_needs_no_field() -> None:
    """Outcome and reason alone."""
    schema = Approval.model_json_schema()
    assert fields_of(schema) == ()
    assert has_reason(schema)
    assert not reason_is_required(schema)


@pytest.mark.parametrize("schema", [None, {}, {"properties": {}}, {"properties": {"x": {"$ref": "#/$defs/gone"}}}, 5])
def test_a_strange_schema_does_not_stop_a_page(schema: object) -> None:
    """An old definition may hold anything."""
    read_form(fields_of(schema), {})
