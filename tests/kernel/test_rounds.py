"""What a round of a repeat leaves to others: its results, and the events that came too late for it."""

from __future__ import annotations

from orchestrator import Command, Context, Event, Key, Reply, Saga, repeat, scope, step, when
from orchestrator.testing import arrived, given, replied


class Go(Event, name="rounds.Go"):
    id: Key[str]


class Again(Event, name="rounds.Again"):
    id: Key[str]


class Asked(Reply, name="rounds.Asked"):
    n: int


class Ask(Command[Asked], to="a", name="rounds.Ask"):
    id: str


class Tell(Command[Asked], to="b", name="rounds.Tell"):
    n: str


@step(undo=None)
def ask(go: Go) -> Ask:
    return Ask(id=go.id)


@step(undo=None)
def also(go: Go) -> Ask:
    return Ask(id=go.id)


@step(undo=None)
def tell(ask: Asked | None) -> Tell:
    return Tell(n=str(ask.n) if ask else "none")


def first_round(context: Context) -> bool:
    return context.iteration[-1] == 0


def test_outside_a_repeat_a_result_is_that_of_the_last_round_also_where_it_made_none() -> None:
    """An older round's answer must not pass for the last one's (authoring rule 5)."""
    saga = Saga(
        "last", version=1, starts_on=Go, flow=[repeat(when(first_round, ask), at_most=2).named("r").otherwise(), tell]
    )
    spec = given(saga, Go(id="1")).when(replied(ask, Asked(n=1)))
    command = spec.state.activities["tell"].command
    assert command is not None
    assert command["body"] == {"n": "none"}


def repeated(*, early: bool) -> Saga[Go]:
    """Two rounds of a part that an event interrupts."""
    part = scope(ask, also).named("part").on_event(Again, early=early)
    return Saga("again", version=1, starts_on=Go, flow=[repeat(part, at_most=2).named("r").otherwise(), tell])


def test_an_event_too_late_for_one_round_does_not_interrupt_the_next_where_the_author_says_so() -> None:
    """S9: with a key shared by rounds, early=False counts only what arrives after the entry."""
    spec = given(repeated(early=False), Go(id="1"), replied(ask, Asked(n=1), at=0), replied(also, Asked(n=1), at=0))
    waits = spec.state.activities["r[1]/part"].wants
    assert [wanted["from"] for wanted in waits] == [spec.state.activities["r[1]/part/ask"].requested_at]
    spec.when(arrived(Again(id="1")))
    assert spec.state.activities["r[1]/part"].result_type == "rounds.Again"


def test_an_early_event_counts_from_before_the_start_where_the_author_says_nothing() -> None:
    """The window begins `early_age` before the saga's start."""
    spec = given(repeated(early=True), Go(id="1"))
    assert spec.state.activities["r[0]/part"].wants[0]["from"] < spec.state.started_at
