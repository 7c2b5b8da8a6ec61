"""What of a record is personal: what was marked, and whatever says it again."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from orchestrator.messages import Event, Key, Personal
from orchestrator.messages.personal import PREFIX, ErasedText, note_personal, sealing, written_form
from orchestrator.vault.marks import is_marked
from orchestrator.vault.sealer import Person, Sealer, harmless, opened
from orchestrator.vault.tokens import DataKey, saga_scope

KEY = DataKey("AAAAAAAAAAAAAAAA", "main", bytes(range(32)))


class Address(BaseModel):
    """A model that is no contract."""

    street: Personal[str]
    country: str = "NL"


class Moved(Event, name="vault.Moved"):
    """Somebody lives elsewhere now."""

    case: Key[str]
    who: Personal[str]
    homes: tuple[Address, ...] = ()


class Counted(Event, name="vault.Counted"):
    """Nothing about anybody."""

    case: Key[str]


def sealer(*values: str, subject: str = "") -> Sealer:
    made = Sealer(Person(KEY.key_id, subject), KEY, saga_scope("saga-1"))
    for value in values:
        made.note(value)
    return made


def plain(value: Any) -> Any:
    return opened(value, KEY.open)


def test_every_marked_field_tells_the_sealing_at_hand_also_deep_inside() -> None:
    """Read or made, a contract or a model inside one; outside a sealing nobody hears anything."""
    hears = sealer()
    with sealing(hears):
        Moved(case="c-1", who="Anna Ek", homes=(Address(street="7 Rosebud Lane"),))
        assert note_personal("Bo") == "Bo"
    Moved(case="c-2", who="Nobody Hears")
    assert hears.person.exact == {"Anna Ek", "7 Rosebud Lane", "Bo"}
    assert is_marked(Moved)
    assert not is_marked(Counted)


def test_whatever_says_a_personal_value_again_is_sealed_as_a_whole() -> None:
    """A sentence, a word of a name, other capitals; numbers, codes and what is nobody's stay."""
    seals = sealer("Anna Quatermain", "anna@home.example", "Li")
    data = {
        "value": {
            "line": "Dear Mrs QUATERMAIN, we wrote to anna@home.example.",
            "short": "Li",
            "longer": "Lisbon",
            "code": "out_of_stock",
            "amount": "12.50",
            "count": 2,
            "deep": [{"name": "anna quatermain"}],
        }
    }
    written = seals.record(data)["value"]
    assert plain(written) == data["value"]
    sealed = {name for name, value in written.items() if isinstance(value, str) and value.startswith(PREFIX)}
    assert sealed == {"line", "short"}
    assert written["deep"][0]["name"].startswith(PREFIX)


def test_what_steers_and_who_decides_stays_but_not_the_subject_themselves() -> None:
    """A staff member's id is evidence even where a contract marks it; the customer's own id is sealed there too."""
    seals = sealer("rosa", "CUST00012", "approve", subject="CUST00012")
    data = {
        "to": [{"person": "rosa"}],
        "excluded": ["CUST00012", "rosa"],
        "outcome": "approve",
        "vote": {"by": "rosa", "reason": "rosa says so", "answer": {"outcome": "approve"}},
        "activity": "rosa",
    }
    written = seals.record(data)
    assert written["to"] == [{"person": "rosa"}]
    assert written["excluded"][1] == "rosa"
    assert written["excluded"][0].startswith(PREFIX)
    assert written["vote"]["by"] == "rosa"
    assert written["vote"]["reason"].startswith(PREFIX)
    assert (written["outcome"], written["activity"]) == ("approve", "rosa")
    assert seals.actor("person:CUST00012") == f"person:{KEY.key_id}"
    assert seals.actor("person:rosa") == "person:rosa"


def test_what_a_person_was_shown_has_one_form_whatever_is_learned_later() -> None:
    """Its hash is over that form, so it must not change within a turn."""
    seals = sealer("Anna Ek")
    shown = {"name": "Anna Ek", "city": "Lund"}
    with sealing(seals):
        before = written_form(shown)
        seals.note("Lund")
        assert seals.record({"shown": dict(shown)})["shown"] == before
    assert before["city"] == "Lund"
    assert plain(before) == shown
    assert written_form(shown) is shown, "without a sealing a value is written as it is"


@pytest.mark.parametrize("value", ['He said "no"', "two\nlines", "tab\there", "Füße"])
def test_values_that_json_writes_otherwise_are_found_too(value: str) -> None:
    """The quick look at a record's bytes must not miss what is escaped there."""
    written = sealer(value).record({"text": f"about {value}!"})
    assert written["text"].startswith(PREFIX)
    assert plain(written)["text"] == f"about {value}!"


def test_a_part_of_a_long_text_is_sealed_like_the_whole() -> None:
    """A summary that is cut out of what somebody wrote is still theirs."""
    story = "The merchant took the card payment twice at the terminal, and my daughter had to walk home in the rain."
    written = sealer(story).record({"value": {"first": story[:60], "word": "merchant"}})
    assert written["value"]["first"].startswith(PREFIX)
    assert written["value"]["word"] == "merchant"


def test_a_text_that_only_looks_sealed_is_opened_once_and_no_further() -> None:
    """Nobody has another person's value opened by sending its sealed form in."""
    foreign = KEY.seal("a secret of somebody else", saga_scope("saga-2"), "name")
    written = sealer("Anna Ek").record({"text": foreign})
    assert plain(written)["text"] == foreign
    assert PREFIX not in orjson.dumps(harmless({"text": [f"see {foreign}"]})).decode()
    assert harmless({"text": "nothing"}) == {"text": "nothing"}


def test_what_was_erased_fits_a_marked_field_and_nothing_else_made_of_text_does() -> None:
    """A model that demands a form of its field still reads; a text of the same letters from outside does not pass."""

    class Strict(BaseModel):
        mail: Personal[str]
        size: Personal[int]

    gone = ErasedText("[erased under request ER-7, 1 March 2026]")
    assert str(Strict.model_validate({"mail": gone, "size": gone}).size) == gone
    with pytest.raises(ValueError, match="size"):
        Strict.model_validate({"mail": "x", "size": str(gone)})
