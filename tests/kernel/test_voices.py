"""Rule 24, continued: substitutes, four eyes and limits. By whose right somebody decides, and how far it goes."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from orchestrator import Limit, Money, Person, Role, Saga, task
from orchestrator.kernel.api import advance
from orchestrator.kernel.inputs import Held, Vote
from orchestrator.testing import (
    APPROVE,
    REJECT,
    arrived,
    asked,
    decided,
    delegated,
    denied,
    elapsed,
    ended,
    given,
    opened,
    reassigned,
    stands_in,
    stuck,
)
from tests.kernel.trips import HOLD_CAR, WANTED, TripChanged, TripToApprove, TripWanted, customer, hold_car, of

DAY = timedelta(hours=24)
REQUESTER = "customer of t-1"


@task(to=[Role("desk"), Person("vera")], within=DAY, votes=2, exclude=[customer])
def agree(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
    """Two people agree."""
    return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")


@task(to=Role("desk"), within=DAY, exclude=[agree])
def confirm(wanted: TripWanted) -> TripToApprove:
    """Somebody else agrees."""
    return TripToApprove(trip=wanted.trip)


BOTH = Saga("voices_both", version=1, starts_on=TripWanted, flow=[agree.amend_on(TripChanged), confirm, hold_car])
CHANGED = arrived(TripChanged(trip="t-1", note="two beds"))


def votes(spec: Any) -> list[dict[str, Any]]:
    """What was recorded of the votes."""
    return [record.data["vote"] for record in of(spec, "task.voted")]


# --- substitutes ------------------------------------------------------------------------------------------------------


def test_a_substitute_decides_by_the_others_right_and_the_vote_says_so() -> None:
    """V21: by whom, for whom, with which roles, by which arrangement."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"))
    spec.when(decided(agree, APPROVE, by="eve", roles=("kitchen",))).then_nothing()
    [vote] = votes(spec)
    assert (vote["by"], vote["on_behalf_of"], vote["roles"]) == ("eve", "max", ["kitchen"])
    assert (vote["behalf_roles"], vote["stands_in"]) == (["desk"], "delegated")


def test_who_has_a_right_of_their_own_uses_that_first() -> None:
    """A substitute who is asked anyway votes as themselves, unless they say otherwise."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"), decided(agree, APPROVE, by="eve"))
    assert votes(spec)[0]["on_behalf_of"] == ""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"))
    spec.when(decided(agree, APPROVE, by="eve", on_behalf_of="max")).then_nothing()
    assert votes(spec)[0]["on_behalf_of"] == "max"


def test_nobody_stands_in_for_somebody_who_has_not_said_so() -> None:
    """A name in a request gives no right."""
    given(BOTH, WANTED).when(decided(agree, APPROVE, by="eve", roles=(), on_behalf_of="max")).then(
        denied("not_substitute")
    )


def test_who_says_for_themselves_uses_no_other_right() -> None:
    """A voter may name themselves: then nobody's right is used up by mistake."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"))
    spec.when(decided(agree, APPROVE, by="eve", roles=(), on_behalf_of="eve")).then(denied("not_eligible"))
    spec.when(decided(agree, APPROVE, by="eve", on_behalf_of="eve")).then_nothing()
    assert votes(spec)[0]["on_behalf_of"] == ""


def test_a_substitute_has_no_more_than_the_other_holds_still() -> None:
    """Of what was lent: what is lost is gone, what came later was not lent, and what nobody knows stays as it was."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"))
    task = spec.state.activities["agree"].task
    assert task is not None
    facts = "agree", "eve", (), {"outcome": "approve"}, task.hash, spec.world.clock

    def cast(*holds: Held) -> Any:
        return advance(BOTH.program, spec.state, Vote(*facts, holds=holds), spec.world.clock + 1)

    for roles in ((), ("kitchen",)):
        lost = cast(Held("mia", ("desk",)), Held("max", roles))
        assert (lost.refusal.code, lost.records) == ("not_eligible", [])
    held = cast(Held("max", ("desk", "board")))
    assert held.records[0].data["vote"]["behalf_roles"] == ["desk"]
    assert cast(Held("mia", ())).refusal is None


def test_a_delegation_ends_when_it_says() -> None:
    """Time-boxed, by the vote's receipt."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve", lasts=timedelta(hours=2)), elapsed(hours=1))
    spec.when(decided(agree, APPROVE, by="eve", roles=())).then_nothing()
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve", lasts=timedelta(hours=2)), elapsed(hours=2))
    spec.when(decided(agree, APPROVE, by="eve", roles=())).then(denied("not_eligible"))
    given(BOTH, WANTED).when(delegated(agree, by="max", to="eve", lasts=timedelta(0))).then(denied("invalid"))


def test_a_delegation_is_taken_back_or_replaced_by_who_gave_it() -> None:
    """One substitute of one person at a time."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"), delegated(agree, by="max", to=""))
    spec.when(decided(agree, APPROVE, by="eve", roles=())).then(denied("not_eligible"))
    spec.when(delegated(agree, by="max", to="eve"), delegated(agree, by="max", to="ida")).then_nothing()
    spec.when(decided(agree, APPROVE, by="eve", roles=())).then(denied("not_eligible"))
    spec.when(decided(agree, APPROVE, by="ida", roles=())).then_nothing()


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (delegated(agree, by=REQUESTER, to="eve"), "excluded"),
        (delegated(agree, by="max", to=REQUESTER), "excluded"),
        (delegated(agree, by="ann", roles=("kitchen",), to="eve"), "not_eligible"),
        (delegated(agree, by="max", to="max"), "invalid"),
    ],
)
def test_nobody_gives_what_they_have_not_nor_to_whom_is_excluded(act: Any, code: str) -> None:
    """C1: the requester does not approve by a delegate, and is nobody's delegate."""
    given(BOTH, WANTED).when(act).then(denied(code))


def test_a_substitute_names_no_substitute() -> None:
    """A borrowed right is not handed on."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"))
    spec.when(delegated(agree, by="eve", roles=(), to="ida")).then(denied("not_eligible"))


def test_a_substitute_gains_no_right_when_the_other_loses_theirs() -> None:
    """The task is given to others: whoever was asked before is not, nor is anybody for them."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"), reassigned(agree, by="olga", to=Person("ann")))
    spec.when(decided(agree, APPROVE, by="eve", roles=())).then(denied("not_eligible"))


def test_two_votes_are_two_people_however_they_are_cast() -> None:
    """Quorum of distinct people: not a person and their substitute, not a substitute twice."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"), decided(agree, APPROVE, by="max"))
    spec.when(decided(agree, APPROVE, by="eve", roles=())).then(denied("not_eligible"))
    spec.when(decided(agree, APPROVE, by="eve", roles=(), on_behalf_of="max")).then(denied("voted_already"))

    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"), decided(agree, APPROVE, by="eve", roles=()))
    spec.when(decided(agree, APPROVE, by="max")).then(denied("voted_already"))
    spec.when(decided(agree, APPROVE, by="eve", roles=("desk",))).then(denied("voted_already"))
    spec.when(delegated(agree, by="max", to="ida")).then(denied("voted_already"))

    spec = given(BOTH, WANTED, *(delegated(agree, by=by, to="eve") for by in ("max", "mia")))
    spec.when(decided(agree, APPROVE, by="eve", roles=(), on_behalf_of="max")).then_nothing()
    spec.when(decided(agree, APPROVE, by="eve", roles=(), on_behalf_of="mia")).then(denied("voted_already"))


def test_whoever_is_barred_lends_nothing_whatever_was_arranged_before() -> None:
    """Somebody left the bank in anger: their substitutes stop at once."""
    spec = given(BOTH, WANTED, delegated(agree, by="max", to="eve"))
    [row] = spec.world.main.tasks.values()
    facts = "agree", "eve", (), {"outcome": "approve"}, row.data["hash"], spec.world.clock + 1
    barred = advance(BOTH.program, spec.state, Vote(*facts, barred=("max",)), spec.world.clock + 1)
    assert barred.refusal is not None
    assert (barred.refusal.code, barred.records) == ("not_eligible", [])
    others = advance(BOTH.program, spec.state, Vote(*facts, barred=("mia",)), spec.world.clock + 1)
    assert others.refusal is None


def test_an_absence_gives_the_right_of_the_absent_and_no_more() -> None:
    """The rights that the absent person had, within its time, and never beyond four eyes."""
    away = [stands_in("max", "desk")]
    spec = given(BOTH, WANTED).when(decided(agree, APPROVE, by="eve", roles=(), stands_in=away)).then_nothing()
    assert (votes(spec)[0]["on_behalf_of"], votes(spec)[0]["stands_in"]) == ("max", "substitution 1")
    for stand_in, code in (
        (stands_in("max", "kitchen"), "not_eligible"),
        (stands_in("max", "desk", until=1), "not_eligible"),
        (stands_in(REQUESTER, "desk"), "not_eligible"),
    ):
        spec = given(BOTH, WANTED)
        spec.when(decided(agree, APPROVE, by="eve", roles=(), stands_in=[stand_in])).then(denied(code))
    named = decided(agree, APPROVE, by="eve", roles=(), on_behalf_of="vera", stands_in=[stands_in("vera")])
    given(BOTH, WANTED).when(named).then_nothing()


# --- four eyes --------------------------------------------------------------------------------------------------------


def test_a_voter_whose_vote_became_void_is_still_an_earlier_voter() -> None:
    """They have formed an opinion on this case: a second pair of eyes is somebody else's."""
    spec = given(BOTH, WANTED, decided(agree, APPROVE, by="max"), CHANGED)
    spec.when(decided(agree, APPROVE, by="mia"), decided(agree, APPROVE, by="ida")).then(opened(confirm))
    spec.when(decided(confirm, APPROVE, by="max")).then(denied("excluded"))
    spec.when(decided(confirm, APPROVE, by="ann")).then(asked(HOLD_CAR))


def test_who_was_stood_in_for_is_an_earlier_voter_too() -> None:
    """And so is who stood in."""
    spec = given(
        BOTH, WANTED, delegated(agree, by="max", to="eve"), decided(agree, APPROVE, by="eve", roles=()),
        decided(agree, APPROVE, by="mia"),
    )  # fmt: skip
    for name in ("max", "eve", "mia"):
        spec.when(decided(confirm, APPROVE, by=name, roles=("desk",))).then(denied("excluded"))
    spec.when(decided(confirm, APPROVE, by="ann", stands_in=[stands_in("max", "desk")], on_behalf_of="max")).then(
        denied("excluded")
    )
    spec.when(delegated(confirm, by="ann", to="max")).then(denied("excluded"))


def test_a_second_approval_says_its_place_and_who_is_out() -> None:
    """Position in the chain, for the page; and the inbox of an earlier voter does not show it."""
    spec = given(BOTH, WANTED)
    assert [row.data["chain"] for row in spec.world.main.tasks.values()] == [[1, 2]]
    spec.when(decided(agree, APPROVE, by="max"), decided(agree, APPROVE, by="mia")).then(opened(confirm))
    [row] = spec.world.main.tasks.values()
    assert (row.data["chain"], row.data["earlier"]) == ([2, 2], ["max", "mia"])


def test_an_amendment_that_names_somebody_new_excludes_them_too() -> None:
    """The beneficiary changes while the task is open: the new one may not decide either, nor may the old one."""

    def beneficiary(wanted: TripWanted, changed: TripChanged | None) -> Person:
        return Person(changed.note if changed else "ben")

    @task(to=Role("desk"), within=DAY, exclude=[beneficiary])
    def pay(wanted: TripWanted, changed: TripChanged | None) -> TripToApprove:
        return TripToApprove(trip=wanted.trip, note=changed.note if changed else "")

    saga = Saga("voices_changing", version=1, starts_on=TripWanted, flow=[pay.amend_on(TripChanged)])
    spec = given(saga, WANTED).when(decided(pay, APPROVE, by="ben")).then(denied("excluded"))
    spec = given(saga, WANTED, arrived(TripChanged(trip="t-1", note="eve")))
    for name in ("ben", "eve"):
        spec.when(decided(pay, APPROVE, by=name)).then(denied("excluded"))
    spec.when(decided(pay, APPROVE, by="max")).then(ended())


# --- limits of authority ----------------------------------------------------------------------------------------------


class Payment(BaseModel):
    """What is shown."""

    amount: Decimal
    currency: str = "INR"


def amount_of(shown: Payment) -> Money:
    """What limits are held against."""
    return Money(shown.amount, shown.currency)


LIMITS = [
    Limit(Role("desk"), Money("10000", "INR")),
    Limit(Role("desk"), Money("100", "EUR")),
    Limit(Role("lead"), Money("50000.50", "INR")),
    Limit(Person("vera"), Money("20000", "INR")),
    Limit(Role("board")),
]


def paying(amount: str, currency: str = "INR") -> Any:
    """A saga that asks for a payment, its task, and the start."""

    @task(to=[Role("desk"), Role("board")], within=DAY, amount=amount_of, limits=LIMITS)
    def pay(wanted: TripWanted, changed: TripChanged | None) -> Payment:
        return Payment(amount=Decimal(changed.note if changed else amount), currency=currency)

    return Saga(f"limits_{currency}", version=1, starts_on=TripWanted, flow=[pay.amend_on(TripChanged)]), pay


@pytest.mark.parametrize(
    ("amount", "currency", "who", "may"),
    [
        ("10000", "INR", {"by": "max", "roles": ("desk",)}, True),
        ("10000.00", "INR", {"by": "max", "roles": ("desk",)}, True),
        ("10000.01", "INR", {"by": "max", "roles": ("desk",)}, False),
        ("100", "EUR", {"by": "max", "roles": ("desk",)}, True),
        ("100.01", "EUR", {"by": "max", "roles": ("desk",)}, False),
        ("1", "USD", {"by": "max", "roles": ("desk",)}, False),
        ("50000.50", "INR", {"by": "max", "roles": ("desk", "lead")}, True),
        ("50000.51", "INR", {"by": "max", "roles": ("desk", "lead")}, False),
        ("20000", "INR", {"by": "vera", "roles": ("desk",)}, True),
        ("999999999999999999.99", "USD", {"by": "bo", "roles": ("board",)}, True),
    ],
)
def test_nobody_decides_above_their_limit_nor_in_a_currency_without_one(
    amount: str, currency: str, who: dict[str, Any], may: bool
) -> None:
    """The highest limit of a person's roles counts, in its own currency; nothing is converted."""
    saga, pay = paying(amount, currency)
    given(saga, WANTED).when(decided(pay, APPROVE, **who)).then(ended() if may else denied("over_limit"))


def test_the_refusal_names_the_limit_in_words_and_facts() -> None:
    """For people, and for pages."""
    saga, pay = paying("10000.01")
    refusal = decided(pay, APPROVE, by="max", roles=("desk",)).give(given(saga, WANTED).world)
    assert refusal is not None
    assert refusal.text == "10000.01 INR is above the limit of max, 10000 INR"
    assert refusal.facts == {"amount": "10000.01", "currency": "INR", "limit": "10000"}


def test_a_rejection_needs_the_authority_too() -> None:
    """Who may not decide, may not decide."""
    saga, pay = paying("10000.01")
    given(saga, WANTED).when(decided(pay, REJECT, by="max", roles=("desk",))).then(denied("over_limit"))


def test_a_substitutes_limit_is_that_of_whom_they_stand_in_for() -> None:
    """No right is gained: not the substitute's higher limit on the other's task, nor the other way round."""
    saga, pay = paying("30000")
    spec = given(saga, WANTED, delegated(pay, by="lea", roles=("desk", "lead"), to="eve"))
    spec.when(decided(pay, APPROVE, by="eve", roles=())).then(ended())
    spec = given(saga, WANTED, delegated(pay, by="max", roles=("desk",), to="eve"))
    spec.when(decided(pay, APPROVE, by="eve", roles=("lead",), on_behalf_of="max")).then(denied("over_limit"))


def test_an_amended_amount_is_measured_anew() -> None:
    """The limit holds for what is shown now."""
    saga, pay = paying("10000")
    spec = given(saga, WANTED, arrived(TripChanged(trip="t-1", note="10000.01")))
    spec.when(decided(pay, APPROVE, by="max", roles=("desk",))).then(denied("over_limit"))
    spec.when(decided(pay, APPROVE, by="lea", roles=("desk", "lead"))).then(ended())
    limit = of(spec, "task.voted")[0].data["vote"]
    assert (limit["amount"]["amount"], limit["limit"]["role"]) == ("10000.01", "lead")


def test_an_amount_that_cannot_be_read_opens_no_task() -> None:
    """The place is stuck with the reason, and goes on when the code is right."""

    @task(to=Role("desk"), within=DAY, amount=lambda shown: shown.trip, limits=[Limit(Role("desk"))])
    def pay(wanted: TripWanted) -> TripToApprove:
        return TripToApprove(trip=wanted.trip)

    saga = Saga("limits_wrong", version=1, starts_on=TripWanted, flow=[pay])
    given(saga, WANTED).then(stuck(pay, "function"))


@pytest.mark.parametrize("amount", [1.5, True, "-1", "NaN", "Infinity", "1e400", "x"])
def test_money_is_exact_and_not_negative(amount: Any) -> None:
    """A float has been rounded before anybody looked."""
    with pytest.raises((TypeError, ValidationError)):
        Money(amount, "INR")


@pytest.mark.parametrize("currency", ["inr", "Rs", "₹", "", "RUPEE"])
def test_money_names_its_currency_as_iso_does(currency: str) -> None:
    """So that two spellings never mean two limits."""
    with pytest.raises(ValidationError):
        Money("1", currency)
