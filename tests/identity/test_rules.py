"""The table of actions: who may, by capacity; what is not in it, nobody may."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from orchestrator.api.views import Actor
from orchestrator.identity.amounts import amounts
from orchestrator.identity.guard import ACTION_OF_INPUT, ACTION_OF_START, ACTIVATE, START, guard_of
from orchestrator.identity.rules import (
    ACTIONS,
    API_KEY,
    CAPACITIES,
    LEND,
    PUBLIC,
    SIGNED_IN,
    Thing,
    authorise,
    may,
    objects_of,
)
from orchestrator.kernel.inputs import Arrived, Cancel, Start, Vote
from orchestrator.kernel.state import Activity, State, TaskState

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
NOW_US = int(NOW.timestamp() * 1_000_000)

# Who may what, spelled out a second time: a change of the table must be meant.
EXPECTED = {
    "viewer": "own saga.read task.read definition.read levels.read office.use",
    "approver": "own task.read task.decide task.work definition.read levels.read office.use",
    "operator": "own saga.start saga.read saga.cancel saga.operate task.read task.reassign letter.read letter.redrive "
    "notice.read notice.send contact.manage subject.read subject.erase "
    "event.publish definition.read definition.activate audit.verify levels.read metrics.read "
    "office.use",
    "auditor": "own saga.read task.read letter.read notice.read definition.read audit.read audit.export audit.verify "
    "levels.read metrics.read office.use security.read subject.read",
    "admin": "own contact.manage definition.read definition.activate office.use security.read key.manage user.manage "
    "subject.read subject.erase",
    "service": "own saga.start saga.read saga.cancel event.publish definition.read levels.read metrics.read key.lend",
}


def actor(*capacities: str, roles: tuple[str, ...] = (), authentication: str = "session") -> Actor:
    """Somebody with these capacities."""
    return Actor("ada", roles, authentication, capacities=frozenset(capacities), authenticated_at=NOW)


@pytest.mark.parametrize("capacity", sorted(CAPACITIES))
def test_a_capacity_lets_do_what_its_list_says_and_nothing_else(capacity: str) -> None:
    """Every action is asked for every capacity alone."""
    allowed = {action for action in ACTIONS if action != PUBLIC and authorise(actor(capacity), action) is None}
    assert allowed == set(EXPECTED[capacity].split())


def test_whoever_has_no_capacity_may_only_what_is_public() -> None:
    """Known by name is not enough for anything."""
    assert [action for action in ACTIONS if authorise(actor(), action) is None] == [PUBLIC]


def test_what_is_not_in_the_table_may_nobody() -> None:
    """Deny by default, whatever capacities somebody has."""
    refused = authorise(actor(*CAPACITIES), "saga.erase")
    assert refused is not None
    assert refused.code == "not_allowed"


def test_a_key_is_no_person_whatever_its_capacities() -> None:
    """Nobody gets past four eyes with a key that they own."""
    key = actor(*CAPACITIES, authentication=API_KEY)
    assert {action for action, rule in ACTIONS.items() if rule.person} == {
        action for action in ACTIONS if action != PUBLIC and authorise(key, action) is not None
    }


def test_a_key_for_one_action_may_only_that() -> None:
    """A scope narrows; it never adds what the capacity does not have."""
    key = replace(actor("service", authentication=API_KEY), actions=frozenset({"event.publish", "audit.export"}))
    assert [action for action in ACTIONS if action != PUBLIC and may(key, action)] == ["event.publish"]


def test_a_key_that_lends_says_to_whom() -> None:
    """One that names nobody is lent nothing; a name opens no other action, and means nothing behind another one."""
    named = frozenset(
        {"key.lend:visits", "key.lend:letters/post.Send", "event.publish:visits", "key.lend:", "key.lend"}
    )
    key = replace(actor("service", authentication=API_KEY), actions=named)
    assert [action for action in ACTIONS if action != PUBLIC and may(key, action)] == ["key.lend"]
    assert objects_of(key, LEND) == {"visits", "letters/post.Send"}
    assert objects_of(actor(*CAPACITIES), LEND) == frozenset()
    assert not may(replace(key, actions=frozenset({"key.lending:visits"})), LEND)


@pytest.mark.parametrize("action", sorted(set(ACTIONS) - {PUBLIC}))
def test_what_belongs_to_another_tenant_is_not_there(action: str) -> None:
    """In the words of what does not exist, for everybody and before anything else is said."""
    for capacities in (CAPACITIES, frozenset[str]()):
        refused = authorise(actor(*capacities), action, Thing("other", "saga", "s-1"))
        assert refused is not None
        assert (refused.code, refused.text) == ("not_found", "There is no saga 's-1'.")


@pytest.mark.parametrize(
    ("roles", "involved", "seen"),
    [
        (("finance",), (), True),
        (("finance,admin",), (), False),  # a group's name is taken whole
        (("fin\u0430nce",), (), False),  # a Cyrillic letter that looks the same
        (("Finance",), (), False),
        (("risk",), (), False),
        (("risk",), ("ada",), True),
    ],
)
def test_an_approver_sees_what_is_asked_of_them(roles: tuple[str, ...], involved: tuple[str, ...], seen: bool) -> None:
    """Groups are compared letter by letter; who took part goes on seeing it; those who oversee see all."""
    thing = Thing("main", "task", "t-1", asked=frozenset({"role:finance"}), involved=frozenset(involved))
    refused = authorise(actor("approver", roles=roles), "task.read", thing)
    assert (refused is None) == seen
    assert authorise(actor("approver", "viewer", roles=("risk",)), "task.read", thing) is None


def test_own_is_for_whoever_has_a_capacity() -> None:
    """Somebody whom no rule gives anything has nothing of their own here."""
    assert all(may(actor(capacity), SIGNED_IN) for capacity in CAPACITIES)
    assert not may(actor(), SIGNED_IN)


# --- the guard inside the write ---------------------------------------------------------------------------------------


def state(shown: object) -> State:
    """A saga with one open task."""
    task = TaskState(shown, "", "h", 1, [], [], ["approve"], [], 1, 0, [])
    found = State()
    found.activities["sign"] = Activity("task", "open", 1, task=task)
    return found


def vote(minutes: int = 0) -> Vote:
    """A vote that many minutes after the sign-in."""
    received = NOW_US + minutes * 60_000_000
    return Vote("sign", "ada", (), {"outcome": "approve"}, "h", received)


def test_the_guard_answers_for_the_saga_that_was_loaded() -> None:
    """Its tenant is the stored one, whatever a path said."""
    guard = guard_of(actor("operator"))
    assert guard(Cancel("ada", "no"), "s", "main", state({})) is None
    refusal = guard(Cancel("ada", "no"), "s", "other", state({}))
    assert refusal is not None
    assert refusal.code == "not_found"


def test_the_guard_refuses_an_input_that_names_no_action() -> None:
    """No person may send what a broker sends."""
    refusal = guard_of(actor(*CAPACITIES))(Arrived("x", "k", {}, "e", 0), "s", "main", state({}))
    assert refusal is not None
    assert refusal.code == "not_allowed"


def test_a_start_is_asked_by_the_action_of_its_route() -> None:
    """Inside the write, like everything else; of another tenant nobody starts anything."""
    start = Start("s", "main", "k", "x.Started", {})
    for starts, capacity, tenant, code in (
        (START, "service", "main", ""),
        (START, "viewer", "main", "not_allowed"),
        (START, "service", "other", "not_found"),
        ("own", "viewer", "main", ""),
        ("own", "", "main", "not_allowed"),
        ("misspelt", "admin", "main", "not_allowed"),
    ):
        refusal = guard_of(actor(*filter(None, [capacity])), starts=starts)(start, "s", tenant, None)
        assert (refusal.code if refusal else "") == code, (starts, capacity)


def test_nobody_writes_the_evidence_of_an_activation_themselves() -> None:
    """Not by the route that starts any saga, whatever they may: only the route that makes it begins that saga."""
    start = Start("s", "main", "order", "orchestrator.ActivateDefinition", {})
    for starts, code in ((START, "not_allowed"), (SIGNED_IN, "not_allowed"), (ACTIVATE, "")):
        refusal = guard_of(actor(*CAPACITIES), starts=starts)(start, "s", "main", None)
        assert (refusal.code if refusal else "") == code, starts


def test_every_action_of_an_input_is_in_the_table() -> None:
    """A misspelt one would refuse everybody."""
    assert {*ACTION_OF_INPUT.values(), *ACTION_OF_START.values()} <= set(ACTIONS)


@pytest.mark.parametrize(
    ("shown", "minutes", "code"),
    [
        ({"amount": "99.99", "currency": "EUR"}, 60, ""),
        ({"amount": "100", "currency": "EUR"}, 4, ""),
        ({"amount": "100", "currency": "EUR"}, 6, "reauth"),
        ({"payment": [{"amount": "-250.00", "currency": "EUR"}]}, 6, "reauth"),
        ({"dispute_amount": 4250, "currency": "EUR"}, 6, "reauth"),
        ({"amount": "999", "currency": "INR"}, 6, ""),
        ({"amount": "1000", "currency": "INR"}, 6, "reauth"),
        ({"amount": "many", "currency": "EUR"}, 6, "reauth"),
        ({"lines": [{"text": "x"}] * 30_000}, 6, "reauth"),  # nobody hides an amount behind a heap of others
    ],
)
def test_a_large_amount_takes_a_recent_sign_in(shown: object, minutes: int, code: str) -> None:
    """Five minutes, by the instant when the request came; currencies are never converted."""
    somebody = replace(actor("approver"), fresh_above=(("EUR", Decimal(100)), ("*", Decimal(1000))))
    refusal = guard_of(somebody)(vote(minutes), "s", "main", state(shown))
    assert (refusal.code if refusal is not None else "") == code


def test_what_the_definition_measures_counts_too() -> None:
    """Also where what is shown does not call it an amount."""
    saga = state({"total": "a lot"})
    task = saga.activities["sign"].task
    assert task is not None
    somebody = replace(actor("approver"), fresh_above=(("EUR", Decimal(100)),))
    assert guard_of(somebody)(vote(6), "s", "main", saga) is None
    task.amount = {"amount": "5000", "currency": "EUR"}
    refusal = guard_of(somebody)(vote(6), "s", "main", saga)
    assert refusal is not None
    assert refusal.code == "reauth"


def test_who_cannot_say_when_they_signed_in_is_not_fresh() -> None:
    """Unknown is not recent."""
    somebody = replace(actor("approver"), authenticated_at=None, fresh_above=(("*", Decimal(1)),))
    refusal = guard_of(somebody)(vote(), "s", "main", state({"amount": "5"}))
    assert refusal is not None
    assert refusal.code == "reauth"


def test_an_amount_without_a_currency_is_held_against_the_lowest_limit() -> None:
    """Where no limit is for every other currency, it would else be as small as nothing."""
    somebody = replace(actor("approver"), fresh_above=(("INR", Decimal(5000)), ("EUR", Decimal(100))))
    for shown, code in (
        ({"fee_amount": 99}, ""),
        ({"fee_amount": 100}, "reauth"),
        ({"amount": 9, "currency": "GBP"}, ""),
    ):
        refusal = guard_of(somebody)(vote(6), "s", "main", state(shown))
        assert (refusal.code if refusal else "") == code, shown


def test_amounts_are_found_wherever_they_stand() -> None:
    """Also in lists; other numbers are not amounts."""
    shown = {"lines": [{"amount": "1.50", "currency": "EUR"}, {"fee_amount": 2}], "rate": "9.5", "accountant": "7"}
    assert set(amounts(shown)) == {("EUR", Decimal("1.50")), ("", Decimal(2))}
    assert timedelta(minutes=5).seconds == 300


LARGE = Decimal("Infinity")


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        ({"amount": {"value": "5000", "currency": "EUR"}}, {("EUR", Decimal(5000))}),
        ({"amount": {"units": 50, "nanos": 0}, "currency": "EUR"}, {("EUR", Decimal(50)), ("EUR", Decimal(0))}),
        ({"transferAmount": 5000.5}, {("", Decimal("5000.5"))}),
        ({"amountMinor": 500_000}, {("", Decimal(500_000))}),
        ({"amount": "1e6"}, {("", Decimal(1_000_000))}),
        ({"amount": "5.000,00", "currency": "EUR"}, {("EUR", Decimal(5000))}),
        ({"amount": "1.500", "currency": "EUR"}, {("EUR", Decimal(1500))}),
        ({"amount": "50,00,000.00"}, {("", Decimal(5_000_000))}),
        ({"amount": "NaN"}, {("", LARGE)}),
        ({"amount": "Infinity"}, {("", LARGE)}),
        ({"amount": "five thousand"}, {("", LARGE)}),
        ({"amount": ["10", "5000"]}, {("", Decimal(10)), ("", Decimal(5000))}),
        ({"amount": None}, set()),
        ({"total": "5,000.00 EUR"}, {("EUR", Decimal(5000))}),
        ({"note": "EUR 5000"}, {("EUR", Decimal(5000))}),
        ({"total": "€5000"}, {("EUR", Decimal(5000))}),
        ({"total": "$5000"}, {("", Decimal(5000))}),
        ({"total": 5000, "currency": "EUR"}, {("EUR", Decimal(5000))}),
        ({"total": "5000.00", "currency": "EUR"}, {("EUR", Decimal("5000.00"))}),
        ({"account": "12345678", "currency": "EUR"}, set()),
        ({"key": "PAY-100234", "invoice": "INV 20261123", "code": "TRF88"}, set()),
        ({"rate": "9.5", "name": "amountless", "paramount": True, "text": "see page 12"}, set()),
    ],
)
def test_an_amount_is_found_in_an_odd_shape_too(shown: object, found: set[tuple[str, Decimal]]) -> None:
    """Nobody passes the question by writing an amount otherwise; what cannot be read is large."""
    assert set(amounts(shown)) == found


def test_a_task_with_limits_whose_amount_nobody_can_tell_takes_a_recent_sign_in() -> None:
    """Unknown is not small; without limits nothing says that it is about money at all."""
    saga = state({"text": "as agreed"})
    task = saga.activities["sign"].task
    assert task is not None
    somebody = replace(actor("approver"), fresh_above=(("EUR", Decimal(100)),))
    assert guard_of(somebody)(vote(6), "s", "main", saga) is None
    task.limits = [{"role": "board"}]
    assert guard_of(somebody)(vote(4), "s", "main", saga) is None
    refusal = guard_of(somebody)(vote(6), "s", "main", saga)
    assert refusal is not None
    assert refusal.code == "reauth"
