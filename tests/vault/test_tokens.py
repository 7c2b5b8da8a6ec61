"""Sealed values: they open where they belong, and nowhere else."""

from __future__ import annotations

import secrets

import pytest

from orchestrator.messages.personal import PREFIX, TOKEN, is_sealed, key_ids, pseudonym
from orchestrator.vault.tokens import DataKey, SealedError, event_scope, field_name, saga_scope

RAW = bytes(range(32))
KEY = DataKey("AAAAAAAAAAAAAAAA", "main", RAW)
HERE, THERE = saga_scope("saga-1"), saga_scope("saga-2")
CANARY = "Zoë Quatermain, 7 Rosebud Lane"


def test_a_sealed_value_opens_where_it_belongs_and_shows_nothing() -> None:
    """The text comes back; its sealed form has nothing of it, and is found in any other text."""
    token = KEY.seal(CANARY, HERE, "address")
    assert KEY.open(token, HERE) == KEY.open(token) == CANARY
    assert is_sealed(token)
    assert "Rosebud" not in token
    assert key_ids(f'{{"a": "{token}", "b": 1}}') == {KEY.key_id}
    assert pseudonym(token) == KEY.key_id
    assert pseudonym("CUST00012") == "CUST00012"
    assert not token.count(" ")


def test_the_same_value_in_the_same_place_is_the_same_text() -> None:
    """Deciding again gives the same records; another place or another value gives another text."""
    one = KEY.seal(CANARY, HERE, "address")
    assert one == DataKey(KEY.key_id, "main", RAW).seal(CANARY, HERE, "address")
    others = {
        KEY.seal(CANARY, THERE, "address"),
        KEY.seal(CANARY, HERE, "name"),
        KEY.seal(CANARY + ".", HERE, "address"),
        DataKey(KEY.key_id, "other", RAW).seal(CANARY, HERE, "address"),
    }
    assert len(others | {one}) == 5
    assert len({TOKEN.fullmatch(token)[4][:16] for token in others | {one}}) == 5, "each has a nonce of its own"  # type: ignore[index]


@pytest.mark.parametrize(
    "move",
    [
        lambda token: token.replace(HERE, THERE),
        lambda token: token.replace(":address:", ":account:"),
        lambda token: token[:-2] + ("A." if token[-2] != "A" else "E."),
        lambda token: (
            token[: len(token) // 2] + ("A" if token[len(token) // 2] != "A" else "B") + token[len(token) // 2 + 1 :]
        ),
    ],
    ids=["another saga", "another field", "its last bits", "one bit in the middle"],
)
def test_a_value_that_was_moved_or_altered_does_not_open(move: object) -> None:
    """Associated data holds saga and field: a swapped beneficiary is an error, not a payment."""
    token = KEY.seal(CANARY, HERE, "address")
    assert callable(move)
    with pytest.raises(SealedError):
        KEY.open(move(token))


def test_a_value_of_another_tenant_key_or_saga_does_not_open() -> None:
    """The same id of a key elsewhere is no way in."""
    token = KEY.seal(CANARY, HERE, "address")
    with pytest.raises(SealedError, match="altered or moved"):
        DataKey(KEY.key_id, "other", RAW).open(token)
    with pytest.raises(SealedError, match="altered or moved"):
        DataKey(KEY.key_id, "main", secrets.token_bytes(32)).open(token)
    with pytest.raises(SealedError, match="no value sealed under this key"):
        DataKey("BBBBBBBBBBBBBBBB", "main", RAW).open(token)
    with pytest.raises(SealedError, match="belongs to another saga"):
        KEY.open(token, THERE)


def test_the_key_of_one_saga_opens_and_seals_for_that_saga_alone() -> None:
    """Whoever is lent it gets what is of that saga; with it nobody comes to the subject's key, or another saga's."""
    lent = KEY.scoped(HERE)
    assert lent.open(KEY.seal(CANARY, HERE, "address"), HERE) == CANARY
    assert KEY.open(lent.seal(CANARY, HERE, "address")) == CANARY
    assert lent.seal(CANARY, HERE, "address") == KEY.seal(CANARY, HERE, "address")
    with pytest.raises(SealedError):
        lent.open(KEY.seal(CANARY, THERE, "address"))
    with pytest.raises(SealedError, match="one saga alone"):
        lent.seal(CANARY, THERE, "address")
    assert len({KEY.raw, lent.raw, KEY.scoped(THERE).raw, DataKey(KEY.key_id, "main", lent.raw).scoped(HERE).raw}) == 4


def test_a_value_from_before_scopes_had_keys_still_opens() -> None:
    """Records are for ever: this one was written by the version before."""
    token = (
        "personal:v1:AAAAAAAAAAAAAAAA:9c342b5089f90f74:address:AeNpZVN1GycDO17dRm"
        "xISlEWV9Zt2v3fEOJ5eFS6IoJefFHMu5IHHjwmKeLdj8siCFiazLv7fokanLc."
    )
    assert KEY.open(token, HERE) == CANARY
    with pytest.raises(SealedError):
        KEY.open(token.replace(":address:", ":account:"))
    with pytest.raises(SealedError):
        KEY.scoped(HERE).open(token)


def test_scopes_and_odd_names_are_told_apart() -> None:
    """An event's scope is no saga's, and a name that would break the form is hashed."""
    assert event_scope("orders.OrderPlaced", "o-1") != saga_scope("o-1")
    assert field_name("address") == "address"
    assert TOKEN.fullmatch(KEY.seal("x", HERE, "a:b c")) is not None
    assert PREFIX not in field_name(PREFIX)
