"""Rule 15: an effect that evidence had denied turns out to be done, where the flow still waits for it."""

from __future__ import annotations

from orchestrator import Saga, fail, pivot, step
from orchestrator.testing import (
    Spec,
    asked,
    compensated,
    given,
    operated,
    replied,
    settled_done,
    settling,
    stuck,
    unanswered,
)
from tests.kernel.trips import NOTE, ROOM, WANTED, Charged, Note, Noted, TripWanted, charge, hold_room, note, of


@step(undo=None)
def note_again() -> Note:
    return Note(trip="again")


AGAIN = Note(trip="again")


def denied_and_stuck(name: str) -> Spec:
    """On the path that only goes forward two people said that the note was not written: the place waits for a retry."""
    saga = Saga(name, version=1, starts_on=TripWanted, flow=[fail("no")], on_failed=[note, note_again])
    spec = given(saga, WANTED).when(unanswered(note)).then(stuck(note, "exhausted"))
    spec.when(operated("not_done", note)).then(settling(note))
    spec.when(unanswered(note)).then(stuck(note, "unknown"))
    return spec.when(
        operated("settle", note, by="ann", outcome="not_done"), operated("settle", note, by="bob", outcome="not_done")
    ).then(stuck(note, "exhausted"))


def test_what_the_flow_waits_for_is_done_when_its_effect_is_found() -> None:
    """Nobody has to put it right by hand, and control is not lost with the stuck place: the flow goes on."""
    spec = denied_and_stuck("found_waiting").when(settled_done(note, Noted())).then(asked(AGAIN))
    assert spec.state.stuck == {}
    spec.when(replied(note_again, Noted())).then(compensated("no"))


def test_after_a_retry_the_effect_is_found_under_the_later_round() -> None:
    """The later round carries the earlier key, so its answer is that of the effect."""
    spec = denied_and_stuck("found_retried").when(operated("retry", note)).then(asked(NOTE))
    spec.when(replied(note, Noted())).then(asked(AGAIN))
    assert of(spec, "effect.found") == []


def test_behind_the_pivot_the_flow_goes_on_too() -> None:
    """The same where nothing can be undone any more."""
    saga = Saga(
        "found_behind", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), note.on_exhausted(note_again)]
    )
    spec = given(saga, WANTED, ROOM, replied(charge, Charged(receipt="B"))).when(unanswered(note), unanswered(note))
    spec.when(
        operated("settle", note, by="ann", outcome="not_done"), operated("settle", note, by="bob", outcome="not_done")
    ).then(asked(AGAIN))
    spec.when(settled_done(note, Noted())).then(stuck(note, "effect_found"))
