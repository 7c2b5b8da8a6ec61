"""When a text of staff says what a saga holds of a person, and when it only uses words that anybody uses."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from orchestrator.messages import Event, Key, Personal
from orchestrator.vault.marks import marked_names
from orchestrator.vault.repeating import says

LONG = "She said that nobody has come for days, and that the stairs are broken as well as the door."


class Home(BaseModel):
    """Marks nothing itself."""

    street: str


class Known(Event, name="vault.Known"):
    """Somebody, and where they live."""

    case: Key[str]
    who: Personal[str]
    home: Personal[Home]
    friends: tuple[Home, ...] = ()
    tags: tuple[Personal[str], ...] = ()


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ("Anna Ek asked", "Anna Ek", True),
        ("mrs ek-lund asked", "Anna Ek", False),
        ("ANNABEL asked", "Annabel Quatermain", True),
        ("quatermains are many", "Annabel Quatermain", False),
        ("lane is closed", "7 Rosebud lane", False),
        ("see CUST-1.", "CUST-1", True),
        ("see CUST-12", "CUST-1", False),
        ("a.b+c@d.example wrote", "a.b+c@d.example", True),
        ("we go to Li", "Li", False),
        ("nobody has come", LONG, False),
    ],
)  # fmt: skip
def test_a_text_says_a_value_where_its_words_do(text: str, value: str, found: bool) -> None:
    """The whole value, or a word of a name; not what merely begins alike, and not everyday words."""
    assert says(text.casefold(), value) is found


def test_names_of_marked_fields_are_those_under_which_values_are_sealed() -> None:
    """Also of what lies inside a marked model, and of a list whose items are marked."""
    assert marked_names(Known) == {"who", "home", "street", "tags"}
