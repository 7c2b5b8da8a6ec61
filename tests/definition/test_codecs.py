"""Codecs: what a saga records, it can read again, and two processes record the same bytes."""

# mypy: disable-error-code=empty-body

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from pydantic import BaseModel, ValidationError

from orchestrator import Approval, Person, Role, compute
from tests.definition.claims import claims
from tests.definition.world import Mood, ask, note, saga


class Money(NamedTuple):
    amount: Decimal
    currency: str


class Terms(BaseModel):
    wait: timedelta
    limit: Decimal


@pytest.mark.parametrize(
    ("hint", "value", "stored"),
    [
        (Terms, Terms(wait=timedelta(hours=1), limit=Decimal("1.50")), {"wait": "PT1H", "limit": "1.5"}),
        (Money, Money(Decimal("2.0"), "EUR"), ["2", "EUR"]),
        (Mood, Mood.SAD, "sad"),
        (list[int], [1, 2], [1, 2]),
        (int | None, None, None),
    ],
)
def test_a_computed_value_survives_being_recorded(hint: object, value: object, stored: object) -> None:
    def made() -> object: ...

    made.__annotations__["return"] = hint
    codec = saga(compute(made), note).program.codecs["made"]
    assert codec.dump(value) == stored
    assert codec.load(stored) == value


def test_every_codec_that_a_function_names_is_there() -> None:
    for function in claims.program.functions.values():
        assert not function.returns or function.returns in claims.program.codecs
        for found in function.params:
            assert all(source.codec in claims.program.codecs for source in found.sources)


def test_codecs_are_named_after_what_they_read() -> None:
    codecs = claims.program.codecs
    filed = codecs["start:claims.ClaimFiled"].load({"claim_id": "c", "customer": "x", "items": 2})
    assert filed.items == 2
    assert codecs["item:open_file.scope/items"].load({"number": 3}).number == 3
    items = claims.program.functions["open_file.scope/items#items"]
    assert items.returns == "items:open_file.scope/items"
    claim = codecs["claim"].load({"claim_id": "c", "customer": "x", "items": 2})
    assert codecs[items.returns].dump(items.call(claim=claim)) == [{"number": 0}, {"number": 1}]
    assert codecs["contract:claims.PayOut"].load({"claim_id": "c", "amount": 1}).amount == 1
    with pytest.raises(ValidationError):
        codecs["claim"].load({"claim_id": "c"})


def test_people_are_recorded_as_roles_and_persons() -> None:
    codec = claims.program.codecs["people"]
    assert codec.dump(Role("boss")) == [{"role": "boss"}]
    assert codec.dump([Person("maria"), Role("boss")]) == [{"person": "maria"}, {"role": "boss"}]
    assert codec.dump(None) == []
    assert codec.load([{"role": "boss"}, {"person": "maria"}]) == [Role("boss"), Person("maria")]


def test_a_decision_is_read_with_its_form() -> None:
    raw = {"answer": {"outcome": "approve", "reason": "ok"}, "by": {"id": "maria"}, "at": "2026-11-21T10:00:00.000000Z"}
    decision = saga(ask, note).program.codecs["ask"].load(raw)
    assert isinstance(decision.answer, Approval)
    assert (decision.by, decision.at.utcoffset()) == (Person("maria"), timedelta(0))
