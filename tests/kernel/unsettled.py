"""Sagas whose outcomes nobody knows, for the rules of fences (13-15) and of evidence (15)."""

from __future__ import annotations

from orchestrator import Saga, end, pivot
from orchestrator.testing import Spec, cancelled, given, settling, stuck, unanswered
from tests.kernel.trips import ROOM, WANTED, CarHeld, TripWanted, charge, hold_car, hold_room, note, rate, send_ticket

TWO = Saga("unsettled_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
PIVOT = Saga("unsettled_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
WITH_NOTE = Saga("unsettled_note", version=1, starts_on=TripWanted, flow=[hold_room, note, hold_car])
READS = Saga("unsettled_reads", version=1, starts_on=TripWanted, flow=[hold_room, rate, hold_car])
BY_POST = Saga(
    "unsettled_post",
    version=1,
    starts_on=TripWanted,
    flow=[pivot(charge), send_ticket.on_exhausted(note).on_refused(end("refused"))],
)
DONE = CarHeld(car="C")


def unknown(saga: Saga[TripWanted] = TWO) -> Spec:
    """A saga whose last step of the flow has an outcome that nobody knows, with the place stuck."""
    spec = given(saga, WANTED, ROOM)
    return spec.when(cancelled("ann", "enough"), unanswered(hold_car)).then(settling(hold_car), stuck(hold_car))


ENOUGH = "cancelled by ann: enough"
